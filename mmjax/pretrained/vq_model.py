"""VQGAN's autoencoder (Esser et al. 2021), as diffusers publishes it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.pretrained import autoencoders, base, configs, diffusion_rules, keys
from mmjax.types import Batch

_DEFAULTS = {
  **autoencoders.DIFFUSERS,
  'latent_channels': 3,
  'num_vq_embeddings': 256,
  'vq_embed_dim': None,
}
SECTIONS = {
  '': diffusion_rules.section(
    read=set(_DEFAULTS),
    only={'norm_type': 'group'},
    # How ids are decoded does not depend on the weights, and tokens have no
    # scale.
    irrelevant=(
      'sample_size',
      'force_upcast',
      'scaling_factor',
      'lookup_from_codebook',
    ),
  )
}


class Model(autoencoders.PublishedAutoencoder):
  """VQModel."""


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.ImageAutoencoder:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  values = configs.section(config, '', _DEFAULTS)
  return models.ImageAutoencoder(
    **autoencoders.read_diffusers(values),
    codebook=mnn.CODEBOOKS['vq'](
      values['num_vq_embeddings'],
      values['vq_embed_dim'] or values['latent_channels'],
      update='gradient',
      dtype=dtype,
    ),
    latent_channels=values['latent_channels'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return autoencoders.inputs(module(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return [
    *autoencoders.rules(module(config), autoencoders.DIFFUSERS_NAMES),
    keys.Rule('codebook/embedding', 'quantize.embedding.weight'),
  ]


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  aliases=autoencoders.DIFFUSERS_ALIASES,
)
