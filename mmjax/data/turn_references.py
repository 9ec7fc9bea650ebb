"""Refuses imported turns that refer to what their record doesn't have."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import extra_fields
from mmjax.errors import ConfigError

# Placeholders of what stands in turns.
_PLACEHOLDERS = {'image': '<image>', 'video': '<video>', 'sound': '<audio>'}


def check(
  extra: Sequence[extra_fields.ExtraField],
  values: Mapping[str, Any],
  *,
  has_image: bool,
) -> None:
  """Compares the references in turns with the files of a record.

  Args:
    extra: its fields besides the standard ones.
    values: their values by name.
    has_image: whether the record has the standard field `image`.

  Raises:
    ConfigError: for turns that refer to some images, videos or sounds, but not
      to as many as there are; it names the turn.
  """
  single = {field.name for field in extra if field.kind == 'video'}
  for field in extra:
    if field.kind != 'turns' or field.name not in values:
      continue
    images = values.get(field.images, has_image and [b''])
    _compare(field, values[field.name], 'image', field.images, images)
    for word, name in (('video', field.videos), ('sound', field.sounds)):
      if name:
        files = values.get(name)
        # The value of a single video may be its frames.
        files = bool(files) if name in single else files
        _compare(field, values[field.name], word, name, files)


def _compare(
  field: extra_fields.ExtraField,
  turns: Sequence[Mapping[str, Any]],
  word: str,
  name: str,
  files: Any,
) -> None:
  """Compares the references to one field with what it has."""
  number = len(files) if isinstance(files, list) else int(bool(files))
  mark, used = _PLACEHOLDERS[word], 0
  for at, turn in enumerate(turns, 1):
    used += turn['content'].count({'field': name})
    if used > number:
      raise ConfigError(
        f'turn {at} of its {field.column} refers to {word} {used}, but the '
        f'record has {number} in {name!r}; import the {word}s too, as in '
        f"--fields={word}s={word}s:COLUMN, or take '{mark}' out of the turn"
      )
  if 0 < used < number:
    raise ConfigError(
      f'the {len(turns)} turns of its {field.column} refer to {used} {word}s, '
      f"but the record has {number} in {name!r}; write '{mark}' where each "
      'belongs'
    )
