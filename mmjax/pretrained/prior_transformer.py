"""The prior of DALL-E 2 (Ramesh et al. 2022), as diffusers publishes it.

Those of Karlo and Kandinsky 2 are such models.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs, diffusion_rules, forms, keys
from mmjax.types import Array, Batch

_DEFAULTS = {
  'num_attention_heads': 32,
  'attention_head_dim': 64,
  'num_layers': 20,
  'embedding_dim': 768,
  'num_embeddings': 77,
  'time_embed_dim': None,
  'embedding_proj_dim': None,
  'clip_embed_dim': None,
}
_NORMS = ('norm_in_type', 'embedding_proj_norm_type')
SECTIONS = {
  '': diffusion_rules.section(
    read={*_DEFAULTS, *_NORMS},
    only={
      'additional_embeddings': 4,
      'added_emb_type': 'prd',
      'encoder_hid_proj_type': 'linear',
      'time_embed_act_fn': 'silu',
    },
    irrelevant=('dropout',),
  )
}
# Only there where a release saved it.
SKIP = ('causal_attention_mask',)


class Model(base.Pretrained):
  """A prior: from the text's embedding and tokens to an image's embedding."""

  def predict(
    self, noisy: Any, timesteps: Any, tokens: Any, mask: Any, text: Any
  ) -> Array:
    """The image embeddings [B, E], scaled as the noisy ones.

    Args:
      noisy: noisy embeddings [B, E], scaled by `module.normalise`.
      timesteps: [B], or one for all, up to 1000.
      tokens: the tokens of CLIP's text tower [B, T, E].
      mask: [B, T], True where a token is real.
      text: embeddings of the texts [B, E].
    """
    noisy = jnp.asarray(noisy)
    times = jnp.broadcast_to(
      np.asarray(timesteps, np.float32) / 1000, (len(noisy),)
    )
    batch = {
      'noisy': noisy,
      'times': times,
      'tokens': jnp.asarray(tokens),
      'tokens_mask': jnp.asarray(mask, bool),
      'text_embedding': jnp.asarray(text),
    }
    return self.jit_method('__call__')(self.params, batch)


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> models.Prior:
  """The model that a config.json describes."""
  values = _read(config)
  return models.Prior(
    **diffusion_rules.sizes(values),
    embed_dim=values['embedding_dim'],
    max_length=values['num_embeddings'],
    time_hidden=values['time_embed_dim'] or 0,
    norm_text=_has_norm(config, 'embedding_proj_norm_type'),
    norm_tokens=_has_norm(config, 'norm_in_type'),
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = _read(config)
  width, length = values['embedding_dim'], values['num_embeddings']
  text = values['embedding_proj_dim'] or width
  floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  return {
    'noisy': floats(1, width),
    'times': floats(1),
    'tokens': floats(1, length, width),
    'tokens_mask': jax.ShapeDtypeStruct((1, length), bool),
    'text_embedding': floats(1, text),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  ours, theirs = diffusion_rules.BLOCK, diffusion_rules.LAYER
  table = [
    *diffusion_rules.embedding('embed_time/mlp', 'time_embedding'),
    *keys.dense('project_image', 'proj_in'),
    *keys.dense('project_text', 'embedding_proj'),
    *keys.dense('project_tokens', 'encoder_hidden_states_proj'),
    keys.Rule('positions', 'positional_embedding', forms.Lead()),
    keys.Rule('last_token', 'prd_embedding', forms.Lead()),
    *keys.attention(
      f'{ours}/attention', f'{theirs}.attn1', diffusion_rules.NAMES
    ),
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.norm1'),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.norm3'),
    *diffusion_rules.feed_forward(f'{ours}/mlp', f'{theirs}.ff'),
    *keys.norm('last_norm', 'norm_out'),
    *keys.dense('head', 'proj_to_clip_embeddings'),
    keys.Rule('mean', 'clip_mean', forms.Lead()),
    keys.Rule('std', 'clip_std', forms.Lead()),
  ]
  if _has_norm(config, 'embedding_proj_norm_type'):
    table += keys.norm('text_norm', 'embedding_proj_norm')
  if _has_norm(config, 'norm_in_type'):
    table += keys.norm('tokens_norm', 'norm_in')
  return table


def _has_norm(config: Mapping[str, Any], field: str) -> bool:
  value = config.get(field)
  if value not in (None, 'layer'):
    raise ConfigError(
      f"config.json: {field} is {value!r}; mmjax reads only 'layer' and null "
      'here'
    )
  return value is not None


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section(config, '', _DEFAULTS)
  out = values['clip_embed_dim'] or values['embedding_dim']
  if out != values['embedding_dim']:
    raise ConfigError(
      f'config.json: clip_embed_dim is {out}; mmjax reads only embedding_dim, '
      f'{values["embedding_dim"]}, here'
    )
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
)
