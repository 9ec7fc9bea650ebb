"""EnCodec (Défossez et al. 2022), as published: sounds as tokens, and back."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  forms,
  keys,
  preprocess_audio,
  processors,
  sections,
)
from mmjax.types import Batch

_DEFAULTS = {
  'target_bandwidths': [1.5, 3.0, 6.0, 12.0, 24.0],
  'sampling_rate': 24_000,
  'hidden_size': 128,
  'num_filters': 32,
  'num_residual_layers': 1,
  'upsampling_ratios': [8, 5, 4, 2],
  'kernel_size': 7,
  'last_kernel_size': 7,
  'residual_kernel_size': 3,
  'dilation_growth_rate': 2,
  'use_causal_conv': True,
  'compress': 2,
  'num_lstm_layers': 2,
  'codebook_size': 1024,
  'codebook_dim': None,
  'use_conv_shortcut': True,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    # The model of 48 kHz has other values of all but the last two.
    only={
      'audio_channels': 1,
      'chunk_length_s': None,
      'norm_type': 'weight_norm',
      'normalize': False,
      'overlap': None,
      'pad_mode': 'reflect',
      'trim_right_ratio': 1.0,
    },
  )
}
_MOST_CODEBOOKS = 256
# What training moves the vectors with.
KEPT = (r'quantizer\.layers\.\d+\.codebook\.(?:inited|cluster_size|embed_avg)',)
# Names of weight norm before PyTorch 2.
ALIASES = tuple(
  (rf'(.*)\.weight_{old}$', rf'\1.parametrizations.weight.original{new}')
  for old, new in (('g', 0), ('v', 1))
)


class Model(base.Pretrained):
  """EnCodec.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocessor.sample_rate`.
  """

  @functools.cached_property
  def preprocessor(self) -> preprocess_audio.SamplePreprocessor:
    """The preprocessor that reads sounds."""
    rate = _values(self.config)['sampling_rate']
    found = processors.find(self.files, processors.SOUNDS)
    if found is None:
      return preprocess_audio.SamplePreprocessor(rate)
    settings, file = found
    return preprocess_audio.SamplePreprocessor.from_config(settings, rate, file)

  @property
  def bandwidths(self) -> tuple[float, ...]:
    """Bandwidths in kilobits a second that the model was trained for."""
    return tuple(_values(self.config)['target_bandwidths'])

  def encode_tokens(
    self, sounds: Any, bandwidth: float | None = None
  ) -> np.ndarray:
    """Encodes one or several sounds to token ids, int32 [B, K, T].

    Shorter sounds are padded with silence at the end, which is encoded too. A
    sound of N samples has T = N / hop, rounded up, of its own.

    Args:
      sounds: paths of .wav files, or floats [N] in -1..1.
      bandwidth: one of `bandwidths`, which determines the number K of
        codebooks; None for the least, as in transformers.

    Raises:
      ConfigError: for another bandwidth, or a sound that can't be read.
    """
    number = self.count_codebooks(bandwidth)
    samples, _ = self.preprocessor(base.as_list(sounds))
    encode = self.jit_method('encode_tokens', number=number)
    return np.asarray(encode(self.params, samples))

  def decode_tokens(self, ids: Any) -> np.ndarray:
    """Decodes token ids to samples, float32 [B, T * hop].

    Args:
      ids: whole numbers [B, K, T], of the first K codebooks.

    Raises:
      ConfigError: for an array of another shape, or an id that is not one of
        a codebook's.
    """
    ids = self.module.check_tokens(ids)
    decode = self.jit_method('decode_tokens')
    return np.asarray(decode(self.params, ids))

  def reconstruct(
    self, sounds: Any, bandwidth: float | None = None
  ) -> list[np.ndarray]:
    """Encodes sounds and decodes them again: float32 [N] each, of its length.

    Args:
      sounds: sounds, as in `encode_tokens`.
      bandwidth: bandwidth, as in `encode_tokens`.

    Raises:
      ConfigError: as `encode_tokens`.
    """
    sounds = base.as_list(sounds)
    _, lengths = self.preprocessor(sounds)
    decoded = self.decode_tokens(self.encode_tokens(sounds, bandwidth))
    return [row[:n] for row, n in zip(decoded, lengths, strict=True)]

  def count_codebooks(self, bandwidth: float | None = None) -> int:
    """Number of codebooks of a bandwidth in kilobits a second.

    Raises:
      ConfigError: if it is not one of `bandwidths`.
    """
    bandwidth = self.bandwidths[0] if bandwidth is None else bandwidth
    if bandwidth not in self.bandwidths:
      raise ConfigError(
        f'bandwidth={bandwidth} is not one of the model; use one of '
        f'{", ".join(map(str, self.bandwidths))}'
      )
    bits = _bits_per_codebook(_values(self.config))
    return max(1, int(bandwidth * 1000 // bits))


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.SoundAutoencoder:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  values = _values(config)
  depth = 1000 * values['target_bandwidths'][-1] // _bits_per_codebook(values)
  return models.SoundAutoencoder(
    layout=dataclasses.asdict(_layout(values)),
    codebook=mnn.CODEBOOKS['rvq'](
      values['codebook_size'],
      values['hidden_size'],
      depth=int(depth),
      update='gradient',
    ),
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example; parameters don't depend on its length."""
  shape = (1, 2 * _layout(_values(config)).hop)
  return {'sound': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  built, layout = module(config), _layout(_values(config))
  table = [
    keys.Rule(
      f'codebook/layers_{i}/embedding', f'quantizer.layers.{i}.codebook.embed'
    )
    for i in range(built.codebook.depth)
  ]
  for half, layers in (
    ('encoder', _encoder_layers(layout)),
    ('decoder', _decoder_layers(layout)),
  ):
    for i, layer in enumerate(layers):
      theirs = f'{half}.layers.{i}'
      if layer == 'lstm':
        table += _lstm(f'{half}/lstm', f'{theirs}.lstm', layout)
      elif '_block' in layer:
        table += _block(f'{half}/{layer}', theirs, layout)
      elif layer:
        table += _convolution(f'{half}/{layer}', theirs)
  return table


def _encoder_layers(layout: mnn.SoundLayout) -> list[str]:
  """Our names of the layers of an encoder, in order; '' for an activation."""
  levels = (
    [*_block_names(layout, level), '', f'level{level}_downsample']
    for level in range(len(layout.ratios))
  )
  return ['stem', *itertools.chain(*levels), 'lstm', '', 'head']


def _decoder_layers(layout: mnn.SoundLayout) -> list[str]:
  levels = (
    ['', f'level{level}_upsample', *_block_names(layout, level)]
    for level in reversed(range(len(layout.ratios)))
  )
  return ['stem', 'lstm', *itertools.chain(*levels), '', 'head']


def _block_names(layout: mnn.SoundLayout, level: int) -> list[str]:
  return [f'level{level}_block{i}' for i in range(layout.num_blocks)]


def _block(
  ours: str, theirs: str, layout: mnn.SoundLayout
) -> Sequence[keys.Rule]:
  # Between the convolutions are activations.
  names = {'conv0': 'block.1', 'conv1': 'block.3'}
  if layout.conv_shortcut:
    names['shortcut'] = 'shortcut'
  return [
    rule
    for our, their in names.items()
    for rule in _convolution(f'{ours}/{our}', f'{theirs}.{their}')
  ]


def _convolution(ours: str, theirs: str) -> list[keys.Rule]:
  """Rules of a convolution, also of a transposed one, with weight norm."""
  weight = f'{theirs}.conv.parametrizations.weight'
  return [
    keys.Rule(f'{ours}/scale', f'{weight}.original0', forms.Trail(2)),
    keys.Rule(f'{ours}/kernel', f'{weight}.original1', forms.Convolution()),
    keys.Rule(f'{ours}/bias', f'{theirs}.conv.bias'),
  ]


def _lstm(
  ours: str, theirs: str, layout: mnn.SoundLayout
) -> Sequence[keys.Rule]:
  table = []
  for i in range(layout.lstm_layers):
    for our, their in (('input', 'ih'), ('recurrent', 'hh')):
      kernel, bias = f'{theirs}.weight_{their}_l{i}', f'bias_{their}_l{i}'
      table += [
        keys.Rule(f'{ours}{i}/{our}_kernel', kernel, forms.Linear()),
        keys.Rule(f'{ours}{i}/{our}_bias', f'{theirs}.{bias}'),
      ]
  return table


def _layout(values: Mapping[str, Any]) -> mnn.SoundLayout:
  return mnn.SoundLayout(
    width=values['num_filters'],
    ratios=tuple(values['upsampling_ratios']),
    num_blocks=values['num_residual_layers'],
    kernel_size=values['kernel_size'],
    last_kernel_size=values['last_kernel_size'],
    block_kernel_size=values['residual_kernel_size'],
    dilation_growth=values['dilation_growth_rate'],
    compress=values['compress'],
    lstm_layers=values['num_lstm_layers'],
    causal=values['use_causal_conv'],
    conv_shortcut=values['use_conv_shortcut'],
  )


def _bits_per_codebook(values: Mapping[str, Any]) -> int:
  """Bits a second of the ids of one codebook; steps are rounded up."""
  steps = math.ceil(values['sampling_rate'] / _layout(values).hop)
  return steps * (values['codebook_size'].bit_length() - 1)


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section(config, '', _DEFAULTS)
  size, channels = values['codebook_size'], values['hidden_size']
  if size < 2 or size & (size - 1):
    raise ConfigError(
      f'config.json: codebook_size is {size}; mmjax reads only powers of two, '
      'from 2'
    )
  if (values['codebook_dim'] or channels) != channels:
    raise ConfigError(
      f'config.json: codebook_dim is {values["codebook_dim"]}; mmjax reads '
      f'only that of hidden_size, {channels}'
    )
  if min(values['upsampling_ratios'], default=0) < 1:
    raise ConfigError(
      f'config.json: upsampling_ratios is {values["upsampling_ratios"]}; mmjax '
      'reads only numbers from 1, at least one'
    )
  rates, bits = values['target_bandwidths'], _bits_per_codebook(values)
  if not (rates and 1 <= 1000 * rates[-1] / bits < _MOST_CODEBOOKS + 1):
    raise ConfigError(
      f'config.json: target_bandwidths is {rates}; the last one should be that '
      f'of 1 to {_MOST_CODEBOOKS} codebooks, of {bits / 1000} kilobits a second'
    )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  kept=KEPT,
  aliases=ALIASES,
)
