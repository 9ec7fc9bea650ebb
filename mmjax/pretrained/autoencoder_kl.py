"""The autoencoder of latent diffusion (Rombach et al. 2022), of diffusers."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  autoencoders,
  base,
  config_types,
  configs,
  diffusion_rules,
  keys,
)
from mmjax.types import Batch

_DEFAULTS = {
  **autoencoders.DIFFUSERS,
  'latent_channels': 4,
  'scaling_factor': 0.18215,
  'use_quant_conv': True,
  'use_post_quant_conv': True,
}
SECTIONS = {
  '': diffusion_rules.section(
    read={*_DEFAULTS, 'shift_factor'},
    only={'latents_mean': None, 'latents_std': None},
    irrelevant=('sample_size', 'force_upcast'),
  )
}


class Model(autoencoders.PublishedAutoencoder):
  """AutoencoderKL; latents are shifted and scaled as its config says."""


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.ImageAutoencoder:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  values = configs.section(config, '', _DEFAULTS)
  shift = config.get('shift_factor')
  if shift is not None and not config_types.is_number(shift):
    raise ConfigError(
      f'config.json: shift_factor is {shift!r}; mmjax reads only a number or '
      'null here'
    )
  if values['use_quant_conv'] != values['use_post_quant_conv']:
    raise ConfigError(
      f'config.json: use_quant_conv is {values["use_quant_conv"]}; mmjax reads '
      'only the same as use_post_quant_conv'
    )
  return models.ImageAutoencoder(
    **autoencoders.read_diffusers(values),
    codebook=mnn.CODEBOOKS['gaussian'](values['latent_channels'], dtype=dtype),
    projected=values['use_quant_conv'],
    latent_scale=values['scaling_factor'],
    latent_shift=float(shift or 0.0),
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return autoencoders.inputs(module(config))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  return autoencoders.rules(module(config), autoencoders.DIFFUSERS_NAMES)


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  aliases=autoencoders.DIFFUSERS_ALIASES,
)
