"""Refuses conversations from which a model would learn what is not there."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data.features import turn_values
from mmjax.errors import ConfigError


def refuse_placeholders(
  feature: Any, turns: Sequence[Mapping], found: int, number: int
) -> None:
  """Refuses ids with another number of placeholders than of images or sounds.

  Args:
    feature: the conversation's feature.
    turns: its placed turns.
    found: number of placeholders.
    number: number of images or sounds.

  Raises:
    ConfigError: naming the turn that has the placeholder as a text, if any.
  """
  for at, turn in enumerate(turns, 1):
    texts = [item for item in turn['content'] if isinstance(item, str)]
    for token in (feature.placeholder, feature.image_mark):
      if token and token in ' '.join(texts):
        raise ConfigError(
          f'{feature.name}: turn {at} has the text {token!r}, which stands for '
          f'{_name(feature)}; remove it, or refer to {_name(feature)} as '
          f'{turn_values.refer(feature.media_names[0])}'
        )
  raise ConfigError(
    f'{feature.name} has {found} tokens {feature.placeholder!r} and refers to '
    f'{number} {feature.medium}s; take the chat template and '
    f'data.features.{feature.name}.placeholder of one model'
  )


def _name(feature: Any) -> str:
  return {'sound': 'a sound', 'image': 'an image'}[feature.medium]


def check_image_text(feature: Any) -> None:
  """Refuses parts of an image's text without the placeholder.

  Raises:
    ConfigError: naming the setting.
  """
  parts = feature.image_text
  if not all(isinstance(part, str) and part for part in parts):
    feature.refuse('image_text', 'is not legal: a list of texts and tokens')
  if parts and [*parts].count(feature.placeholder) != 1:
    feature.refuse(
      'image_text',
      f'is not legal: has placeholder={feature.placeholder!r} once',
    )
  if feature.image_mark and not parts:
    feature.refuse('image_mark', 'needs image_text too')


def check_media(feature: Any, ids: Sequence[int], token_id: int) -> None:
  """Refuses a conversation whose length cuts tokens of images or sounds."""
  if token_id in ids[feature.length :]:
    raise ConfigError(
      f'{feature.name}: the length {feature.length} of {len(ids)} tokens cuts '
      f'off tokens of {_name(feature)}; raise '
      f'data.features.{feature.name}.length'
    )


def check_learnt(
  feature: Any, ids: Sequence[int], learnt: Sequence[bool]
) -> None:
  """Refuses a conversation of which a model would learn nothing."""
  if not any(learnt):
    raise ConfigError(
      f'{feature.name}: nothing that the assistant says is in the '
      'conversation; leave the record out, or set '
      f'data.features.{feature.name}.requires_answer=False if it is only read'
    )
  # Nothing is before the first token to predict it from.
  if not any(learnt[1 : feature.length]):
    raise ConfigError(
      f'{feature.name}: the length {feature.length} cuts off all that the '
      f'assistant says, from token {learnt.index(True) + 1} of {len(ids)} on; '
      f'raise data.features.{feature.name}.length'
    )
