"""Two streams of tokens that attend to each other: MMDiT's block."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax.nn import attention, cache, mlp, modulation, norm
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, Size


class JointAttention(attention.Attention):
  """Attention of two streams, each with projections of its own, at once.

  Queries, keys and values of both are concatenated (Esser et al. 2024, section
  4); settings are those of `Attention`.

  Attributes:
    writes_context: whether the second stream gets a result too.
  """

  writes_context: bool = True

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: Array,
    mask: Array | None = None,
    *,
    train: bool,
  ) -> tuple[Array, Array | None]:
    """Lets all tokens gather values from all real ones.

    Args:
      x: [B, T, D].
      context: [B, S, D].
      mask: [B, S], True where the context is real; None means everywhere.
      train: whether dropout is on.

    Returns:
      Results [B, T, D] and [B, S, D]; the second is None without
      `writes_context`.
    """
    length = x.shape[1]
    pairs = zip(
      self._make_heads('', x),
      self._make_heads('context_', context),
      strict=True,
    )
    query, key, value = (jnp.concatenate(pair, axis=1) for pair in pairs)
    if mask is not None:
      mask = jnp.pad(mask, ((0, 0), (length, 0)), constant_values=True)[:, None]
    mixed = self._mix(
      query, cache.KeyValues(key, value), visible_lib.Visible(mask), own=True
    )  # [B, T + S, H, K]
    mixed = nn.Dropout(self.dropout)(mixed, deterministic=not train)
    project = lambda name: attention.HeadsToWidth(
      self.width, self._has_bias('out'), self.dtype, name=name
    )
    out = project('out')(mixed[:, :length])
    if not self.writes_context:
      return out, None
    return out, project('context_out')(mixed[:, length:])

  def _make_heads(self, prefix: str, x: Array) -> tuple[Array, Array, Array]:
    """Queries, keys and values of a stream, [B, N, H, K]."""
    query, key, value = (
      self._project(f'{prefix}{name}', self.num_heads, x)
      for name in ('query', 'key', 'value')
    )
    return (
      self._normalise(f'{prefix}query_norm', query),
      self._normalise(f'{prefix}key_norm', key),
      value,
    )


class JointBlock(nn.Module):
  """A block of MMDiT: joint attention, and an MLP for each stream.

  Esser et al. 2024 (figure 2b). A condition modulates both streams (adaLN-zero)
  with layers of their own. With `dual`, the first stream also attends to itself
  beside, as in the lower blocks of Stable Diffusion 3.5 medium (MMDiT-X, in
  their code).

  Attributes:
    width: number of features D of both streams.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    writes_context: whether the context is changed; the last block only reads
      it.
    dual: whether the first stream has a second attention to itself.
    qk_norm: 'rmsnorm' or 'layernorm' of queries and keys; None for none.
    norm_epsilon: added to the variance.
    activation: a key of `mlp.ACTIVATIONS`.
    dtype: dtype of the computation.
  """

  width: Size
  num_heads: Size
  mlp_dim: Size
  writes_context: bool = True
  dual: bool = False
  qk_norm: str | None = None
  norm_epsilon: float = 1e-6
  activation: str = 'gelu_tanh'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: visible_lib.Context,
    *,
    condition: Array,
    train: bool,
  ) -> tuple[Array, visible_lib.Context]:
    """Transforms T tokens, and the S of their context.

    Args:
      x: [B, T, D].
      context: values [B, S, D].
      condition: [B, D].
      train: whether dropout is on.
    """
    x = x.astype(self.dtype)
    values = context.values.astype(self.dtype)
    self.sow('intermediates', 'input', x)
    own, gate = self._modulate('attention', x, condition, 3)
    read, context_gate = self._modulate(
      'context_attention', values, condition, 3 if self.writes_context else 2
    )
    joint = JointAttention(
      self.width,
      self.num_heads,
      qk_norm=self.qk_norm,
      norm_epsilon=self.norm_epsilon,
      writes_context=self.writes_context,
      dtype=self.dtype,
      name='attention',
    )
    out, context_out = joint(own, read, context.mask, train=train)
    if self.dual:
      again, dual_gate = self._modulate('dual_attention', x, condition, 3)
      second = attention.Attention(
        self.width,
        self.num_heads,
        qk_norm=self.qk_norm,
        norm_epsilon=self.norm_epsilon,
        dtype=self.dtype,
        name='dual_attention',
      )(again, train=train)[0]
      x = x + second * dual_gate
    x = self._add_mlp('mlp', x + out * gate, condition, train)
    self.sow('intermediates', 'output', x)
    if self.writes_context:
      values = values + context_out * context_gate
      values = self._add_mlp('context_mlp', values, condition, train)
    return x, context.replace(values=values)

  def _modulate(
    self, name: str, x: Array, condition: Array, number: int
  ) -> tuple[Array, Array | None]:
    """What a branch reads [B, N, D], and its gate, if it has one."""
    normalise = norm.make_norm(
      'layernorm', self.norm_epsilon, self.dtype, f'{name}_norm', affine=False
    )
    shift, scale, *gate = modulation.Modulation(
      self.width, number, self.dtype, name=f'{name}_modulation'
    )(condition)
    return normalise(x) * (1 + scale) + shift, gate[0] if gate else None

  def _add_mlp(
    self, name: str, x: Array, condition: Array, train: bool
  ) -> Array:
    read, gate = self._modulate(name, x, condition, 3)
    out = mlp.Mlp(
      self.width,
      self.mlp_dim,
      activation=self.activation,
      dtype=self.dtype,
      name=name,
    )(read, train=train)
    return x + out * gate
