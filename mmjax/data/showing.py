"""What a prepared data set holds: counts, examples and a contact sheet."""

import collections
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import contact_sheet, images, sources

_ROWS_IN_TEXT = 3


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
    name: as in `sources.open_source`.
    split: which split to draw and quote; by default the first.
    data_dir: where data sets live.
    output: file of the contact sheet; by default NAME-SPLIT.png here.
    rows: how many records are drawn.
    fields: as in `sources.open_source`.

  Returns:
    Several lines of text.
  """
  opened = functools.partial(
    sources.open_source, name, data_dir=data_dir, fields=fields
  )
  probe = opened(split or 'all')
  splits = tfds.builder_from_directory(probe.folder).info.splits
  split = split or next(iter(splits))
  source = opened(split)
  output = pathlib.Path(output or f'{name.replace("/", "-")}-{split}.png')
  lines = [f'{name} in {probe.folder}']
  for each in splits:
    lines.append(f'  {each}: {_describe(opened(each))}')
  lines.append(f'first records of {split}:')
  for i in range(min(_ROWS_IN_TEXT, len(source))):
    lines += [f'  {line}' for line in _quote(source.read_texts(i))]
  sheet = _sheet(source, f'{name}, {split}', rows)
  output.parent.mkdir(parents=True, exist_ok=True)
  sheet.save(output)
  lines.append(f'pictures: {output}')
  return '\n'.join(lines)


def _describe(source: sources.Source) -> str:
  """One line: how many records, captions and questions, and of what kind."""
  captions, words = 0, 0
  types = collections.Counter()
  for record in source.texts():
    captions += len(record['captions'])
    words += sum(len(caption.split()) for caption in record['captions'])
    types.update(entry['type'] for entry in record['questions'])
  parts = [f'{len(source):,} records']
  if captions:
    parts.append(f'{captions:,} captions of {words / captions:.1f} words')
  if types:
    named = ', '.join(f'{kind} {n:,}' for kind, n in sorted(types.items()))
    parts.append(f'{types.total():,} questions ({named})')
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


def _sheet(source: sources.Source, title: str, rows: int):
  # Spread over the split, as neighbours may be alike.
  count = min(rows, len(source))
  cells = []
  for i in np.linspace(0, len(source) - 1, count).astype(int):
    record = source[int(i)]
    lines = list(record['captions'][:2])
    for entry in record['questions'][:2]:
      lines.append((entry['question'], contact_sheet.QUIET))
      lines.append(', '.join(entry['answers']))
    picture = images.decode(record['image']) if record['image'] else None
    cells.append((picture, lines))
  return contact_sheet.contact_sheet(cells, title=title)
