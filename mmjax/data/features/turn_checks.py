"""Refuses conversations from which a model would learn what is not there."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data.features import turn_values
from mmjax.errors import ConfigError


def refuse_placeholders(
  feature: Any,
  turns: Sequence[Mapping],
  found: Sequence[int],
  wanted: Sequence[int],
) -> None:
  """Refuses ids with other placeholders than those of what the turns have.

  Args:
    feature: the conversation's feature.
    turns: its placed turns.
    found: the placeholders in the ids.
    wanted: those of its images, videos or sounds, in their order.

  Raises:
    ConfigError: naming the turn that has a placeholder as a text, if any.
  """
  marks = {
    feature.placeholder: feature.image,
    feature.image_mark: feature.image,
    feature.video_placeholder: feature.video,
    feature.sound_placeholder: feature.sound,
  }
  for at, turn in enumerate(turns, 1):
    texts = [item for item in turn['content'] if isinstance(item, str)]
    for token, names in marks.items():
      if token and names and token in ' '.join(texts):
        name = names if isinstance(names, str) else names[0]
        word = _name_medium(feature, name)
        raise ConfigError(
          f'{feature.name}: turn {at} has the text {token!r}, which stands for '
          f'{word}; remove it, or refer to {word} as {turn_values.refer(name)}'
        )
  if sorted(found) == sorted(wanted):
    raise ConfigError(
      f'{feature.name}: the chat template writes '
      f'{" and ".join(list_words(feature))} in another order than the '
      'conversation has them; use one that keeps it'
    )
  tokens = [token for token, names in marks.items() if token and names]
  raise ConfigError(
    f'{feature.name} has {len(found)} tokens {" or ".join(map(repr, tokens))} '
    f'and refers to {len(wanted)} {" and ".join(list_words(feature))}; take '
    f'the chat template and the placeholders of data.features.{feature.name} '
    'of one model'
  )


def list_words(feature: Any) -> list[str]:
  """What can stand in a conversation, in the plural, such as ['images']."""
  words = ('image', 'video', 'sound')
  return [f'{word}s' for word in words if getattr(feature, word)]


def _name_medium(feature: Any, name: str) -> str:
  """What one of the features of a conversation has, with its article."""
  return {feature.video: 'a video', feature.sound: 'a sound'}.get(
    name, 'an image'
  )


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


def check_media(
  feature: Any, ids: Sequence[int], token_ids: Mapping[str, int]
) -> None:
  """Refuses a conversation whose length cuts tokens of images or sounds.

  Args:
    feature: the conversation's feature.
    ids: its ids, uncut.
    token_ids: the placeholder of each type of part.
  """
  words = {'image': 'an image', 'video': 'a video', 'audio': 'a sound'}
  for kind, token_id in token_ids.items():
    if token_id in ids[feature.length :]:
      raise ConfigError(
        f'{feature.name}: the length {feature.length} of {len(ids)} tokens '
        f'cuts off tokens of {words[kind]}; raise '
        f'data.features.{feature.name}.length'
      )


def check_loss_mask(
  feature: Any, ids: Sequence[int], loss_mask: Sequence[bool]
) -> None:
  """Refuses a conversation of which a model would learn nothing."""
  if not any(loss_mask):
    raise ConfigError(
      f'{feature.name}: nothing that the assistant says is in the '
      'conversation; leave the record out, or set '
      f'data.features.{feature.name}.requires_answer=False if it is only read'
    )
  # Nothing is before the first token to predict it from.
  if not any(loss_mask[1 : feature.length]):
    raise ConfigError(
      f'{feature.name}: the length {feature.length} cuts off all that the '
      f'assistant says, from token {loss_mask.index(True) + 1} of '
      f'{len(ids)} on; raise data.features.{feature.name}.length'
    )
