"""Settings of inputs that belong to published weights."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import tokenizers

from mmjax import encoders
from mmjax.data import feeds
from mmjax.data import tiles as tiles_lib
from mmjax.pretrained import (
  base,
  classifiers,
  configs,
  interleaved,
  janus,
  listeners,
  llava_onevision,
  patches,
  preprocess,
  preprocess_audio,
  processors,
  qwen_vl,
  sentences,
  tokenizer_settings,
)

_SCHEMES = {
  tiles_lib.PaddedCutter: 'padded',
  tiles_lib.RatioCutter: 'ratio',
  tiles_lib.SideCutter: 'sides',
}
# Length of the Fourier transform of Kaldi's filter banks.
_FBANK_FFT = 512


def convert_images(
  prepares: preprocess.ImagePreprocessor,
) -> tuple[dict[str, Any], str]:
  """Settings of `data` of a published preprocessing, and how they differ."""
  # Theirs are of scaled pixels, ours of pixels in [0, 1].
  scale = np.full(3, 255 * prepares.rescale_factor)
  data: dict[str, Any] = {
    'mean': tuple((prepares.mean / scale).tolist()),
    'std': tuple((prepares.std / scale).tolist()),
  }
  edge = prepares.shortest_edge
  size = prepares.crop_size or prepares.size or ((edge, edge) if edge else None)
  if size is None:
    return data, (
      'training makes all images of one size, data.image_size, which the '
      'published preprocessing does not'
    )
  data |= {'image_size': size, 'resize': 'crop' if edge else 'stretch'}
  if isinstance(prepares, janus.SquarePreprocessor):
    return {**data, 'resize': 'pad'}, (
      'training pads images to squares with white, where the published '
      'preprocessing pads them with the mean color'
    )
  before = edge or prepares.size
  if edge and not prepares.crop_size:
    return data, f'training crops to {size}; the published preprocessing not'
  if before in (None, size, *size):
    return data, ''
  return data, (
    f'training resizes images to {size} at once, where the published '
    f'preprocessing first makes {"their shorter side" if edge else "them"} '
    f'{before} and crops'
  )


def convert_frames(
  image: Mapping[str, Any], encoder: nn.Module
) -> dict[str, Any]:
  """Settings of a feature of images or videos.

  Args:
    image: settings of `data`, see `convert_images`.
    encoder: of images or videos; the latter have a number of frames.
  """
  names = feeds.STANDARD['image'].items()
  settings = {ours: image[name] for ours, name in names if name in image}
  if number := getattr(encoder, 'num_frames', 0):
    settings['number'] = number
  return settings


def convert_sized(
  model: type[base.Pretrained],
  prepares: Any,
  module: nn.Module,
  config: Mapping[str, Any],
  files: Mapping[str, bytes],
) -> dict[str, dict[str, Any]]:
  """Settings of features of images of any size and of videos, by kind.

  Args:
    model: class of a published model.
    prepares: the published preprocessing of images.
    module: the published model.
    config: its config.json.
    files: small files of its folder, by name.

  Returns:
    {} for a preprocessing that makes all images of one size.
  """
  if isinstance(prepares, patches.PatchPreprocessor):
    own = {'patches': _convert_patches(prepares, module.vision)}
    if issubclass(model, qwen_vl.QwenVL):
      own |= _convert_videos(model, module.vision, config, files)
    return own
  cutter = getattr(prepares, 'cutter', None)
  if type(cutter) not in _SCHEMES:
    return {}
  data, _ = convert_images(prepares.image_preprocessor)
  settings = dataclasses.asdict(cutter)
  file = tokenizer_settings.FILE
  words = configs.parse(files[file], file) if file in files else {}
  for name in {'start', 'end'} & settings.keys():
    settings[name] = words.get(f'{name}_image_token', settings[name])
  if isinstance(cutter, tiles_lib.PaddedCutter):
    settings['most'] = llava_onevision.read_most(config)
  settings['resample'] = int(settings['resample'])
  normal = {name: data[name] for name in ('mean', 'std')}
  return {'tiles': {'scheme': _SCHEMES[type(cutter)], **settings, **normal}}


def convert_image_text(
  model: type[base.Pretrained],
  config: Mapping[str, Any],
  files: Mapping[str, bytes],
  tokenizer: Path | None,
) -> dict[str, dict[str, Any]]:
  """Settings of conversations' features: what is read for an image.

  Args:
    model: class of a published model.
    config: its config.json.
    files: small files of its folder, by name.
    tokenizer: its tokenizer.json; None if it has none.

  Returns:
    By kind of feature; {} for a model that reads the placeholder alone, or no
    images among words.

  Raises:
    ConfigError: if the tokenizer lacks a token.
  """
  if tokenizer is None or not issubclass(
    model, interleaved.PublishedInterleaved
  ):
    return {}
  file = tokenizer_settings.FILE
  words = configs.parse(files[file], file) if file in files else {}
  find_token = tokenizers.Tokenizer.from_file(str(tokenizer)).id_to_token
  found = model.read_expansion(config, words, find_token)
  if found is None:
    return {}
  return {'turns': {'image_text': found.parts, 'image_mark': found.mark}}


def _convert_patches(
  prepares: patches.PatchPreprocessor, encoder: encoders.PackedViT
) -> dict[str, Any]:
  """Settings of a feature of the kind patches."""
  data, _ = convert_images(prepares.image_preprocessor)
  shared = (
    'patch_size',
    'merge_size',
    'temporal_patch_size',
    'min_pixels',
    'max_pixels',
  )
  return {
    'mean': data['mean'],
    'std': data['std'],
    'window': encoder.window,
    **{name: getattr(prepares, name) for name in shared},
  }


def _convert_videos(
  model: type[qwen_vl.QwenVL],
  encoder: encoders.PackedViT,
  config: Mapping[str, Any],
  files: Mapping[str, bytes],
) -> dict[str, dict[str, Any]]:
  """Settings of a feature of the kind videos."""
  prepares = model.make_video_preprocessor(files)
  names = ('scheme', 'fps', 'min_frames', 'max_frames')
  names += ('total_pixels', 'frame_pixels')
  return {
    'videos': {
      **_convert_patches(prepares, encoder),
      **{name: getattr(prepares, name) for name in names},
      'tokens_per_second': model.read_tokens_per_second(config),
      'assumes_fps': model.assumes_fps,
      'time_text': model.time_text,
    }
  }


def lacks_pooler(config: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
  """Whether a checkpoint is a BERT without the pooler that its class has.

  Args:
    config: its config.json.
    files: small files of its folder, by name.
  """
  return (
    config.get('model_type') == 'bert'
    and not sentences.is_encoder(files)
    and config.get('add_pooling_layer') is False
  )


def convert_sounds(
  encoder: encoders.AudioTransformer,
  sound: Mapping[str, Any],
  spectrogram: Mapping[str, Any],
) -> dict[str, Any]:
  """Settings of a feature of the sounds in conversations.

  Args:
    encoder: encodes their spectrograms.
    sound: settings of a sound's feature, of `find_sound`.
    spectrogram: settings of its spectrogram.
  """
  step = spectrogram['hop'] * math.prod(encoder.strides)
  return {**sound, 'step': step, 'merged': encoder.merged}


def find_sound(
  model: type[base.Pretrained], files: Mapping[str, bytes]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
  """Settings of a sound's feature, and of its spectrogram.

  Args:
    model: class of a published model that encodes sounds.
    files: small files of its folder, by name.

  Returns:
    None if no file has the settings of the preprocessing.

  Raises:
    ConfigError: for a setting that mmjax does not support.
  """
  match = processors.find(files, processors.SOUNDS)
  if match is None:
    return None
  if not issubclass(model, classifiers.PublishedAudioEncoder):
    whisper = preprocess_audio.AudioPreprocessor.from_config(*match)
    return (
      {'rate': whisper.sample_rate, 'seconds': float(whisper.seconds)},
      {
        'kind': 'log_mel',
        'num_mels': whisper.num_mels,
        'n_fft': whisper.n_fft,
        'hop': whisper.hop,
        'fills_silence': not issubclass(model, listeners.PublishedListener),
      },
    )
  fbank = preprocess_audio.FbankPreprocessor.from_config(*match)
  return (
    {'rate': fbank.sample_rate, 'seconds': fbank.length / fbank.sample_rate},
    {
      'kind': 'log_fbank',
      'num_mels': fbank.num_mels,
      'n_fft': _FBANK_FFT,
      'hop': fbank.HOP,
      'mean': fbank.mean,
      'scale': fbank.scale,
      'padding': 0.0,
    },
  )
