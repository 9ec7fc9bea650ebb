"""Reads image folders: with texts, one folder per class, or a metadata file."""

import dataclasses
import os
import pathlib
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence

from mmjax.data import (
  class_folders,
  csv_files,
  file_paths,
  folder_contents,
  image_rows,
  import_report,
  input_files,
  json_files,
  parquet_files,
  raw_records,
  samples,
  sidecars,
  text_files,
)
from mmjax.errors import ConfigError

_METADATA = {
  'metadata.csv': csv_files.read,
  'metadata.tsv': csv_files.read,
  'metadata.jsonl': json_files.read,
  'metadata.parquet': parquet_files.read,
}


# Endings of files that may hold captions.
_CAPTION_ENDINGS = (
  *samples.TEXT_ENDINGS,
  *('csv', 'tsv', 'json', 'jsonl', 'parquet', 'xlsx'),
)
_ABOUT = ('readme', 'license', 'licence')


def read(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads the images in some folders and their subfolders; follows links.

  If there are files `metadata.csv`, `metadata.tsv`, `metadata.jsonl` or
  `metadata.parquet`, their rows are read, which name the images beside them.
  Otherwise, if an image `KEY.jpg` has a text `KEY.txt`, or a `KEY.json` with a
  caption or question, beside it or where `sidecars.match` finds it, these are
  read. Otherwise the caption of each image is the name of its folder, with
  spaces for `_`. In the latter two cases, the folder becomes the metadata field
  `label`. If all top folders with images are named after splits, they give the
  images' splits. Without any image or metadata file, sounds and videos are read
  in the same way. Ignored files are noted.

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
      folders.append(folder_contents.walk(root, _METADATA, options))
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


def _choose_reader(
  folders: Sequence[folder_contents.Contents],
) -> Callable | None:
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
  folders: Sequence[folder_contents.Contents], options: image_rows.Options
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
  raw: raw_records.RawRecord, folders: Sequence[folder_contents.Contents]
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
  folder: folder_contents.Contents,
  referenced: set[str | None],
  options: image_rows.Options,
) -> None:
  if not folder.tables:
    return
  unreferenced = [
    name
    for name in folder.images
    if file_paths.resolve_path(os.path.join(folder.root, name))
    not in referenced
  ]
  if unreferenced:
    options.note(
      f'{len(unreferenced):,} images in {folder.root} are in no row of its '
      f'metadata files and were ignored: {import_report.shorten(unreferenced)}'
    )


def _read_without_metadata(
  folder: folder_contents.Contents,
  rows: image_rows.ImageRows,
  options: image_rows.Options,
) -> Iterator[raw_records.RawRecord]:
  try:
    _refuse_unread_captions(folder)
  except ConfigError as error:
    where = folder.root.name
    yield raw_records.make_unreadable(where, where, str(error))
    return
  long = 0  # Number of texts that may be several captions.
  classes = set()
  for name in _find_foreign(folder):
    where = f'{folder.root.name}/{name}'
    reason = (
      f'images that end in .{_find_ending(name)} are not read; save it as '
    )
    yield raw_records.make_unreadable(name, where, f'{reason}JPEG or PNG')
  for name in folder.images:
    *parts, _ = name.split('/')
    split = folder.splits.get(parts[0]) if parts else None
    labels = parts[bool(folder.splits) :]
    try:
      if folder.texts:
        texts, fields = _read_texts(folder, name, options)
        long += any(map(samples.is_long, texts))
      else:
        label = _find_class(folder, labels)
        classes.add(label)
        fields = {'caption': label.replace('_', ' ')}
    except (ConfigError, OSError) as error:
      where = f'{folder.root.name}/{name}'
      yield raw_records.make_unreadable(name, where, str(error))
      continue
    fields |= {samples.find_kind(name): name}
    if labels:
      fields.setdefault('label', labels[0])
    yield rows.make_record(
      folder.root, name, name, fields, file=folder.root, split=split
    )
  if long:
    options.note(
      f'{long:,} texts in {folder.root} have several lines, and are one '
      'caption each; a metadata.jsonl can list several captions'
    )
  class_folders.note(folder.root, classes, len(folder.images), options)
  _note_others(folder, options)


def _find_ending(name: str) -> str:
  return name.rpartition('.')[2].lower()


def _find_foreign(folder: folder_contents.Contents) -> list[str]:
  """Returns images of other formats that have no copy in one that is read."""
  read = set(map(sidecars.drop_ending, folder.images))
  return [
    name
    for name in folder.others
    if _find_ending(name) in samples.FOREIGN_ENDINGS
    and sidecars.drop_ending(name) not in read
  ]


def _refuse_unread_captions(folder: folder_contents.Contents) -> None:
  """Refuses one class for all images beside files that may hold captions.

  Raises:
    ConfigError: naming the files, and how captions are read.
  """
  tops = {name.rpartition('/')[0] for name in folder.images}
  if folder.texts or len(folder.images) < 2 or len(tops) > 1:
    return
  read = {*folder.images, *map(sidecars.drop_ending, folder.images)}
  unread = [
    name
    for name in folder.others
    if _find_ending(name) in _CAPTION_ENDINGS
    and sidecars.drop_ending(name) not in read
    and not posixpath.basename(name).lower().startswith(_ABOUT)
  ]
  (top,) = tops
  if unread and not top:
    raise ConfigError(
      'no image has a caption, but there are files that may hold captions: '
      f'{import_report.shorten(unread)}; a table beside the images is named '
      f'{", ".join(_METADATA)}, or is imported with --format=csv, jsonl or '
      'parquet'
    )
  if unread and top:
    raise ConfigError(
      f'the caption of all its images would be {top!r}, the name of their only '
      f'folder, but there are files that may hold captions: '
      f'{import_report.shorten(unread)}; name a text as its image, KEY.txt for '
      'KEY.jpg, or import a table with --format=csv, jsonl or parquet and '
      f'--images={folder.root / top}'
    )


def _note_others(
  folder: folder_contents.Contents, options: image_rows.Options
) -> None:
  foreign = set(_find_foreign(folder))
  others = [name for name in folder.others if name not in foreign]
  if not others:
    return
  used = {posixpath.dirname(name) for name in folder.images}
  used |= {
    posixpath.dirname(name) for names in folder.texts.values() for name in names
  }
  empty = sorted({posixpath.dirname(name) for name in others} - used)
  line = (
    f'{len(others):,} files in {folder.root} were ignored: '
    f'{import_report.count_endings(others)}'
  )
  if empty:
    names = [name or 'the folder itself' for name in empty]
    line += (
      f'; nothing was read from {import_report.shorten(names)}, since images '
      f'end in .{", .".join(samples.IMAGE_ENDINGS)}'
    )
  options.note(line)


def _find_class(folder: folder_contents.Contents, labels: Sequence[str]) -> str:
  stars = '*/' * (1 + bool(folder.splits))
  return class_folders.find(
    labels,
    f"--input='{folder.root}/{stars}' reads the inner ones as classes, and a "
    'metadata.csv can name a caption for each image',
  )


def _read_texts(
  folder: folder_contents.Contents, name: str, options: image_rows.Options
) -> tuple[list[str], raw_records.Fields]:
  """Returns the texts of an image, and its fields.

  Raises:
    ConfigError: if there are none, or a file holds no caption.
    OSError: if a file can't be read.
  """
  texts, json_text = [], None
  for file in folder.texts.get(name, []):
    path = folder.root / file
    input_files.check(path)
    text = text_files.read(path, options.encoding)
    text_files.check(text, options.encoding)
    if file.lower().endswith('.json'):
      if json_text is not None:
        raise ConfigError(f'it has several .json, one of them {file}; keep one')
      json_text = text
      continue
    if re.fullmatch(r'[\d\s.]+', text):
      raise ConfigError(
        f'its text {file} has only numbers, as bounding boxes do; '
        'name captions in a metadata.csv'
      )
    texts.append(text.strip())
  if not texts and json_text is None:
    raise ConfigError(
      f'there is no text {name.rpartition(".")[0]}.txt beside it, as there is '
      'beside others'
    )
  return texts, samples.make_fields(texts, json_text, options)
