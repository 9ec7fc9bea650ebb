"""Reads image folders: with texts, one folder per class, or a metadata file."""

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
  """Reads the images in some folders and their subfolders; follows links.

  If there are files `metadata.csv`, `metadata.tsv`, `metadata.jsonl` or
  `metadata.parquet`, their rows are read, which name the images beside them.
  Otherwise, if there is a text `KEY.txt` beside an image `KEY.jpg`, the texts
  are the captions. Otherwise the caption of each image is the name of its
  folder, with spaces for `_`. In the latter two cases, the folder becomes the
  metadata field `label`. If all top folders with images are named after splits,
  they give the images' splits. Without any image or metadata file, sounds and
  videos are read in the same way.

  A path that is not a folder, holds no image or can't be listed becomes a
  record whose reading raises; so does one where only some of the top folders
  with images are named after splits.

  Raises:
    ConfigError: if there are metadata files of several kinds, or only in some
      of the folders.
  """
  folders = []
  for root in paths:
    try:
      folders.append(_walk(root))
    except (ConfigError, OSError) as error:
      yield raw_records.make_unreadable(root.name, root.name, str(error))
  # All tables are of one kind. One call reads them, so that images of the same
  # name get different ids.
  read_all = _choose_reader(folders)
  if read_all is None:
    rows = image_rows.ImageRows(options)
    for folder in folders:
      yield from _read_without_metadata(folder, rows, options)
    return
  tables = [path for folder in folders for path in folder.tables]
  splits = _find_table_splits(folders, options)
  referenced = set()
  for raw in read_all(tables, dataclasses.replace(options, splits=splits)):
    referenced.add(raw.image_file)
    yield _assign_folder_split(raw, folders)
  for folder in folders:
    _note_unreferenced(folder, referenced, options)


@dataclasses.dataclass
class _Folder:
  """The files below a folder, without hidden ones.

  Attributes:
    root: the folder.
    images: paths of the images, relative to it; without any image, of sounds
      and videos.
    texts: paths of the texts, by the path of their image without its ending.
    tables: metadata files.
    splits: splits by the names of top folders; empty if there are none.
  """

  root: pathlib.Path
  images: list[str] = dataclasses.field(default_factory=list)
  texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  tables: list[pathlib.Path] = dataclasses.field(default_factory=list)
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _walk(root: pathlib.Path) -> _Folder:
  if not root.is_dir():
    raise ConfigError(f'{root} is not a folder')
  contents, media = _Folder(root), []
  walk = os.walk(root, onerror=_raise_error, followlinks=True)
  for folder, below, files in walk:
    below[:] = sorted(n for n in below if not _is_skipped(folder, n))
    parts = pathlib.Path(folder).relative_to(root).parts
    for file in sorted(files):
      name = '/'.join([*parts, file])
      stem, _, ending = name.rpartition('.')
      if file in _METADATA:
        path = root / name
        input_files.check(path)
        contents.tables.append(path)
      elif input_files.is_hidden(file):
        continue
      elif ending.lower() in webdataset.IMAGE_ENDINGS:
        contents.images.append(name)
      elif _find_kind(name) != 'image':
        media.append(name)
      elif ending.lower() in webdataset.TEXT_ENDINGS:
        contents.texts.setdefault(stem, []).append(name)
  if not contents.images and not contents.tables:
    contents.images = media
  stems = {name.rpartition('.')[0] for name in contents.images}
  contents.texts = {s: t for s, t in contents.texts.items() if s in stems}
  if not contents.images and not contents.tables:
    raise ConfigError(
      f'there is no image, sound or video in {root} or the folders below'
    )
  contents.splits = _find_splits(contents)
  return contents


def _find_kind(name: str) -> str:
  """The field that a file fills: 'sound' or 'video' by its ending."""
  ending = name.rpartition('.')[2].lower()
  if ending not in webdataset.IMAGE_ENDINGS:
    for kind, endings in webdataset.MEDIA_ENDINGS.items():
      if ending in endings:
        return kind
  return 'image'


def _raise_error(error: OSError) -> None:
  raise error


def _is_skipped(folder: str, name: str) -> bool:
  path = pathlib.Path(folder, name)
  return input_files.is_hidden(name) or input_files.is_loop(path)


def _find_splits(contents: _Folder) -> dict[str, str]:
  """Returns the splits that top folders are named after, if all are."""
  tops = dict.fromkeys(
    name.partition('/')[0] for name in contents.images if '/' in name
  )
  splits_by_folder = {top: split_names.find_split(top) for top in tops}
  if (
    None not in splits_by_folder.values()
    and len(set(splits_by_folder.values())) > 1
  ):
    return splits_by_folder
  exact = {
    top: split_names.SPLITS[top.lower()]
    for top in tops
    if top.lower() in split_names.SPLITS
  }
  others = [top for top in tops if top not in exact]
  if not others or contents.tables:
    # Rows whose images are in other folders have no split.
    return exact
  flat = not any(
    name.count('/') > 1
    for name in contents.images
    if name.split('/')[0] in exact
  )
  if not exact or (len(exact) == 1 and flat and not contents.texts):
    return {}  # `train` may also be a class.
  root = contents.root
  raise ConfigError(
    f'{root} has folders that are named after splits '
    f'({import_report.shorten(list(exact))}), and others with images '
    f'({import_report.shorten(others)}); import the former, '
    f'--input={",".join(f"{root}/{top}" for top in exact)}'
  )


def _choose_reader(folders: Sequence[_Folder]) -> Callable | None:
  """Returns the reader of the metadata files; None where there are none."""
  readers = {}
  for folder in folders:
    if not folder.tables:
      readers.setdefault(None, f'{folder.root}, without one')
    for path in folder.tables:
      readers.setdefault(_METADATA[path.name], str(path))
  if len(readers) > 1:
    raise ConfigError(
      f'metadata files are of several kinds: {", ".join(readers.values())}; '
      'import the folders of each kind separately'
    )
  return next(iter(readers), None)


def _find_table_splits(
  folders: Sequence[_Folder], options: image_rows.Options
) -> dict[pathlib.Path, str]:
  """Returns the splits of metadata files, by their folders or inputs' names."""
  splits = {}
  for folder in folders:
    for path in folder.tables:
      top = path.relative_to(folder.root).parts[0]
      split = folder.splits.get(top, options.splits.get(folder.root))
      splits |= {path: split} if split else {}
  return splits


def _assign_folder_split(
  raw: raw_records.RawRecord, folders: Sequence[_Folder]
) -> raw_records.RawRecord:
  """Gives a row without a split that of the folder its image is in."""
  if raw.split or not raw.image_file:
    return raw
  for folder in folders:
    root = os.path.join(os.path.realpath(folder.root), '')
    top = raw.image_file.removeprefix(root).partition('/')[0]
    if raw.image_file.startswith(root) and top in folder.splits:
      return dataclasses.replace(raw, split=folder.splits[top])
  return raw


def _note_unreferenced(
  folder: _Folder, referenced: set[str | None], options: image_rows.Options
) -> None:
  if not folder.tables:
    return
  unreferenced = [
    name
    for name in folder.images
    if image_rows.resolve_path(os.path.join(folder.root, name))
    not in referenced
  ]
  if unreferenced:
    options.note(
      f'{len(unreferenced):,} images in {folder.root} are in no row of its '
      f'metadata files and were ignored: {import_report.shorten(unreferenced)}'
    )


def _read_without_metadata(
  folder: _Folder, rows: image_rows.ImageRows, options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  count = 0  # Texts that may be several captions.
  for name in folder.images:
    *parts, _ = name.split('/')
    split = folder.splits.get(parts[0]) if parts else None
    labels = parts[bool(folder.splits) :]
    try:
      if folder.texts:
        fields = _read_texts(folder, name, options)
        count += any('\n' in text for text in fields['caption'])
      else:
        fields = {'caption': _find_class(folder, labels).replace('_', ' ')}
    except (ConfigError, OSError) as error:
      where = f'{folder.root.name}/{name}'
      yield raw_records.make_unreadable(name, where, str(error))
      continue
    fields |= {_find_kind(name): name} | (
      {'label': labels[0]} if labels else {}
    )
    yield rows.make_record(
      folder.root, name, name, fields, file=folder.root, split=split
    )
  if count:
    options.note(
      f'{count:,} texts in {folder.root} have several lines, and are one '
      'caption each; a metadata.jsonl can list several captions'
    )


def _find_class(folder: _Folder, labels: Sequence[str]) -> str:
  if not labels:
    raise ConfigError(
      'it is not in a folder named after its class, and has no text of its '
      'name beside it'
    )
  if len(labels) > 1:
    stars = '*/' * (1 + bool(folder.splits))
    raise ConfigError(
      f'its class could be {labels[0]!r} or {labels[-1]!r}, since it is in '
      f"both folders; --input='{folder.root}/{stars}' reads the inner ones as "
      'classes, and a metadata.csv can name a caption for each image'
    )
  return labels[0]


def _read_texts(
  folder: _Folder, name: str, options: image_rows.Options
) -> raw_records.Fields:
  """Reads the captions beside an image.

  Raises:
    ConfigError: if there is none, or a file holds no caption.
    OSError: if a file can't be read.
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
        f'its text {file} has only numbers, as bounding boxes do; '
        'name captions in a metadata.csv'
      )
    captions.append(text.strip())
  if not captions:
    raise ConfigError(
      f'there is no text {stem}.txt beside it, as there is beside others'
    )
  return {'caption': captions}
