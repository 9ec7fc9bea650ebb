"""Describes a prepared data set: counts, examples and a contact sheet."""

import collections
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import contact_sheet, images, sources

_QUOTED_ROWS = 3


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
  splits = tfds.builder_from_directory(probe.folder).info.splits
  split = split or next(iter(splits))
  source = open_split(split)
  output = pathlib.Path(output or f'{name.replace("/", "-")}-{split}.png')
  lines = [f'{name} in {probe.folder}']
  for split_name in splits:
    lines.append(f'  {split_name}: {_describe(open_split(split_name))}')
  lines.append(f'first records of {split}:')
  for i in range(min(_QUOTED_ROWS, len(source))):
    lines += [f'  {line}' for line in _quote(source.read_texts(i))]
  sheet = _draw_sheet(source, f'{name}, {split}', rows)
  output.parent.mkdir(parents=True, exist_ok=True)
  sheet.save(output)
  lines.append(f'contact sheet: {output}')
  return '\n'.join(lines)


def _describe(source: sources.Source) -> str:
  """Describes a split in one line: numbers of records, captions, questions."""
  captions, words = 0, 0
  types = collections.Counter()
  for record in source.iterate_texts():
    captions += len(record['captions'])
    words += sum(len(caption.split()) for caption in record['captions'])
    types.update(entry['type'] for entry in record['questions'])
  parts = [f'{len(source):,} records']
  if captions:
    parts.append(f'{captions:,} captions of {words / captions:.1f} words')
  if types:
    counts = ', '.join(f'{kind} {n:,}' for kind, n in sorted(types.items()))
    parts.append(f'{types.total():,} questions ({counts})')
  return '; '.join(parts)


def _quote(record: dict) -> Iterator[str]:
  yield record['id']
  for caption in record['captions'][:2]:
    yield f'  caption: {caption}'
  for entry in record['questions'][:2]:
    yield f'  {entry["question"]} {", ".join(entry["answers"])}'
  if record['metadata']:
    fields = str(record['metadata'])
    yield f'  {fields if len(fields) < 100 else fields[:97] + "..."}'


def _draw_sheet(source: sources.Source, title: str, rows: int):
  # Spread over the split, since neighbours may be similar.
  count = min(rows, len(source))
  cells = []
  for i in np.linspace(0, len(source) - 1, count).astype(int):
    record = source[int(i)]
    lines = list(record['captions'][:2])
    for entry in record['questions'][:2]:
      lines.append((entry['question'], contact_sheet.QUIET))
      lines.append(', '.join(entry['answers']))
    image = images.decode(record['image']) if record['image'] else None
    cells.append((image, lines))
  return contact_sheet.draw(cells, title=title)
