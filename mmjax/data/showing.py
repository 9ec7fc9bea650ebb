"""Describes a prepared data set: counts, examples and a contact sheet."""

import collections
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import contact_sheet, features, images, records, sources

_QUOTED_ROWS = 3
_MAX_HEIGHT = 1000  # Pixels of all drawings of a record.


def show(
  name: str,
  *,
  split: str | None = None,
  data_dir: str | os.PathLike | None = None,
  output: str | os.PathLike | None = None,
  rows: int = 24,
  fields: Mapping[str, str] | None = None,
) -> str:
  """Describes a prepared data set and writes a contact sheet of it.

  Args:
    name: name of the data set, as in `sources.open_source`.
    split: split of the contact sheet and the examples; by default the first.
    data_dir: folder of all data sets.
    output: file of the contact sheet; by default NAME-SPLIT.png in the current
      folder.
    rows: number of records on the contact sheet.
    fields: features of a data set that mmjax didn't write, as in
      `sources.open_source`.

  Returns:
    Several lines of text.
  """
  open_split = functools.partial(
    sources.open_source, name, data_dir=data_dir, fields=fields
  )
  probe = open_split(split or 'all')
  info = tfds.builder_from_directory(probe.folder).info
  splits = info.splits
  split = split or next(iter(splits))
  source = open_split(split)
  output = pathlib.Path(output or f'{name.replace("/", "-")}-{split}.png')
  descriptions, present = [], set()
  for split_name in splits:
    description, counts = _describe(open_split(split_name))
    descriptions.append(f'  {split_name}: {description}')
    present |= counts.keys()
  kinds = [
    f'{field} ({kind})'
    for field, kind in probe.kinds.items()
    if field in present
  ]
  lines = [f'{name} in {probe.folder}']
  lines += [f'  {line}' for line in info.description.splitlines()]
  lines.append(f'  fields: {", ".join(kinds)}')
  if names := source.list_metadata():
    lines.append(f'  metadata: {", ".join(names)}')
  lines += descriptions
  lines.append(f'first records of {split}:')
  for i in range(min(_QUOTED_ROWS, len(source))):
    lines += [
      f'  {line}' for line in _quote(source.read_small(i), source.kinds)
    ]
  sheet = _draw_sheet(source, f'{name}, {split}', rows)
  output.parent.mkdir(parents=True, exist_ok=True)
  sheet.save(output)
  lines.append(f'contact sheet: {output}')
  return '\n'.join(lines)


def _describe(source: sources.Source) -> tuple[str, collections.Counter]:
  """Describes a split in one line, and counts its records by field."""
  captions, words = 0, 0
  types = collections.Counter()
  counts = collections.Counter()
  for record in source:  # Images stay encoded.
    fields = record['fields']
    counts.update(fields.keys())
    texts = fields.get('captions') or ()
    captions += len(texts)
    words += sum(len(caption.split()) for caption in texts)
    types.update(entry['type'] for entry in fields.get('questions') or ())
  parts = [f'{len(source):,} records']
  if captions:
    parts.append(f'{captions:,} captions of {words / captions:.1f} words')
  if types:
    by_type = ', '.join(f'{kind} {n:,}' for kind, n in sorted(types.items()))
    parts.append(f'{types.total():,} questions ({by_type})')
  parts += [
    f'{counts[name]:,} with {name}'
    for name in source.kinds
    if (counts[name] and name not in records.STANDARD)
    or (name == 'image' and 0 < counts[name] < len(source))
  ]
  return '; '.join(parts), counts


def _quote(record: dict, kinds: Mapping[str, str]) -> Iterator[str]:
  yield record['id']
  for name, value in record['fields'].items():
    if name == 'captions':
      yield from (f'  caption: {caption}' for caption in value[:2])
    elif name == 'questions':
      for entry in value[:2]:
        yield f'  {entry["question"]} {", ".join(entry["answers"])}'
    else:
      _, lines = features.KINDS[kinds[name]].render(value)
      yield from (f'  {name}: {_get_text(line):.200}' for line in lines)
  if record['metadata']:
    fields = str(record['metadata'])
    yield f'  {fields if len(fields) < 100 else fields[:97] + "..."}'


def _draw_sheet(source: sources.Source, title: str, rows: int):
  # Spread over the split, since neighbours may be similar.
  count = min(rows, len(source))
  cells = []
  for i in np.linspace(0, len(source) - 1, count).astype(int):
    record = source[int(i)]
    cells.append(draw_record(record, source.kinds))
  return contact_sheet.render(cells, title=title, max_height=_MAX_HEIGHT)


def draw_record(
  record: records.Record, kinds: Mapping[str, str]
) -> contact_sheet.Cell:
  """Draws all fields of a record: images on top of each other, and texts.

  Args:
    record: a whole record.
    kinds: kind of each field.
  """
  drawings, lines = [], []
  for name, value in record['fields'].items():
    drawing, texts = features.KINDS[kinds[name]].render(value)
    is_standard = name in records.STANDARD
    if drawing is not None:
      drawings.append(drawing)
    if is_standard:
      lines += texts
    else:
      lines += [f'{name}: {_get_text(line)}' for line in texts]
  return _stack(drawings), lines


def _stack(drawings: Sequence[np.ndarray]) -> np.ndarray | None:
  """Puts drawings uint8 [H, W, 3] below each other, at one width."""
  if len(drawings) < 2:
    return drawings[0] if drawings else None
  width = max(drawing.shape[1] for drawing in drawings)
  rows = []
  for drawing in drawings:
    height = round(drawing.shape[0] * width / drawing.shape[1])
    rows.append(images.resize(drawing, (max(1, height), width), 'stretch'))
    rows.append(np.full((max(1, width // 40), width, 3), 255, np.uint8))
  return np.concatenate(rows[:-1])


def _get_text(line: contact_sheet.Line) -> str:
  return line if isinstance(line, str) else line[0]
