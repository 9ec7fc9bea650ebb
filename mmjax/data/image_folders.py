"""Reads folders of images: with texts, a folder a class, or a metadata file."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from mmjax.data import (
  csv_files,
  image_rows,
  import_report,
  input_files,
  json_files,
  parquet_files,
  raw_records,
  split_names,
  text_files,
  webdataset,
)
from mmjax.errors import ConfigError

_METADATA = {
  'metadata.csv': csv_files.read,
  'metadata.tsv': csv_files.read,
  'metadata.jsonl': json_files.read,
  'metadata.parquet': parquet_files.read,
}


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The images below some folders, links followed.

  Where there are files `metadata.csv`, `metadata.tsv`, `metadata.jsonl` or
  `metadata.parquet`, their rows are read, which name the images beside them.
  Otherwise, where there is a text `KEY.txt` beside an image `KEY.jpg`, texts
  are the captions. Otherwise each image is captioned with the name of the
  folder it is in, `_` read as a space. In the latter two, the folder becomes
  the metadata field `label`. If all folders on top that hold images are named
  after splits, an image is of the split whose folder it is in.

  A path that is not a folder, holds no image or can't be listed is a record
  whose reading raises; so is one where some folders on top are named after
  splits, but others hold images as well.

  Raises:
    ConfigError: there are metadata files of several kinds, or in some of the
      folders only.
  """
  folders = []
  for root in paths:
    try:
      folders.append(_walk(root))
    except (ConfigError, OSError) as error:
      yield raw_records.broken(root.name, root.name, str(error))
  # Of one kind, and read together, so that images of one name are told apart.
  read_all = _reader(folders)
  if read_all is None:
    rows = image_rows.ImageRows(options)
    for folder in folders:
      yield from _without_metadata(folder, rows, options)
    return
  tables = [path for folder in folders for path in folder.tables]
  splits = _table_splits(folders, options)
  listed = set()
  for raw in read_all(tables, dataclasses.replace(options, splits=splits)):
    listed.add(raw.image_file)
    yield _in_split_folder(raw, folders)
  for folder in folders:
    _note_unlisted(folder, listed, options)


@dataclasses.dataclass
class _Folder:
  """What is below a folder, hidden files left out.

  Attributes:
    root: the folder.
    images: paths below it.
    texts: the paths of texts by those of their images, without ending.
    tables: its metadata files.
    splits: by the names of folders on top; empty if they are of none.
  """

  root: pathlib.Path
  images: list[str] = dataclasses.field(default_factory=list)
  texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  tables: list[pathlib.Path] = dataclasses.field(default_factory=list)
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _walk(root: pathlib.Path) -> _Folder:
  if not root.is_dir():
    raise ConfigError(f'{root} is not a folder')
  found = _Folder(root)
  walk = os.walk(root, onerror=_raise, followlinks=True)
  for folder, below, files in walk:
    below[:] = sorted(n for n in below if not _is_skipped(folder, n))
    parts = pathlib.Path(folder).relative_to(root).parts
    for file in sorted(files):
      name = '/'.join([*parts, file])
      stem, _, ending = name.rpartition('.')
      if file in _METADATA:
        path = root / name
        input_files.check(path)
        found.tables.append(path)
      elif input_files.is_hidden(file):
        continue
      elif ending.lower() in webdataset.IMAGE_ENDINGS:
        found.images.append(name)
      elif ending.lower() in webdataset.TEXT_ENDINGS:
        found.texts.setdefault(stem, []).append(name)
  stems = {name.rpartition('.')[0] for name in found.images}
  found.texts = {s: t for s, t in found.texts.items() if s in stems}
  if not found.images and not found.tables:
    raise ConfigError(f'there is no image in {root} or the folders below')
  found.splits = _splits(found)
  return found


def _raise(error: OSError) -> None:
  raise error


def _is_skipped(folder: str, name: str) -> bool:
  path = pathlib.Path(folder, name)
  return input_files.is_hidden(name) or input_files.is_above(path)


def _splits(found: _Folder) -> dict[str, str]:
  """The splits that folders on top are named after, if all are."""
  tops = dict.fromkeys(
    name.partition('/')[0] for name in found.images if '/' in name
  )
  by_word = {top: split_names.of_name(top) for top in tops}
  if None not in by_word.values() and len(set(by_word.values())) > 1:
    return by_word
  exact = {
    top: split_names.SPLITS[top.lower()]
    for top in tops
    if top.lower() in split_names.SPLITS
  }
  others = [top for top in tops if top not in exact]
  if not others or found.tables:
    # Rows that are in none of the folders have no split.
    return exact
  flat = not any(
    name.count('/') > 1 for name in found.images if name.split('/')[0] in exact
  )
  if not exact or (len(exact) == 1 and flat and not found.texts):
    return {}  # `train` can be a class as well.
  root = found.root
  raise ConfigError(
    f'{root} has folders that are named after splits '
    f'({import_report.some(list(exact))}), and others with images '
    f'({import_report.some(others)}); import the former, '
    f'--input={",".join(f"{root}/{top}" for top in exact)}'
  )


def _reader(folders: Sequence[_Folder]) -> Callable | None:
  """What reads the metadata files; None where there are none."""
  first = {}
  for folder in folders:
    if not folder.tables:
      first.setdefault(None, f'{folder.root}, without one')
    for path in folder.tables:
      first.setdefault(_METADATA[path.name], str(path))
  if len(first) > 1:
    raise ConfigError(
      f'metadata files are of several kinds: {", ".join(first.values())}; '
      'import the folders of each by themselves'
    )
  return next(iter(first), None)


def _table_splits(
  folders: Sequence[_Folder], options: image_rows.Options
) -> dict[pathlib.Path, str]:
  """The splits of metadata files, by their folders or the inputs' names."""
  splits = {}
  for folder in folders:
    for path in folder.tables:
      top = path.relative_to(folder.root).parts[0]
      split = folder.splits.get(top, options.splits.get(folder.root))
      splits |= {path: split} if split else {}
  return splits


def _in_split_folder(
  raw: raw_records.RawRecord, folders: Sequence[_Folder]
) -> raw_records.RawRecord:
  """A row, of the split in whose folder its image is, if it has none yet."""
  if raw.split or not raw.image_file:
    return raw
  for folder in folders:
    root = os.path.join(os.path.realpath(folder.root), '')
    top = raw.image_file.removeprefix(root).partition('/')[0]
    if raw.image_file.startswith(root) and top in folder.splits:
      return dataclasses.replace(raw, split=folder.splits[top])
  return raw


def _note_unlisted(
  folder: _Folder, listed: set[str | None], options: image_rows.Options
) -> None:
  if not folder.tables:
    return
  unlisted = [
    name
    for name in folder.images
    if image_rows.real_path(os.path.join(folder.root, name)) not in listed
  ]
  if unlisted:
    options.note(
      f'{len(unlisted):,} images in {folder.root} are in no row of its '
      f'metadata files and were left out: {import_report.some(unlisted)}'
    )


def _without_metadata(
  folder: _Folder, rows: image_rows.ImageRows, options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  count = 0  # Of texts that might be several captions.
  for name in folder.images:
    *parts, _ = name.split('/')
    split = folder.splits.get(parts[0]) if parts else None
    labels = parts[bool(folder.splits) :]
    try:
      if folder.texts:
        fields = _texts(folder, name, options)
        count += any('\n' in text for text in fields['caption'])
      else:
        fields = {'caption': _class(folder, labels).replace('_', ' ')}
    except (ConfigError, OSError) as error:
      where = f'{folder.root.name}/{name}'
      yield raw_records.broken(name, where, str(error))
      continue
    fields |= {'image': name} | ({'label': labels[0]} if labels else {})
    yield rows.record(
      folder.root, name, name, fields, file=folder.root, split=split
    )
  if count:
    options.note(
      f'{count:,} texts in {folder.root} have several lines, and are one '
      'caption each; several captions are a list in a metadata.jsonl'
    )


def _class(folder: _Folder, labels: Sequence[str]) -> str:
  if not labels:
    raise ConfigError(
      'it is in no folder that is named after its class, and has no text of '
      'its name beside it'
    )
  if len(labels) > 1:
    stars = '*/' * (1 + bool(folder.splits))
    raise ConfigError(
      f'its class could be {labels[0]!r} or {labels[-1]!r}, in whose folder '
      f"it is; --input='{folder.root}/{stars}' reads the inner folders as "
      'classes, and a metadata.csv captions each image'
    )
  return labels[0]


def _texts(
  folder: _Folder, name: str, options: image_rows.Options
) -> raw_records.Fields:
  """The captions beside an image.

  Raises:
    ConfigError: there is none, or one can't be read as a caption.
    OSError: one can't be read.
  """
  stem = name.rpartition('.')[0]
  captions = []
  for file in folder.texts.get(stem, []):
    path = folder.root / file
    input_files.check(path)
    text = text_files.read(path, options.encoding)
    text_files.check(text, options.encoding)
    if re.fullmatch(r'[\d\s.]+', text):
      raise ConfigError(
        f'its text {file} has only numbers, as the boxes of a detector do; '
        'name captions in a metadata.csv'
      )
    captions.append(text.strip())
  if not captions:
    raise ConfigError(
      f'there is no text {stem}.txt beside it, as there is beside others'
    )
  return {'caption': captions}
