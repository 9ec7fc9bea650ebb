"""What the published autoencoders of images have in common."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.pretrained import base, forms, keys
from mmjax.types import Array, Batch

# Fields of config.json of diffusers, and their defaults.
DIFFUSERS = {
  'in_channels': 3,
  'out_channels': 3,
  'down_block_types': ['DownEncoderBlock2D'],
  'up_block_types': ['UpDecoderBlock2D'],
  'block_out_channels': [64],
  'layers_per_block': 1,
  'act_fn': 'silu',
  'norm_num_groups': 32,
  'mid_block_add_attention': True,
}
_CONVOLUTION = forms.Convolution()
_BLOCKS = {
  'down_block_types': 'DownEncoderBlock2D',
  'up_block_types': 'UpDecoderBlock2D',
}


class PublishedAutoencoder(base.Pretrained):
  """A published autoencoder; images are float32 [B, H, W, C] in -1..1."""

  def reconstruct(self, images: Any) -> Array:
    """Encodes images [B, H, W, C] and decodes them again."""
    batch = {'image': jnp.asarray(images, jnp.float32)}
    return self.jit_method('reconstruct')(self.params, batch).values

  def encode_tokens(self, images: Any) -> Array:
    """Token ids [B, h, w] of images.

    Raises:
      ConfigError: for a model of latents.
    """
    return self._call('encode_tokens', jnp.asarray(images, jnp.float32))

  def decode_tokens(self, ids: Any) -> Array:
    """Images [B, H, W, C] of token ids [B, h, w].

    Raises:
      ConfigError: for a model of latents.
    """
    return self._call('decode_tokens', jnp.asarray(ids, jnp.int32))

  def encode_latents(self, images: Any) -> Array:
    """Latents [B, h, w, C] of images, shifted and scaled for a diffusion model.

    Raises:
      ConfigError: for a model of tokens.
    """
    return self._call('encode_latents', jnp.asarray(images, jnp.float32))

  def decode_latents(self, latents: Any) -> Array:
    """Images [B, H, W, C] of what `encode_latents` gives.

    Raises:
      ConfigError: for a model of tokens.
    """
    return self._call('decode_latents', jnp.asarray(latents, jnp.float32))

  def _call(self, method: str, array: Array) -> Array:
    return self.jit_method(method)(self.params, array)


@dataclasses.dataclass(frozen=True)
class Names:
  """How a library names the tensors of an autoencoder.

  A name with `{level}` or `{block}` has their numbers there.

  Attributes:
    encoder_block: a residual block of the encoder.
    decoder_block: a residual block of the decoder, whose levels count from the
      smallest map.
    downsample: the convolution after an encoder's level.
    upsample: the convolution after a decoder's level.
    middle_blocks: the two blocks of the smallest map.
    middle_attention: the attention between them.
    norm: norm of attention.
    projections: projections of attention, by our names.
    shortcut: the convolution of a block's shortcut.
    last_norm: the norm before the last convolution.
    pointwise: whether projections of attention are convolutions.
    encoder_attention: attention after a block of the encoder; '' for none.
    decoder_attention: settings of attention of the decoder.
  """

  encoder_block: str
  decoder_block: str
  downsample: str
  upsample: str
  middle_blocks: tuple[str, str]
  middle_attention: str
  norm: str
  projections: Mapping[str, str]
  shortcut: str
  last_norm: str
  pointwise: bool = False
  encoder_attention: str = ''
  decoder_attention: str = ''


DIFFUSERS_NAMES = Names(
  encoder_block='down_blocks.{level}.resnets.{block}',
  decoder_block='up_blocks.{level}.resnets.{block}',
  downsample='down_blocks.{level}.downsamplers.0.conv',
  upsample='up_blocks.{level}.upsamplers.0.conv',
  middle_blocks=('mid_block.resnets.0', 'mid_block.resnets.1'),
  middle_attention='mid_block.attentions.0',
  norm='group_norm',
  projections={
    'query': 'to_q',
    'key': 'to_k',
    'value': 'to_v',
    'out': 'to_out.0',
  },
  shortcut='conv_shortcut',
  last_norm='conv_norm_out',
)
# Names of attention in files of before 2023.
DIFFUSERS_ALIASES = tuple(
  (rf'((?:en|de)coder\.mid_block\.attentions\.0)\.{old}', rf'\1.{new}')
  for old, new in {
    'query': 'to_q',
    'key': 'to_k',
    'value': 'to_v',
    'proj_attn': 'to_out.0',
  }.items()
)


def read_diffusers(values: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of an `ImageAutoencoder` from a config.json of diffusers.

  Args:
    values: fields of `DIFFUSERS`.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  channels = values['block_out_channels']
  for name, kind in _BLOCKS.items():
    if values[name] != [kind] * len(channels):
      raise ConfigError(
        f'config.json: {name} is {values[name]!r}; mmjax reads only '
        f'{kind!r}, as often as there are block_out_channels'
      )
  if values['act_fn'] != 'silu':
    raise ConfigError(
      f'config.json: act_fn is {values["act_fn"]!r}; mmjax reads only '
      "'silu' here"
    )
  if any(number % channels[0] for number in channels):
    raise ConfigError(
      f'config.json: block_out_channels is {channels}; mmjax reads only '
      'multiples of the first here'
    )
  check_channels(values)
  return {
    'width': channels[0],
    'multipliers': tuple(number // channels[0] for number in channels),
    'num_blocks': values['layers_per_block'],
    'channels': values['in_channels'],
    'middle_attention': values['mid_block_add_attention'],
    'groups': values['norm_num_groups'],
  }


def check_channels(values: Mapping[str, Any]) -> None:
  """Refuses models whose images have another number of channels than inputs.

  Raises:
    ConfigError: naming both.
  """
  if values['in_channels'] != values['out_channels']:
    raise ConfigError(
      f'config.json: in_channels is {values["in_channels"]} and out_channels '
      f'{values["out_channels"]}; mmjax reads only equal ones'
    )


def inputs(module: Any) -> Batch:
  """Shapes of one example; parameters don't depend on the size of images."""
  side = 2 * module.factor
  shape = (1, side, side, module.channels)
  return {'image': jax.ShapeDtypeStruct(shape, jnp.float32)}


def rules(module: Any, names: Names) -> list[keys.Rule]:
  """The key table of an `ImageAutoencoder`, but for its codebook.

  Args:
    module: the module.
    names: the library's.
  """
  table = []
  for ours in ('encoder', 'decoder'):
    half = _half_rules(module, names, ours == 'encoder')
    table += keys.add_prefixes(half, f'{ours}/', f'{ours}.')
  if module.projected:
    table += _convolution('to_codes', 'quant_conv')
    table += _convolution('from_codes', 'post_quant_conv')
  return table


def _half_rules(module: Any, names: Names, encodes: bool) -> list[keys.Rule]:
  last = len(module.multipliers) - 1
  table = [
    *_convolution('stem', 'conv_in'),
    *keys.norm('norm', names.last_norm),
    *_convolution('head', 'conv_out'),
  ]
  for i, theirs in enumerate(names.middle_blocks):
    table += _block(f'middle/block{i}', theirs, names.shortcut, False)
  if module.middle_attention:
    table += _attention('middle/attention', names.middle_attention, names)
  before = 1 if encodes else module.multipliers[-1]
  levels = range(last + 1) if encodes else range(last, -1, -1)
  for level in levels:
    their_level = level if encodes else last - level
    factor = module.multipliers[level]
    for i in range(module.num_blocks + (not encodes)):
      place = {'level': their_level, 'block': i}
      theirs = names.encoder_block if encodes else names.decoder_block
      table += _block(
        f'level{level}_block{i}',
        theirs.format(**place),
        names.shortcut,
        factor != before,
      )
      before = factor
      if level in module.attention_levels:
        theirs = names.encoder_attention if encodes else names.decoder_attention
        table += _attention(
          f'level{level}_attention{i}', theirs.format(**place), names
        )
    if encodes and level < last:
      theirs = names.downsample.format(level=their_level)
      table += _convolution(f'level{level}_downsample', theirs)
    if not encodes and level > 0:
      theirs = names.upsample.format(level=their_level)
      table += _convolution(f'level{level}_upsample', theirs)
  return table


def _block(
  ours: str, theirs: str, shortcut: str, has_shortcut: bool
) -> list[keys.Rule]:
  table = []
  for i in range(2):
    table += keys.norm(f'{ours}/norm{i}', f'{theirs}.norm{i + 1}')
    table += _convolution(f'{ours}/conv{i}', f'{theirs}.conv{i + 1}')
  if has_shortcut:
    table += _convolution(f'{ours}/shortcut', f'{theirs}.{shortcut}')
  return table


def _attention(ours: str, theirs: str, names: Names) -> list[keys.Rule]:
  table = keys.attention(f'{ours}/attention', theirs, names.projections)
  if names.pointwise:
    table = [
      dataclasses.replace(rule, form=forms.Pointwise(rule.form))
      if rule.ours.endswith('kernel')
      else rule
      for rule in table
    ]
  return [*keys.norm(f'{ours}/norm', f'{theirs}.{names.norm}'), *table]


def _convolution(ours: str, theirs: str) -> list[keys.Rule]:
  return [
    keys.Rule(f'{ours}/kernel', f'{theirs}.weight', _CONVOLUTION),
    keys.Rule(f'{ours}/bias', f'{theirs}.bias'),
  ]
