"""Reads folders of images: one folder a class, or with a metadata file."""

import os
import pathlib
from collections.abc import Iterator, Sequence

from mmjax.data import (
  csv_files,
  image_rows,
  json_files,
  raw_records,
  split_names,
  webdataset,
)

_METADATA = {
  'metadata.csv': csv_files.read,
  'metadata.tsv': csv_files.read,
  'metadata.jsonl': json_files.read,
}


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The images below some folders.

  Where there are files `metadata.csv`, `metadata.tsv` or `metadata.jsonl`,
  their rows are read, which name the images beside them. Otherwise each image
  is captioned with the name of the folder it is in, `_` read as a space; it
  becomes the metadata field `label`. If all folders on top are named after
  splits, an image is of the split whose folder it is in.

  Raises:
    ValueError: a path is not a folder, or holds no image.
  """
  rows = image_rows.ImageRows(options)
  tables = {read: [] for read in _METADATA.values()}
  for root in paths:
    if not root.is_dir():
      raise ValueError(f'{root} is not a folder')
    found = {name: sorted(root.rglob(name)) for name in _METADATA}
    for name, files in found.items():
      tables[_METADATA[name]] += files
    if not any(found.values()):
      yield from _classes(root, rows)
  if all(tables.values()):
    raise ValueError(
      'there are metadata files of both kinds, CSV and JSONL; import the '
      'folders of each by themselves'
    )
  # All together, so that images of one name are told apart.
  for read_all, files in tables.items():
    yield from read_all(files, options)


def _classes(
  root: pathlib.Path, rows: image_rows.ImageRows
) -> Iterator[raw_records.RawRecord]:
  folders = [path for path in root.iterdir() if path.is_dir()]
  folders = [path for path in folders if not _is_hidden(path.name)]
  names = {path.name.lower() for path in folders}
  has_splits = bool(names) and names <= split_names.SPLITS.keys()
  count = 0
  for folder, below, files in os.walk(root):
    below[:] = sorted(name for name in below if not _is_hidden(name))
    parts = pathlib.Path(folder).relative_to(root).parts
    for file in sorted(files):
      ending = file.rpartition('.')[2].lower()
      if ending not in webdataset.IMAGE_ENDINGS or _is_hidden(file):
        continue
      name = '/'.join([*parts, file])
      labels = parts[has_splits:]
      split = (
        split_names.SPLITS[parts[0].lower()] if has_splits and parts else None
      )
      count += 1
      if not labels:
        yield raw_records.broken(
          name, name, 'it is in no folder that is named after its class'
        )
        continue
      fields = {
        'image': name,
        'caption': labels[0].replace('_', ' '),
        'label': labels[0],
      }
      yield rows.record(root, name, name, fields, file=root, split=split)
  if not count:
    raise ValueError(f'there is no image in {root} or the folders below')


def _is_hidden(name: str) -> bool:
  """Whether editors and file managers made it, not people."""
  return name.startswith('.') or name == '__MACOSX'
