"""Multi-head attention with grouped queries, rotary positions and a cache."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.nn import norm
from mmjax.parallel import ring_attention, rules
from mmjax.types import Array

PROJECTIONS = ('query', 'key', 'value', 'out')


@flax.struct.dataclass
class KeyValues:
  """The keys and values that one attention layer has computed so far.

  Attributes:
    key: [B, S, G, K].
    value: [B, S, G, K].
  """

  key: Array
  value: Array


class Attention(nn.Module):
  """Self- or cross-attention (Vaswani et al. 2017, section 3.2).

  Under a mesh (`jax.set_mesh`) whose axis `sequence` splits tokens between
  devices, self-attention is `parallel.ring_attention`; nothing has to be set.
  Where 'intermediates' are collected it is not, as it never holds the weights,
  nor with `offsets` or `scale`.

  Attributes:
    width: D, of the output.
    num_heads: H.
    num_kv_heads: G, dividing H (Ainslie et al. 2023); None means H.
    head_dim: K; None means width / num_heads.
    cross: whether keys and values come from a context.
    bias: which projections have a bias: True for all, False for none, or names
      out of `PROJECTIONS` (Qwen2: query, key, value; Whisper: all but key).
    qk_norm: 'layernorm' or 'rmsnorm' of queries and keys over K before the dot
      product (Dehghani et al. 2023); None for none.
    rope_theta: base of the rotary positions; None for none.
    rope: their further settings, see `ops.rotary`.
    norm_epsilon: of `qk_norm`.
    scale: what dot products are multiplied by (T5: 1); None for K**-0.5.
    dropout: rate on the attention weights' output.
    dtype: of the computation; the softmax is in float32.
  """

  width: int
  num_heads: int
  num_kv_heads: int | None = None
  head_dim: int | None = None
  cross: bool = False
  bias: bool | Sequence[str] = True
  qk_norm: str | None = None
  rope_theta: float | None = None
  rope: Mapping[str, Any] | None = None
  norm_epsilon: float = 1e-6
  scale: float | None = None
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: Array | None = None,
    *,
    mask: Array | None = None,
    causal: bool = False,
    positions: Array | None = None,
    offsets: Array | None = None,
    cache: KeyValues | None = None,
    index: Array | int = 0,
    train: bool,
  ) -> tuple[Array, KeyValues | None]:
    """Lets each of T queries gather from S keys.

    Args:
      x: [B, T, D], asks.
      context: [B, S, E], answers, in cross-attention.
      mask: [B, T, S], True where a query may look.
      causal: whether, of those, query t may look at keys 0..t alone.
      positions: [B, T], or [B, T, A] with several axes, for rotary
        self-attention; None counts from 0.
      offsets: [B, H, T, S] or [1, H, T, S], added to the logits, such as
        `RelativePositions`.
      cache: of self-attention: room for S keys, into which the T new ones are
        written at `index`, and all S are looked at (so `mask` must cover them).
        Of cross-attention: filled where `context` is given, and read in place
        of it where not.
      index: where in the cache to write.
      train: whether dropout is on.

    Returns:
      The result [B, T, D] and the new cache (None if none was given).

    Raises:
      ValueError: where sizes don't fit together, cross-attention has neither
        context nor cache, or a cache is to be read causally.
    """
    if causal and (self.cross or cache is not None):
      raise ValueError(
        'causal=True is for self-attention without a cache, whose keys stand '
        'where the queries do; say in the mask what each query may look at'
      )
    head_dim = self._head_dim()
    query = self._project('query', self.num_heads, head_dim)(x)
    query = self._normalise('query_norm', query)
    if self.cross:
      new = self._cross_keys_values(context, cache, head_dim)
      cache = None if cache is None else new
    else:
      new = self._keys_values(x, head_dim)
      if self.rope_theta is not None:
        if positions is None:
          positions = jnp.arange(x.shape[1])[None]
        turn = functools.partial(
          ops.rotary,
          positions=positions,
          theta=self.rope_theta,
          **(self.rope or {}),
        )
        query, new = turn(query), KeyValues(turn(new.key), new.value)
      if cache is not None:
        new = cache = jax.tree.map(
          lambda old, n: jax.lax.dynamic_update_slice_in_dim(
            old, n.astype(old.dtype), index, axis=1
          ),
          cache,
          new,
        )
    if self._in_ring(cache, offsets):
      mixed = ring_attention.ring_attention(
        query, new.key, new.value, mask, causal=causal
      )
    else:
      mixed = self._whole(query, new, mask, causal, offsets)
    mixed = nn.Dropout(self.dropout)(mixed, deterministic=not train)
    out = HeadsToWidth(
      self.width, self._has_bias('out'), self.dtype, name='out'
    )(mixed)
    return out, cache

  def _in_ring(self, cache: KeyValues | None, offsets: Array | None) -> bool:
    """Whether tokens are split, so that keys have to go around.

    Queries of cross-attention and of decoding are few: their weights are as
    long as the context, and XLA splits them. Whoever wants to see the weights
    gets all of them, computed together. Offsets are as large as the weights.
    """
    shown = self.is_mutable_collection('intermediates')
    plain = offsets is None and self.scale is None
    own = not self.cross and cache is None and plain
    return own and not shown and ring_attention.is_on()

  def _whole(
    self,
    query: Array,
    keys: KeyValues,
    mask: Array | None,
    causal: bool,
    offsets: Array | None,
  ) -> Array:
    if causal:
      earlier = ops.causal_mask(query.shape[1])
      mask = earlier if mask is None else mask & earlier
    mixed, weights = ops.dot_product_attention(
      query, keys.key, keys.value, mask, bias=offsets, scale=self.scale
    )
    self.sow('intermediates', 'weights', weights)
    return mixed

  def _head_dim(self) -> int:
    if self.head_dim is not None:
      return self.head_dim
    if self.width % self.num_heads:
      raise ValueError(
        f'width {self.width} is not divisible by num_heads {self.num_heads}; '
        f'change one of them or set head_dim'
      )
    return self.width // self.num_heads

  def _has_bias(self, name: str) -> bool:
    if isinstance(self.bias, bool):
      return self.bias
    unknown = sorted(set(self.bias) - set(PROJECTIONS))
    if unknown:
      raise ValueError(
        f'attention bias {unknown} is unknown; use names out of {PROJECTIONS}'
      )
    return name in self.bias

  def _project(self, name: str, heads: int, head_dim: int) -> 'WidthToHeads':
    axis = 'heads' if name == 'query' else 'kv_heads'
    return WidthToHeads(
      heads, head_dim, axis, self._has_bias(name), self.dtype, name=name
    )

  def _normalise(self, name: str, x: Array) -> Array:
    if self.qk_norm is None:
      return x
    return norm.make_norm(
      self.qk_norm, self.norm_epsilon, self.dtype, name=name
    )(x)

  def _keys_values(self, source: Array, head_dim: int) -> KeyValues:
    heads = self.num_kv_heads or self.num_heads
    key = self._project('key', heads, head_dim)(source)
    value = self._project('value', heads, head_dim)(source)
    return KeyValues(self._normalise('key_norm', key), value)

  def _cross_keys_values(
    self, context: Array | None, cache: KeyValues | None, head_dim: int
  ) -> KeyValues:
    if context is not None:
      return self._keys_values(context, head_dim)
    if cache is None:
      raise ValueError(
        'cross-attention got neither a context nor a cache that holds one; '
        'pass the context on the first step'
      )
    return cache


class WidthToHeads(nn.Module):
  """A dense layer into heads, kernel [D, H, K] and bias [H, K].

  Attributes:
    num_heads: H.
    head_dim: K.
    axis: logical name of H.
    use_bias: whether there is a bias.
    dtype: of the computation.
  """

  num_heads: int
  head_dim: int
  axis: str
  use_bias: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, N, D] to [B, N, H, K]."""
    shape = (x.shape[-1], self.num_heads, self.head_dim)
    init = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(init, ('embed', self.axis, 'head_dim')),
      shape,
      jnp.float32,
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    y = jnp.einsum('bnd,dhk->bnhk', x, kernel)
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(
          nn.initializers.zeros, (self.axis, 'head_dim')
        ),
        shape[1:],
        jnp.float32,
      )
      y = y + bias[None, None].astype(self.dtype)
    return rules.constrain(y, 'batch', 'length', self.axis, 'head_dim')


class HeadsToWidth(nn.Module):
  """A dense layer out of heads, kernel [H, K, D] and bias [D].

  Attributes:
    width: D.
    use_bias: whether there is a bias.
    dtype: of the computation.
  """

  width: int
  use_bias: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, N, H, K] to [B, N, D]."""
    init = nn.initializers.xavier_uniform(in_axis=(0, 1), out_axis=2)
    kernel = self.param(
      'kernel',
      nn.with_logical_partitioning(init, ('heads', 'head_dim', 'embed')),
      (*x.shape[-2:], self.width),
      jnp.float32,
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    y = jnp.einsum('bnhk,hkd->bnd', x, kernel)
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
        (self.width,),
        jnp.float32,
      )
      y = y + bias[None, None].astype(self.dtype)
    return y
