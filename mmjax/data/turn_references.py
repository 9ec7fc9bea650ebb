"""Refuses imported turns that refer to other images than their record has."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import extra_fields
from mmjax.errors import ConfigError


def check(
  extra: Sequence[extra_fields.ExtraField],
  values: Mapping[str, Any],
  *,
  has_image: bool,
) -> None:
  """Compares the references in turns with the images of a record.

  Args:
    extra: its fields besides the standard ones.
    values: their values by name.
    has_image: whether the record has the standard field `image`.

  Raises:
    ConfigError: for turns that refer to some images, but not to as many as
      there are; it names the turn.
  """
  for field in extra:
    if field.kind != 'turns' or field.name not in values:
      continue
    images = values.get(field.images, has_image and [b''])
    number = len(images) if isinstance(images, list) else int(bool(images))
    used = 0
    for at, turn in enumerate(values[field.name], 1):
      used += turn['content'].count({'field': field.images})
      if used > number:
        raise ConfigError(
          f'turn {at} of its {field.column} refers to image {used}, but the '
          f'record has {number} in {field.images!r}; import the images too, as '
          "in --fields=images=images:COLUMN, or take '<image>' out of the turn"
        )
    if 0 < used < number:
      raise ConfigError(
        f'the {len(values[field.name])} turns of its {field.column} refer to '
        f'{used} images, but the record has {number} in {field.images!r}; '
        "write '<image>' where each belongs"
      )
