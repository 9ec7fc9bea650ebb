"""The tokens of Janus's images (Wu et al. 2024), those of LlamaGen."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.pretrained import autoencoders, base, configs, keys, sections
from mmjax.types import Batch

_DEFAULTS = {
  'embed_dim': 8,
  'num_embeddings': 16384,
  'latent_channels': 256,
  'in_channels': 3,
  'out_channels': 3,
  'base_channels': 128,
  'channel_multiplier': [1, 1, 2, 2, 4],
  'num_res_blocks': 2,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    only={'double_latent': False},
    # Of what reads the tokens, and of their number.
    irrelevant=(
      'projection_dim',
      'num_hidden_layers',
      'hidden_act',
      'image_token_embed_dim',
      'num_patches',
    ),
  )
}
NAMES = autoencoders.Names(
  encoder_block='down.{level}.block.{block}',
  decoder_block='up.{level}.block.{block}',
  downsample='down.{level}.downsample.conv',
  upsample='up.{level}.upsample.conv',
  middle_blocks=('mid.block_1', 'mid.block_2'),
  middle_attention='mid.attn_1',
  norm='norm',
  projections={'query': 'q', 'key': 'k', 'value': 'v', 'out': 'proj_out'},
  shortcut='nin_shortcut',
  last_norm='norm_out',
  pointwise=True,
  encoder_attention='down.{level}.attn.{block}',
  decoder_attention='up.{level}.attn.{block}',
)


class Model(autoencoders.PublishedAutoencoder):
  """JanusVQVAE; vectors have length 1 when they are decoded."""


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.ImageAutoencoder:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  values = configs.section(config, '', _DEFAULTS)
  autoencoders.check_channels(values)
  multipliers = tuple(values['channel_multiplier'])
  return models.ImageAutoencoder(
    width=values['base_channels'],
    codebook=mnn.CODEBOOKS['vq'](
      values['num_embeddings'],
      values['embed_dim'],
      update='gradient',
      unit_lookup=True,
      dtype=dtype,
    ),
    multipliers=multipliers,
    num_blocks=values['num_res_blocks'],
    latent_channels=values['latent_channels'],
    channels=values['in_channels'],
    attention_levels=(len(multipliers) - 1,),
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return autoencoders.inputs(module(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return [
    *autoencoders.rules(module(config), NAMES),
    keys.Rule('codebook/embedding', 'quantize.embedding.weight'),
  ]


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
)
