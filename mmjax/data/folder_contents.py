"""Lists the images, texts and metadata files below a folder."""

import dataclasses
import os
import pathlib
import posixpath
from collections.abc import Collection, Mapping, Sequence

from mmjax.data import (
  image_rows,
  import_report,
  input_files,
  samples,
  sidecars,
  split_names,
  text_files,
)
from mmjax.errors import ConfigError

_TEXT_ENDINGS = (*samples.TEXT_ENDINGS, 'json')


@dataclasses.dataclass
class Contents:
  """The files below a folder, without hidden ones.

  Attributes:
    root: the folder.
    images: paths of the images, relative to it; without any image or metadata
      file, of sounds and videos.
    texts: paths of the texts and .json files, by the path of their image;
      empty if none has a caption or question.
    tables: metadata files.
    others: paths of all other files.
    splits: splits by the names of top folders; empty if there are none.
  """

  root: pathlib.Path
  images: list[str] = dataclasses.field(default_factory=list)
  texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  tables: list[pathlib.Path] = dataclasses.field(default_factory=list)
  others: list[str] = dataclasses.field(default_factory=list)
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def walk(
  root: pathlib.Path, metadata: Collection[str], options: image_rows.Options
) -> Contents:
  """Lists the files below a folder; follows links.

  Args:
    root: the folder.
    metadata: names of metadata files, with which texts are not read.
    options: options of reading texts.

  Raises:
    ConfigError: if it is not a folder, has neither an image nor metadata, the
      image of a text is ambiguous, or only some of the top folders with images
      are named after splits.
    OSError: if a folder can't be listed.
  """
  if not root.is_dir():
    raise ConfigError(f'{root} is not a folder')
  contents, texts = Contents(root), []
  tree = os.walk(root, onerror=_raise_error, followlinks=True)
  for folder, below, files in tree:
    below[:] = sorted(n for n in below if not _is_skipped(folder, n))
    parts = pathlib.Path(folder).relative_to(root).parts
    for file in sorted(files):
      name = '/'.join([*parts, file])
      ending = name.rpartition('.')[2].lower()
      if file in metadata:
        path = root / name
        input_files.check(path)
        contents.tables.append(path)
      elif input_files.is_hidden(file):
        continue
      elif ending in samples.IMAGE_ENDINGS:
        contents.images.append(name)
      elif ending in _TEXT_ENDINGS:
        texts.append(name)
      else:
        contents.others.append(name)
  if not contents.images and not contents.tables:
    _take_media(contents)
  if not contents.images and not contents.tables:
    ignored = import_report.count_endings([*contents.others, *texts])
    raise ConfigError(
      f'there is no image, sound or video in {root} or the folders below'
      f'{f", only {ignored}" if ignored else ""}; images end in '
      f'.{", .".join(samples.IMAGE_ENDINGS)}'
    )
  if not contents.tables:
    _add_texts(contents, texts, options)
  contents.splits = find_splits(contents)
  return contents


def _take_media(contents: Contents) -> None:
  """Moves sounds and videos from the others to the images."""
  media = [n for n in contents.others if samples.find_kind(n) != 'image']
  contents.images = media
  contents.others = [n for n in contents.others if n not in set(media)]


def _add_texts(
  contents: Contents, texts: Sequence[str], options: image_rows.Options
) -> None:
  """Adds the texts of the images; those without an image to the others.

  Raises:
    ConfigError: if the image of a text is ambiguous.
  """
  image_folders = {posixpath.dirname(name) for name in contents.images}
  # A text may also be that of a file which is not read.
  taken = {sidecars.drop_ending(name) for name in contents.others}
  separate = [
    name
    for name in texts
    if posixpath.dirname(name) not in image_folders
    and sidecars.drop_ending(name) not in taken
  ]
  matches = sidecars.match(contents.images, texts, separate)
  matched = [name for names in matches.values() for name in names]
  has_objects_only = all(name.lower().endswith('.json') for name in matched)
  if has_objects_only and not any(
    _has_texts(contents.root / name, options) for name in matched[:1]
  ):
    matches = {}
  contents.texts = matches
  matched = {name for names in matches.values() for name in names}
  contents.others += [name for name in texts if name not in matched]


def _has_texts(path: pathlib.Path, options: image_rows.Options) -> bool:
  """Whether a .json has a caption or question, or a fault to report."""
  try:
    input_files.check(path)
    text = text_files.read(path, options.encoding)
    return samples.has_texts(samples.make_fields([], text, options))
  except ConfigError:
    return True


def _raise_error(error: OSError) -> None:
  raise error


def _is_skipped(folder: str, name: str) -> bool:
  path = pathlib.Path(folder, name)
  return input_files.is_hidden(name) or input_files.is_loop(path)


def find_splits(contents: Contents) -> dict[str, str]:
  """Returns the splits that top folders are named after, if all are.

  Raises:
    ConfigError: if only some of those with images are.
  """
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
  inputs = ','.join(f'{root}/{top}' for top in exact)
  former = f'import the former, --input={inputs}'
  if not root.is_dir():
    former = 'unpack it and import the former with --format=imagefolder'
  raise ConfigError(
    f'{root} has folders that are named after splits '
    f'({import_report.shorten(list(exact))}), and others with images '
    f'({import_report.shorten(others)}); {former}, or rename the latter, for '
    'example to validation'
  )
