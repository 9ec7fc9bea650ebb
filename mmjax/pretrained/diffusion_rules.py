"""What the published diffusion transformers have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import base, forms, keys, sections
from mmjax.types import Array

LAYER = f'transformer_blocks.{keys.LAYER}'
BLOCK = 'blocks/layers'
ACTIVATIONS = {'gelu-approximate': 'gelu_tanh', 'gelu': 'gelu'}
NAMES = {
  'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'out': 'to_out.0',
}  # fmt: skip
# Keys that diffusers writes into every config.
_WRITTEN = ('_diffusers_version', '_use_default_values')


def section(**settings: Any) -> sections.Section:
  """The keys of a family, with those that every config of diffusers has."""
  own = sections.Section(**settings)
  return own.join(sections.Section(irrelevant=_WRITTEN))


def activation(name: str) -> str:
  """Our name of an activation.

  Raises:
    ConfigError: if it is unknown.
  """
  if name not in ACTIVATIONS:
    raise ConfigError(
      f'config.json: activation_fn is {name!r}; mmjax knows '
      f'{sorted(ACTIVATIONS)}'
    )
  return ACTIVATIONS[name]


def sizes(values: Mapping[str, Any]) -> dict[str, int]:
  """Width, depth, heads and hidden size, as fields of a model."""
  width = values['num_attention_heads'] * values['attention_head_dim']
  if width % 4:
    raise ConfigError(
      f'config.json: num_attention_heads * attention_head_dim is {width}; '
      'mmjax reads only multiples of 4 here'
    )
  return {
    'width': width,
    'depth': values['num_layers'],
    'num_heads': values['num_attention_heads'],
    'mlp_dim': 4 * width,
  }


def patches(values: Mapping[str, Any]) -> list[keys.Rule]:
  """Rules of the embedding of patches."""
  return [
    keys.Rule(
      'embed_patches/kernel',
      'pos_embed.proj.weight',
      forms.Patches(values['patch_size']),
    ),
    keys.Rule('embed_patches/bias', 'pos_embed.proj.bias'),
  ]


def mlp(ours: str, theirs: str, up: str, down: str) -> list[keys.Rule]:
  """Rules of an MLP of two layers."""
  return [
    *keys.dense(f'{ours}/up', f'{theirs}.{up}'),
    *keys.dense(f'{ours}/down', f'{theirs}.{down}'),
  ]


def feed_forward(ours: str, theirs: str) -> list[keys.Rule]:
  """Rules of a block's MLP."""
  return mlp(ours, theirs, 'net.0.proj', 'net.2')


def embedding(ours: str, theirs: str) -> list[keys.Rule]:
  """Rules of the two layers of an embedding of numbers or vectors."""
  return mlp(ours, theirs, 'linear_1', 'linear_2')


def modulation(
  ours: str, theirs: str, index: int = 0, number: int = 1
) -> list[keys.Rule]:
  """Rules of one of several modulations that are stored as one layer."""
  weight, bias = forms.Linear(), forms.Same()
  if number > 1:
    weight, bias = (forms.Part(index, number, form) for form in (weight, bias))
  return [
    keys.Rule(f'{ours}/dense/kernel', f'{theirs}.weight', weight),
    keys.Rule(f'{ours}/dense/bias', f'{theirs}.bias', bias),
  ]


class PublishedDenoiser(base.Pretrained):
  """A published model that takes noise out of latents.

  Latents are [B, H, W, C] here, times those of diffusers' schedulers: numbers
  up to 1000.

  Attributes:
    needs: names of the arrays that say what to draw.
  """

  needs: ClassVar[tuple[str, ...]] = ()

  def predict(self, latents: Any, timesteps: Any, **conditions: Any) -> Array:
    """All outputs [B, H, W, O] about noisy latents.

    Args:
      latents: [B, H, W, C].
      timesteps: [B], or one for all.
      **conditions: arrays by the names in `needs`; `text_mask` [B, T] where
        only a part of the text is real.

    Raises:
      ConfigError: if a condition is missing or unknown.
    """
    optional = {'text_mask'} if 'text' in self.needs else set()
    if set(conditions) - optional != set(self.needs):
      raise ConfigError(
        f'{type(self.module).__name__} needs {", ".join(self.needs)}; got '
        f'{", ".join(sorted(conditions)) or "nothing"}'
      )
    latents = jnp.asarray(latents)
    times = jnp.broadcast_to(
      np.asarray(timesteps, np.float32) / 1000, (len(latents),)
    )
    return self.jit_method('predict')(self.params, latents, times, conditions)
