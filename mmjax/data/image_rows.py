"""Rows that name image files, as raw records."""

import collections
import dataclasses
import functools
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmjax.data import raw_records
from mmjax.errors import ConfigError

# How PNG, JPEG, GIF and WebP begin in base64, and addresses with data in them.
_ENCODED = ('iVBORw0K', '/9j/', 'R0lGOD', 'UklGR', 'data:image/')
_LONGEST_PATH = 255  # What begins so and is longer is not a path.


@dataclasses.dataclass(frozen=True)
class Options:
  """How to read input files.

  Attributes:
    columns: (field, column) pairs; see `columns.resolve`.
    images: folder that the paths of images are relative to, and that none may
      leave; None for the folder of the file that names them.
    separator: between the cells of a CSV file; None to find it by the header.
    encoding: of text files; None for UTF-8, or UTF-16 with its byte order mark.
    quotes: whether a CSV cell may stand in quotation marks.
    scratch: folder for temporary files.
    splits: that input files belong to by their names; see
      `split_names.of_paths`.
    note: takes what people should know of the input, a line each.
  """

  columns: tuple[tuple[str, str], ...] = ()
  images: pathlib.Path | None = None
  separator: str | None = None
  encoding: str | None = None
  quotes: bool = True
  scratch: pathlib.Path | None = None
  splits: Mapping[pathlib.Path, str] = dataclasses.field(default_factory=dict)
  note: Callable[[str], None] = lambda line: None

  def __post_init__(self):
    if self.separator is not None and len(self.separator) != 1:
      raise ConfigError(f'separator {self.separator!r} should be one character')
    if self.images is not None and not self.images.is_dir():
      raise ConfigError(f'there is no folder of images {self.images}')


class ImageRows:
  """Makes raw records of rows; those that name one image have one id."""

  def __init__(self, options: Options):
    self._options = options
    self._names = _Names()
    self._locate = functools.lru_cache(4096)(_locate)

  def record(
    self,
    folder: pathlib.Path,
    where: str,
    name: str,
    fields: dict[str, Any],
    *,
    file: pathlib.Path | None = None,
    split: str | None = None,
    encoded: Callable[[], bytes] | None = None,
  ) -> raw_records.RawRecord:
    """The raw record of a row.

    Args:
      folder: that its image's path is relative to, unless the options say so.
      where: what people call the row.
      name: its id, if it has neither an id nor an image of its own.
      fields: by our names; without the key `image` the record has none, while
        an empty or null one can't be read.
      file: the input file that it is in, whose name may say its split.
      split: that it belongs to, where the input says so of this row.
      encoded: reads its image, where that is not a file.
    """
    if encoded is None and _is_missing(fields.get('image', name)):
      return raw_records.broken(
        name, where, 'its image is missing: the value or cell is empty'
      )
    image = fields.pop('image', None)
    row_id = fields.pop('id', None)
    has_id = row_id not in (None, '')
    has_image = encoded is not None or image is not None
    spelled, path = name, (folder, name)
    read_image = encoded or bytes
    if encoded is None and has_image:
      root = os.fspath(self._options.images or folder)
      try:
        spelled, path = self._locate(root, _single(image))
      except ConfigError as error:
        return raw_records.broken(name, where, str(error))
      read_image = functools.partial(_read, path)
    if has_image:
      fields['file'] = self._names.first(path, spelled)
    return raw_records.RawRecord(
      id=str(row_id) if has_id else self._names.name(path, spelled),
      where=where,
      group=fields['file'] if has_image else name,
      read_fields=functools.partial(dict, fields),
      read_image=read_image,
      # An image may have several rows, one a caption or question.
      is_part=has_image and not has_id,
      split=split or self._options.splits.get(file),
      image_file=None if encoded or not has_image else path,
    )


def rename(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  """A row by our names of its fields; several captions become one list."""
  fields = {}
  for name, value in row.items():
    field = names[name]
    if field == 'caption' and 'caption' in fields:
      value = [*_list(fields['caption']), *_list(value)]
    fields[field] = value
  return fields


def complete(
  fields: dict[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
  """A table's row, whose empty cells were left out, with those that count.

  Args:
    fields: by our names; filled in place.
    names: of all columns, and the fields that they are.
  """
  for field, value in (('image', None), ('caption', []), ('captions', [])):
    if field in names.values():
      fields.setdefault(field, value)
  return fields


class _Names:
  """Names of things: of those that have one name, all but one get a number."""

  def __init__(self):
    self._of: dict[Any, tuple[str, str]] = {}
    self._seen = collections.Counter()

  def name(self, thing: Any, name: str) -> str:
    """The unique name of a thing; `name` is what it is called this time."""
    if thing not in self._of:
      self._seen[name] += 1
      number = self._seen[name]
      unique = name if number == 1 else f'{name}#{number}'
      self._of[thing] = name, unique
    return self._of[thing][1]

  def first(self, thing: Any, name: str) -> str:
    """What a thing was called the first time."""
    self.name(thing, name)
    return self._of[thing][0]


def _is_missing(image: Any) -> bool:
  """Whether what should name an image is empty."""
  items = image if isinstance(image, list) else [image]
  return all(
    item is None or (isinstance(item, str) and not item.strip())
    for item in items
  )


def _single(image: Any) -> str:
  if isinstance(image, list):
    if all(isinstance(item, int | float | list) for item in image):
      raise ConfigError(
        'image is an array of numbers; encode it as PNG, in a file or as bytes'
      )
    if len(image) != 1:
      raise ConfigError(f'it has {len(image)} images; a record holds one')
    image = image[0]
  if isinstance(image, dict) and not image.get('bytes'):
    image = image.get('path') or image  # As the `datasets` library writes it.
  if not isinstance(image, str):
    raise ConfigError(f'image should be a path, not {image!r:.80}')
  if '://' in image:
    raise ConfigError(
      f'image {image!r:.200} is an address; download the images first, for '
      'example with img2dataset'
    )
  if image.startswith(_ENCODED) and len(image) > _LONGEST_PATH:
    raise ConfigError(
      f'image {image!r:.40} is encoded as text; write the images to files, or '
      'use Parquet or WebDataset for encoded images'
    )
  if '\0' in image:
    raise ConfigError(f'image {image!r:.200} has a null character')
  return image


def _locate(root: str, image: str) -> tuple[str, str]:
  """An image's name below the root, and its file, however it is spelt."""
  root = os.path.abspath(root)
  for spelling in _spellings(image):
    path = os.path.normpath(os.path.join(root, spelling))
    real = real_path(path)
    if os.path.isfile(real):
      break
  else:
    path = os.path.normpath(os.path.join(root, image))
    real = real_path(path)
  if path.startswith(os.path.join(root, '')):
    return os.path.relpath(path, root), real
  inside = os.path.join(_real_folder(root), '')
  if not real.startswith(inside):
    raise ConfigError(
      f'image {image!r:.200} is outside {root}; name the folder that holds all '
      f'images, for example --images={os.path.dirname(path)}'
    )
  return real.removeprefix(inside), real


def _spellings(image: str) -> Iterator[str]:
  """The path as it stands, then as other systems may have written it."""
  yield image
  yield image.strip()
  yield image.replace('\\', '/')
  yield unicodedata.normalize('NFC', image)
  yield unicodedata.normalize('NFD', image)


def real_path(path: str) -> str:
  """The path without links; those of folders are looked up once."""
  folder, name = os.path.split(path)
  path = os.path.join(_real_folder(folder), name)
  return os.path.realpath(path) if os.path.islink(path) else path


_real_folder = functools.lru_cache(4096)(os.path.realpath)


def _read(path: str) -> bytes:
  if not os.path.isfile(path):
    raise ConfigError(f'there is no image file {path}')
  with open(path, 'rb') as file:
    data = file.read()
  if not data:
    raise ConfigError(f'image file {path} is empty')
  return data


def _list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
