"""What all fusions do with the modalities that they get."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array, TokenVectors


def sort_names(
  tokens: Mapping[str, TokenVectors], minimum: int = 1, method: str = 'fusion'
) -> list[str]:
  """Names of the modalities, sorted, so that their order changes nothing.

  Args:
    tokens: by modality.
    minimum: how many the method needs.
    method: what needs them, for the message.

  Raises:
    ConfigError: if there are fewer, or one is not as it should be.
  """
  _check(tokens)
  if not tokens:
    raise ConfigError('fusion got no modality; pass at least one')
  if len(tokens) < minimum:
    raise ConfigError(
      f'{method} needs {minimum} modalities, got {sorted(tokens)}; add an '
      "encoder, or use a fusion that works with one, such as 'mean'"
    )
  return sorted(tokens)


def split_query(
  tokens: Mapping[str, TokenVectors], query: str, method: str
) -> tuple[TokenVectors, dict[str, TokenVectors]]:
  """The querying modality, and the others.

  Args:
    tokens: by modality.
    query: name of the querying modality.
    method: what needs it, for the message.

  Raises:
    ConfigError: if the querying modality, or any other, is missing, or one is
      not as it should be.
  """
  _check(tokens)
  others = {name: t for name, t in tokens.items() if name != query}
  if query not in tokens or not others:
    raise ConfigError(
      f'{method} needs {query!r} and another modality, got {sorted(tokens)}; '
      'name another query, or pass an absent modality with a mask that is all '
      'False'
    )
  return tokens[query], others


def _check(tokens: Mapping[str, TokenVectors]) -> None:
  """Refuses what is not a dict of `TokenVectors` of the same examples."""
  if not isinstance(tokens, Mapping):
    raise ConfigError(
      f'a fusion got {_describe(tokens)}; pass a dict of TokenVectors by '
      "modality, such as {'image': TokenVectors.of(array)}"
    )
  for name, one in tokens.items():
    if not isinstance(one, TokenVectors):
      raise ConfigError(
        f'a fusion got {name!r} as {_describe(one)}; pass '
        'mmjax.types.TokenVectors.of(array)'
      )
  sizes = {name: len(one.mask) for name, one in tokens.items()}
  if len(set(sizes.values())) > 1:
    raise ConfigError(
      f'modalities have different numbers of examples, {sizes}; pass the same '
      'examples of each, absent ones with a mask that is False'
    )


def _describe(value: Any) -> str:
  """What a value is, for a message."""
  if isinstance(value, jax.Array | np.ndarray):
    kind = 'JAX' if isinstance(value, jax.Array) else 'NumPy'
    return f'a {kind} array {list(value.shape)}'
  return f'a {type(value).__name__}'


def is_present(tokens: TokenVectors) -> Array:
  """Which examples have the modality, bool [B]."""
  return tokens.mask.any(axis=1)


def stack_presence(
  tokens: Mapping[str, TokenVectors], names: Sequence[str]
) -> Array:
  """Which examples have which modality, bool [B, m]."""
  return jnp.stack([is_present(tokens[name]) for name in names], axis=1)


def get_summaries(tokens: Mapping[str, TokenVectors]) -> dict[str, Array]:
  """Pooled vectors [B, D_m] by modality, zeros where it is absent."""
  return {
    name: ops.zero_masked(t.pooled, is_present(t)) for name, t in tokens.items()
  }


def make_single(vector: Array, present: Array) -> TokenVectors:
  """A vector an example [B, D] as one token, where `present` [B]."""
  return TokenVectors(vector[:, None], present[:, None], vector)


def make_projection(
  width: int,
  dtype: Any,
  name: str,
  bias_init: nn.initializers.Initializer = nn.initializers.zeros,
  use_bias: bool = True,
) -> mnn.Dense:
  """A dense layer whose outputs are split as activations' features are."""
  return mnn.Dense(
    width,
    use_bias=use_bias,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), (None, 'embed')
    ),
    bias_init=nn.with_logical_partitioning(bias_init, ('embed',)),
    dtype=dtype,
    name=name,
  )


def join(
  module: nn.Module, tokens: Mapping[str, TokenVectors], width: int, dtype: Any
) -> TokenVectors:
  """Projects and marks each modality, and joins them along N.

  Called inside a compact method of `module`, which owns the parameters.

  Args:
    module: the fusion.
    tokens: by modality, values [B, N_m, D_m].
    width: D.
    dtype: dtype of the computation.

  Returns:
    TokenVectors: values [B, sum of N_m, D], zeros where masked.
  """
  parts = [
    mark(module, name, tokens[name], width, dtype)
    for name in sort_names(tokens)
  ]
  values = jnp.concatenate([p.values for p in parts], axis=1)
  mask = jnp.concatenate([p.mask for p in parts], axis=1)  # [B, sum of N_m]
  return TokenVectors(values, mask, ops.mean_tokens(values, mask))


def mark(
  module: nn.Module, name: str, tokens: TokenVectors, width: int, dtype: Any
) -> TokenVectors:
  """Projects a modality's tokens to `width`, and adds a learned vector.

  Called inside a compact method of `module`, which owns the parameters.
  """
  # Absent values may be NaN, and 0 * NaN in the gradient of a projection would
  # spoil it for all examples.
  x = make_projection(width, dtype, f'{name}_projection')(
    ops.zero_masked(tokens.values, tokens.mask)
  )
  vector = module.param(
    f'{name}_mark',
    nn.with_logical_partitioning(nn.initializers.normal(0.02), ('embed',)),
    (width,),
    jnp.float32,
  )
  x = ops.zero_masked(x + vector[None, None].astype(dtype), tokens.mask)
  return TokenVectors(x, tokens.mask, ops.mean_tokens(x, tokens.mask))


def locate(lengths: Mapping[str, int], name: str) -> int | None:
  """Index of a modality's first token among all, joined in order of names.

  Args:
    lengths: number of tokens by modality.
    name: the modality; None is returned without it.
  """
  if name not in lengths:
    return None
  return sum(lengths[other] for other in sorted(lengths) if other < name)
