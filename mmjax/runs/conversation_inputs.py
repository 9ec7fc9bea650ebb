"""Settings of conversations' features that come with published weights."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers

from mmjax import models
from mmjax.data import features
from mmjax.errors import ConfigError
from mmjax.models import conversations
from mmjax.runs import weight_source

# Settings that a config may have of its own: budgets of images and others.
_FREE = (
  *('min_pixels', 'max_pixels', 'longest', 'splits', 'most', 'seconds'),
  *('fps', 'min_frames', 'max_frames', 'total_pixels', 'frame_pixels'),
)
# What reads media in conversations, by the setting that names these.
_READERS = {
  'image': 'vision-language models',
  'video': 'only Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen2.5-Omni',
  'sound': 'only Qwen2-Audio, Qwen2.5-Omni',
}
# Kinds whose images keep their own sizes.
_SIZED = (features.Patches.kind, features.Tiles.kind, features.Videos.kind)


def list_settings(
  source: weight_source.WeightSource, data: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
  """The settings of features of conversations and of their images or sounds.

  Args:
    source: the trained model with placeholders for these.
    data: the config's `data`.

  Yields:
    The path in `data` and the value: the token that stands for them, what is
    written around it, and how they are prepared; how large or long they may be
    unless the config says so.
  """
  for name, media in _find_media(data):
    if 'tokenizer' in source.data:
      for key, value in _find_placeholders(source, media).items():
        yield f'features.{name}.{key}', value
      for key, value in _find_image_text(source, name).items():
        yield f'features.{name}.{key}', value
    for image in itertools.chain(*media.values()):
      yield from _list_own(source, image, data)


def list_sounds(
  source: weight_source.WeightSource,
  data: Mapping[str, Any],
  described: Mapping[str, Any],
) -> Iterator[tuple[str, Any]]:
  """The settings of features of sounds that come with their encoder.

  Args:
    source: has the encoder.
    data: the config's `data`.
    described: settings of the encoder in the model.

  Yields:
    The path in `data` and the value.
  """
  for _, media in _find_media(data):
    for name in itertools.chain(*media.values()):
      if data['features'].get(name, {}).get('kind') == features.Sounds.kind:
        own = dict(_list_own(source, name, data))
        own[f'features.{name}.merged'] = described.get('merged', 1)
        yield from own.items()


def _find_media(
  data: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
  """Features of conversations, and those of their images and others."""
  settings = ('image', 'video', 'sound')
  for name, own in (data.get('features') or {}).items():
    if own.get('kind') == features.Turns.kind:
      chosen = {key: own[key] for key in settings if own.get(key)}
      media = features.name_media(features.Turns(name=name, **chosen))
      if media:
        yield name, media


def _list_own(
  source: weight_source.WeightSource, name: str, data: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
  """The settings of a feature of images or sounds."""
  section = data['features'].get(name)
  for key, value in _find_settings(source, name, section).items():
    if key not in _FREE or key not in section:
      yield f'features.{name}.{key}', value


def keeps_sizes(data: Mapping[str, Any]) -> bool:
  """Whether images keep their own sizes, as patches, tiles or videos."""
  kinds = [own.get('kind') for own in (data.get('features') or {}).values()]
  return any(kind in _SIZED for kind in kinds)


def _find_placeholders(
  source: weight_source.WeightSource, media: Mapping[str, Any]
) -> dict[str, str]:
  """The tokens of images, videos and sounds, by their settings.

  Raises:
    ConfigError: for media that the model does not read in conversations.
  """
  tokenizer = tokenizers.Tokenizer.from_file(source.data['tokenizer'])
  ids = conversations.name_placeholders(source.module)
  if not any('tokens_per_second' in i.settings for i in source.inputs.values()):
    ids.pop('video', None)
  for setting, names in media.items():
    if setting not in ids:
      raise ConfigError(
        f'init_from={str(source.folder)!r} has no place for the {setting}s of '
        f'conversations, {names[0]!r}: {_READERS[setting]} and runs that began '
        f'from them have one; leave out the settings {setting!r}'
      )
  return {
    features.PLACEHOLDERS[setting]: tokenizer.id_to_token(ids[setting])
    for setting in media
  }


def _find_image_text(
  source: weight_source.WeightSource, name: str
) -> Mapping[str, Any]:
  """What is read for an image; {} if the source does not say so."""
  keys = features.Turns.encoder_settings
  own = [source.inputs.get(name), *source.inputs.values()]
  matches = [i.settings for i in own if i and set(keys) <= i.settings.keys()]
  return {key: matches[0][key] for key in keys} if matches else {}


def _find_settings(
  source: weight_source.WeightSource,
  image: str,
  section: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
  """Settings of a feature; none of one that `data` does not describe."""
  if section is None:
    return {}
  kind = section.get('kind')
  part = kind if kind in (*_SIZED, features.Sounds.kind) else 'image'
  own = source.inputs.get(image)
  match = own if own and image != 'image' else source.inputs.get(part)
  names = (
    features.KINDS[kind].encoder_settings if kind in features.KINDS else ()
  )
  settings = match.settings if match else {}
  return {k: v for k, v in settings.items() if k in (*names, *_FREE)}


def is_interleaved(described: Mapping[str, Any]) -> bool:
  """Whether a described model has images or sounds among its words."""
  cls = models.BUILT_IN.models.get(described.get('name'))
  return cls in (
    models.InterleavedVisionLanguage,
    models.InterleavedAudioLanguage,
  )
