"""The files of one sample: an image, texts, and a JSON object of fields."""

from collections.abc import Sequence

from mmjax.data import (
  captions,
  columns,
  extra_fields,
  image_rows,
  images,
  raw_records,
  text_files,
)
from mmjax.errors import ConfigError

IMAGE_ENDINGS = images.ENDINGS
# Endings of images that Pillow does not decode.
FOREIGN_ENDINGS = (
  *('heic', 'heif', 'hif', 'jxl', 'svg', 'psd'),
  *('dng', 'cr2', 'cr3', 'nef', 'arw', 'raf', 'orf', 'rw2'),
)
TEXT_ENDINGS = ('txt', 'caption', 'text')
# Endings of sounds and videos, by the field that they fill.
MEDIA_ENDINGS = {
  kind: tuple(ending[1:] for ending in endings)
  for kind, endings in extra_fields.ENDINGS.items()
}


def find_kind(name: str) -> str:
  """The field that a file fills: 'sound' or 'video' by its ending, or image."""
  ending = name.rpartition('.')[2].lower()
  if ending not in IMAGE_ENDINGS:
    for kind, endings in MEDIA_ENDINGS.items():
      if ending in endings:
        return kind
  return 'image'


def make_fields(
  texts: Sequence[str], json_text: str | None, options: image_rows.Options
) -> raw_records.Fields:
  """Makes a sample's fields of its texts and its JSON object.

  Each text is one caption, also with several lines.

  Args:
    texts: contents of the sample's text files.
    json_text: content of its .json, which may hold further captions; None
      without one.
    options: options, of which `columns` names keys of the object.

  Raises:
    ConfigError: if the JSON is not an object, or its keys are ambiguous.
  """
  fields = {}
  if json_text is not None:
    aliased = ('question', 'answer', 'type', *(() if texts else ('caption',)))
    fields = _read_object(json_text, options, aliased)
  if not texts:
    return fields
  caption = fields.get('caption', [])
  if isinstance(caption, dict):
    fields.setdefault('captions', caption)
    caption = []
  rest = caption if isinstance(caption, list) else [caption]
  return {**fields, 'caption': [*texts, *rest]}


def has_texts(fields: raw_records.Fields) -> bool:
  """Whether fields have a caption or a question."""
  return any(
    captions.is_caption_field(field) or field in ('question', 'questions')
    for field in fields
  )


def _read_object(
  text: str, options: image_rows.Options, aliased: tuple[str, ...]
) -> raw_records.Fields:
  try:
    row = text_files.parse_json(text)
  except ValueError as error:
    raise ConfigError(f'its .json is not valid JSON: {error}') from error
  if not isinstance(row, dict):
    raise ConfigError(f'its .json should hold an object, not {row!r:.80}')
  names = columns.resolve(tuple(row), options.columns, aliased)
  # The image and the id are those of the sample, not of its .json.
  fields = image_rows.rename(row, names, options.further)
  return {
    {'image': 'file', 'id': 'own_id'}.get(key, key): value
    for key, value in fields.items()
  }


def is_long(text: str) -> bool:
  """Whether a caption has several lines, and may be several captions."""
  return '\n' in text.strip()
