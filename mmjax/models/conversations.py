"""What conversations with images and others need of a model's settings."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mmjax import encoders, models
from mmjax.data import features as features_lib
from mmjax.data import tokenizers
from mmjax.errors import ConfigError

# Settings of `PackedViT` that those of its patches must equal.
_SHARED = ('patch_size', 'merge_size', 'temporal_patch_size', 'window')


def check(
  model: Mapping[str, Any],
  features: Mapping[str, features_lib.Feature],
  outputs: models.OutputSpec,
) -> None:
  """Refuses a model that can't read the images of its conversations.

  Args:
    model: a config's `model`.
    features: features by name.
    outputs: what the tasks need the model to return.

  Raises:
    ConfigError: naming the settings that contradict each other.
  """
  turns = features.get(outputs.text)
  if not isinstance(turns, features_lib.Turns) or not turns.media_names:
    return
  turns = turns.with_features(features)
  vision = dict(model.get('vision') or {})
  block = dict((model.get('decoder') or {}).get('block') or {})
  axes = (block.get('rope') or {}).get('sections')
  for name, feature in turns.media_features.items():
    where = f'data.features.{name}'
    if isinstance(feature, features_lib.Patches):
      _check_patches(where, feature, vision)
    elif axes and not isinstance(feature, features_lib.Sounds):
      raise ConfigError(
        f'{where} is of the kind {feature.kind}, but the rotary sections of '
        'model.decoder need the rows and columns of images; make it of the '
        "kind 'patches'"
      )


def check_built(
  model: nn.Module,
  features: Mapping[str, features_lib.Feature],
  outputs: models.OutputSpec,
) -> None:
  """Refuses a model that can't read the images or sounds of conversations.

  Args:
    model: the model.
    features: features by name.
    outputs: what the tasks need the model to return.

  Raises:
    ConfigError: if it does not read one of these, or its tokens of sounds are
      not those that the data counts.
  """
  turns = features.get(outputs.text)
  if not isinstance(turns, features_lib.Turns) or not turns.media_names:
    return
  hears = hasattr(model, 'input_sounds')
  sees = not hears or getattr(model, 'vision', None) is not None
  for setting in features_lib.name_media(turns):
    if not (hears if setting == 'sound' else sees):
      name = 'interleaved_audio' if setting == 'sound' else 'interleaved'
      turns.refuse(
        setting,
        f'has no place in a {type(model).__name__}; use the model {name!r}',
      )
  is_known = isinstance(model, models.InterleavedAudioLanguage)
  if is_known and turns.sound in features:
    _check_sounds(features[turns.sound], model)


def _check_sounds(
  feature: features_lib.Sounds, model: models.InterleavedAudioLanguage
) -> None:
  spectrogram = encoders.FromSamples(None, **(model.spectrogram or {}))
  step = spectrogram.hop * math.prod(model.audio.strides)
  for name, number, what in (
    ('step', step, 'spectrogram.hop times model.audio.strides'),
    ('merged', model.audio.merged, 'audio.merged'),
  ):
    if getattr(feature, name) != number:
      raise ConfigError(
        f'data.features.{feature.name}.{name} is {getattr(feature, name)}, but '
        f'model.{what} is {number}; make them equal'
      )


def _check_patches(
  where: str, feature: features_lib.Patches, vision: Mapping[str, Any]
) -> None:
  if vision.get('name') != 'packed_vit':
    raise ConfigError(
      f'{where} is of the kind {feature.kind}, which model.vision of the name '
      f"{vision.get('name')!r} does not encode; use 'packed_vit'"
      + (", or the kind 'images'" if feature.kind == 'patches' else '')
    )
  settings = {**models.settings_of('packed_vit'), **vision}
  for name in _SHARED:
    if getattr(feature, name) != settings[name]:
      raise ConfigError(
        f'{where}.{name} is {getattr(feature, name)}, but model.vision.{name} '
        f'is {settings[name]}; make them equal'
      )


def name_placeholders(model: Any) -> dict[str, int]:
  """Ids of a model's placeholders, by the setting that names such media.

  Args:
    model: a model with `placeholders`.
  """
  ids = tuple(model.placeholders)
  named = {}
  if ids and hasattr(model, 'input_sounds'):
    *ids, named['sound'] = ids
  if ids:
    # Of two, the second are videos.
    named |= {'image': ids[0], 'video': ids[-1]}
  return named


def set_placeholder(
  model: Mapping[str, Any],
  feature: features_lib.Feature | None,
  tokenizer: tokenizers.Tokenizer | None,
) -> Mapping[str, Any]:
  """Settings of a model with media where conversations have them.

  The placeholder of images comes before that of videos, and that of sounds
  last; a model that hears keeps it, also where its conversations have none.
  Other tokens that stand for something in the published model are words.

  Args:
    model: a config's `model`.
    feature: what the model writes.
    tokenizer: the run's.

  Raises:
    ConfigError: if they stand at other tokens than the model's.
  """
  if not isinstance(feature, features_lib.Turns):
    return model
  placeholders = tuple(model.get('placeholders') or ())
  named = features_lib.name_media(feature)
  if not named:
    return {**model, 'placeholders': ()} if placeholders else model
  names = [features_lib.PLACEHOLDERS[setting] for setting in named]
  chosen = tuple(tokenizer.find_id(getattr(feature, name)) for name in names)
  for name, found in zip(names, chosen, strict=True):
    if found not in placeholders:
      raise ConfigError(
        f'data.features.{feature.name}.{name}={getattr(feature, name)!r} has '
        f'the id {found}, but the model has the placeholders {placeholders}; '
        'name that token, or set model.placeholders in a model named '
        "'interleaved' or 'interleaved_audio'"
      )
  if model.get('audio') and 'sound' not in named:
    chosen += placeholders[-1:]
  return {**model, 'placeholders': chosen}
