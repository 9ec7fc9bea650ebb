"""Makes raw records of rows that name image files."""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.data import columns, file_paths, images, raw_records
from mmjax.errors import ConfigError

# The first characters of PNG, JPEG, GIF and WebP in base64.
_ENCODED_STARTS = ('iVBORw0K', '/9j/', 'R0lGOD', 'UklGR')
_DATA_URL = 'data:image/'
_IMAGES_HINT = '; --images names another folder that paths are relative to'
_MAX_STEM_LENGTH = 64  # A longer text without a dot is not a path.
_MAX_SHOWN = 300  # Number of characters of a path in a message.
_FILE_URL = 'file://'


@dataclasses.dataclass(frozen=True)
class Options:
  """Options of reading input files.

  Attributes:
    columns: (field, column) pairs, as `columns.resolve` takes them.
    further: names of columns that fill further fields.
    several: names of columns that fill fields of several images, and so not
      that of the record's one image.
    images: folder that image paths are relative to and may not leave; None for
      the folder of the file that names them.
    separator: character between the cells of a CSV file; None to find it by
      the header.
    encoding: encoding of text files; None for UTF-8, or UTF-16 with its byte
      order mark.
    quotes: whether a CSV cell may stand in quotation marks.
    scratch: folder for temporary files.
    splits: split of each input file that is named after one, as
      `split_names.find_splits` returns them.
    note: function that reports one line about the input to the user.
  """

  columns: tuple[tuple[str, str], ...] = ()
  further: tuple[str, ...] = ()
  several: tuple[str, ...] = ()
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

  def resolve(self, names: Sequence[str]) -> dict[str, str]:
    """The field that each column fills, see `columns.resolve`."""
    rest = tuple(name for name in names if name.strip() not in self.several)
    fields = columns.resolve(rest, self.columns)
    for name in names:
      if name not in fields:
        is_field = name.strip().lower() in columns.FIELDS
        fields[name] = name.strip() + ('_column' if is_field else '')
    return {name: fields[name] for name in names}


class ImageRows:
  """Makes raw records of rows; rows that name one image share one id."""

  def __init__(self, options: Options):
    self._options = options
    self._names = _Names()
    self._locate = functools.lru_cache(4096)(file_paths.locate)

  def make_record(
    self,
    folder: pathlib.Path,
    where: str,
    name: str,
    fields: dict[str, Any],
    *,
    file: pathlib.Path | None = None,
    split: str | None = None,
    read_encoded: Callable[[], bytes] | None = None,
  ) -> raw_records.RawRecord:
    """Makes the raw record of a row.

    Args:
      folder: folder that the image's path is relative to, unless the options
        name another.
      where: location of the row in messages, such as 'a.csv, line 3'.
      name: id of a row that has neither an id nor an image.
      fields: values by mmjax's names. Without the key `image` the record has no
        image; an empty or null image is an error.
      file: input file of the row, whose name may give its split.
      split: split of this row, where the input names one.
      read_encoded: function that reads an image which is not a file.
    """
    if read_encoded is None and _is_missing(fields.get('image', name)):
      return raw_records.make_unreadable(
        name, where, 'its image is missing: the value or cell is empty'
      )
    image = fields.pop('image', None)
    row_id = fields.pop('id', None)
    has_id = row_id not in (None, '')
    has_image = read_encoded is not None or image is not None
    name_in_file, path = name, (folder, name)
    read_image = read_encoded or bytes
    if read_encoded is None and has_image:
      root = os.fspath(self._options.images or folder)
      try:
        name_in_file, path = self._locate(
          root, _get_single_path(image), images.ENDINGS
        )
      except ConfigError as error:
        return raw_records.make_unreadable(name, where, str(error))
      hint = '' if self._options.images else _IMAGES_HINT
      read_image = functools.partial(_read_file, path, hint=hint)
    if has_image:
      fields['file'] = self._names.find_first(path, name_in_file)
    return raw_records.RawRecord(
      id=str(row_id) if has_id else self._names.make_unique(path, name_in_file),
      where=where,
      group=fields['file'] if has_image else name,
      read_fields=functools.partial(dict, fields),
      read_image=read_image,
      # An image may have several rows, one for each caption or question.
      is_part=has_image and not has_id,
      split=split or self._options.splits.get(file),
      image_file=None if read_encoded or not has_image else path,
      read_file=functools.partial(
        self._read_named, os.fspath(self._options.images or folder)
      ),
    )

  def _read_named(self, root: str, name: str) -> bytes:
    """Reads a file that a row names, by its path below the root."""
    name = name.removeprefix(_FILE_URL)
    if '://' in name:
      raise ConfigError(f'{name!r:.200} is a URL; download the files first')
    if '\0' in name:
      raise ConfigError(f'{name!r:.200} has a null character')
    return _read_file(self._locate(root, name)[1], 'file')


def rename(
  row: Mapping[str, Any], names: Mapping[str, str], further: Sequence[str]
) -> dict[str, Any]:
  """Renames a row's columns to fields; several captions become one list.

  Args:
    row: values by column.
    names: field of each column.
    further: columns that fill further fields, and so keep their names as well.
  """
  fields = {}
  for name, value in row.items():
    field = names[name]
    if field == 'caption' and 'caption' in fields:
      value = [*_as_list(fields['caption']), *_as_list(value)]
    fields[field] = value
  kept = {name.strip(): row[name] for name in row if name.strip() in further}
  return kept | fields


def complete(
  fields: dict[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
  """Restores the empty cells of a row that are errors or empty lists.

  Args:
    fields: values by mmjax's names, without empty cells; changed in place.
    names: field of each column of the table.
  """
  for field, value in (('image', None), ('caption', []), ('captions', [])):
    if field in names.values():
      fields.setdefault(field, value)
  return fields


class _Names:
  """Unique names of keys: a name that is taken gets a number, as in `a#2`."""

  def __init__(self):
    self._names: dict[Any, tuple[str, str]] = {}
    self._counts = collections.Counter()

  def make_unique(self, key: Any, name: str) -> str:
    """Returns a key's unique name; `name` counts at the first call only."""
    if key not in self._names:
      self._counts[name] += 1
      number = self._counts[name]
      unique = name if number == 1 else f'{name}#{number}'
      self._names[key] = name, unique
    return self._names[key][1]

  def find_first(self, key: Any, name: str) -> str:
    """Returns the name with which a key was seen first."""
    self.make_unique(key, name)
    return self._names[key][0]


def _is_missing(image: Any) -> bool:
  """Whether the value that should name an image is empty."""
  items = image if isinstance(image, list) else [image]
  return all(
    item is None or (isinstance(item, str) and not item.strip())
    for item in items
  )


def _get_single_path(image: Any) -> str:
  if isinstance(image, list):
    if all(isinstance(item, int | float | list) for item in image):
      raise ConfigError(
        'image is an array of numbers; encode it as PNG, in a file or as bytes'
      )
    if len(image) != 1:
      raise ConfigError(f'it has {len(image)} images; a record holds one')
    image = image[0]
  if isinstance(image, dict) and not image.get('bytes'):
    image = image.get('path') or image  # The `datasets` library writes these.
  if not isinstance(image, str):
    raise ConfigError(f'image should be a path, not {image!r:.80}')
  image = image.removeprefix(_FILE_URL)
  if '://' in image:
    raise ConfigError(
      f'image {image!r:.200} is a URL; download the images first, for example '
      'with img2dataset'
    )
  is_encoded = image.startswith(_ENCODED_STARTS)
  if image.startswith(_DATA_URL) or (
    is_encoded and '.' not in image and len(image) > _MAX_STEM_LENGTH
  ):
    raise ConfigError(
      f'image {image!r:.40} is encoded as text; write the images to files, or '
      'use Parquet or WebDataset for encoded images'
    )
  if '\0' in image:
    raise ConfigError(f'image {image!r:.200} has a null character')
  return image


def _read_file(path: str, word: str = 'image file', hint: str = '') -> bytes:
  if not os.path.isfile(path):
    raise ConfigError(f'there is no {word} {path:.{_MAX_SHOWN}}{hint}')
  with open(path, 'rb') as file:
    data = file.read()
  if not data:
    raise ConfigError(f'{word} {path} is empty')
  return data


def _as_list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
