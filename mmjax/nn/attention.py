"""Multi-head attention with grouped queries, rotary positions and a cache."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.nn import adapters, norm, quantized
from mmjax.nn import cache as cache_lib
from mmjax.nn import visible as visible_lib
from mmjax.parallel import (
  attention_forms,
  cudnn_attention,
  kept,
  ring_attention,
  rules,
  splash_attention,
  tiled_attention,
)
from mmjax.types import Array, DropRate, Positive, Size

PROJECTIONS = ('query', 'key', 'value', 'out')


class Attention(nn.Module):
  """Self- or cross-attention (Vaswani et al. 2017, section 3.2).

  Long sequences are attended to in tiles, and where the mesh (`jax.set_mesh`)
  splits tokens between devices, around a ring; nothing has to be set
  (`mmjax.parallel.attention_forms`). Where 'intermediates' are collected they
  are not, as these forms never hold the weights, nor with an attention bias.

  Attributes:
    width: D, of the output.
    num_heads: number of heads H.
    num_kv_heads: G, dividing H (Ainslie et al. 2023); None means H.
    head_dim: K; None means width / num_heads.
    cross: whether keys and values come from a context.
    bias: which projections have a bias: True for all, False for none, or names
      out of `PROJECTIONS` (Qwen2: query, key, value; Whisper: all but key).
    qk_norm: 'layernorm' or 'rmsnorm' of queries and keys over K before the dot
      product (Dehghani et al. 2023); None for none.
    rope_theta: base of the rotary positions; None for none.
    rope: further arguments of `ops.rotary`.
    local_rope: arguments of `ops.rotary_frequencies`, which local layers of a
      stack have instead of `rope_theta` and scaling (Gemma 3); None for the
      same in all layers.
    norm_epsilon: added to the variance by `qk_norm`.
    scale: factor on the dot products (T5: 1); None for K**-0.5.
    softcap: limit of the dot products, as of `ops.cap_softly` (Gemma 2: 50);
      None for none.
    dropout: rate on the mixed values, before the output projection.
    dtype: dtype of the computation; the softmax is in float32.
  """

  width: Size
  num_heads: Size
  num_kv_heads: Size | None = None
  head_dim: Size | None = None
  cross: bool = False
  bias: bool | Sequence[str] = True
  qk_norm: str | None = None
  rope_theta: Positive | None = None
  rope: Mapping[str, Any] | None = None
  local_rope: Mapping[str, Any] | None = None
  norm_epsilon: Positive = 1e-6
  scale: float | None = None
  softcap: Positive | None = None
  dropout: DropRate = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: Array | None = None,
    visible: visible_lib.Visible = visible_lib.EVERYTHING,
    decoding: cache_lib.Decoding | None = None,
    *,
    train: bool,
  ) -> tuple[Array, cache_lib.KeyValues | None]:
    """Lets each of T queries gather values from S keys.

    Args:
      x: [B, T, D], what queries are made of, and in self-attention keys and
        values.
      context: [B, S, E], what keys and values are made of in cross-attention.
      visible: which keys each query may attend to.
      decoding: a `KeyValues` of S slots. In self-attention, the T new keys and
        values are written into it at `index`, and queries may attend to all S
        slots, so `visible.mask` must cover them. In cross-attention, it is
        filled where `context` is passed, and replaces it where not.
      train: whether dropout is on.

    Returns:
      The result [B, T, D] and the new cache, None without `decoding`.

    Raises:
      ConfigError: where sizes don't fit together, cross-attention has neither
        context nor cache, `visible` is causal or has segments or a prefix in
        cross-attention or with a cache, has a window there without
        `key_positions`, or has a prefix and is not causal.
    """
    own = not self.cross and decoding is None
    _check_visible(visible, own)
    query = self._project('query', self.num_heads, x)  # [B, T, H, K]
    query = self._normalise('query_norm', query)
    if self.cross:
      keys = self._project_context(context, decoding)  # [B, S, G, K]
    else:
      keys = self._project_keys(x)  # [B, T, G, K]
      query, keys = self._apply_rope(query, keys, visible)
      if decoding is not None:
        keys = _write(decoding, keys)  # [B, S, G, K]
    mixed = self._mix(query, keys, visible, own)  # [B, T, H, K]
    mixed = nn.Dropout(self.dropout)(mixed, deterministic=not train)
    out = HeadsToWidth(
      self.width, self._has_bias('out'), self.dtype, name='out'
    )(mixed)  # [B, T, D]
    return out, None if decoding is None else keys

  def _mix(
    self,
    query: Array,
    keys: cache_lib.KeyValues,
    visible: visible_lib.Visible,
    own: bool,
  ) -> Array:
    visible = visible.fold_window()
    collected = self.is_mutable_collection('intermediates')
    form = attention_forms.choose(
      query,
      keys.key,
      own=own,
      needs_weights=collected or visible.bias is not None,
      masked=visible.mask_granularity(),
      causal=visible.causal and visible.prefix_mask is None,
      capped=self.softcap is not None,
    )
    if form == 'plain':
      mixed, weights = ops.dot_product_attention(
        query,
        keys.key,
        keys.value,
        visible.make_mask(query.shape[1]),
        bias=visible.bias,
        scale=self.scale,
        softcap=self.softcap,
      )
      self.sow('intermediates', 'weights', weights)  # [B, H, T, S]
      return kept.name(mixed, kept.ATTENTION)
    forms = {
      'cudnn': cudnn_attention.cudnn_attention,
      'ring': ring_attention.ring_attention,
      'splash': splash_attention.splash_attention,
      'tiled': tiled_attention.tiled_attention,
    }
    further = {}
    if form != 'splash':
      further = {'prefix_mask': visible.prefix_mask, 'window': visible.window}
    if self.softcap is not None:
      further['softcap'] = self.softcap
    return forms[form](
      query,
      keys.key,
      keys.value,
      visible.mask,
      causal=visible.causal,
      segments=visible.segments,
      scale=self.scale,
      **further,
    )

  def _apply_rope(
    self,
    query: Array,
    keys: cache_lib.KeyValues,
    visible: visible_lib.Visible,
  ) -> tuple[Array, cache_lib.KeyValues]:
    if self.rope_theta is None:
      return query, keys
    positions = visible.positions
    if positions is None:
      positions = jnp.arange(query.shape[1])[None]  # [1, T]
    rotate = functools.partial(
      ops.rotary,
      positions=positions,
      theta=self.rope_theta,
      frequencies=self._find_frequencies(visible.local),
      **(self.rope or {}),
    )
    return rotate(query), keys.replace(key=rotate(keys.key))

  def _find_frequencies(self, local: Array | None) -> Array | None:
    """The frequencies of a layer that may be local; None for the usual."""
    if self.local_rope is None:
      return None
    if local is None:
      raise ConfigError(
        f'local_rope {dict(self.local_rope)} is for the local layers of a '
        'stack, and there are none; set local_layers or leave it out'
      )
    size, rope = self._resolve_head_dim(), self.rope or {}
    own = ops.rotary_frequencies(size, self.rope_theta, rope.get('scaling'))
    other = ops.rotary_frequencies(size, **self.local_rope)
    return jnp.where(local, *(jnp.float32(f) for f in (other, own)))

  def _resolve_head_dim(self) -> int:
    if self.head_dim is not None:
      return self.head_dim
    if self.width % self.num_heads:
      raise ConfigError(
        f'width {self.width} is not divisible by num_heads {self.num_heads}; '
        f'change one of them or set head_dim'
      )
    return self.width // self.num_heads

  def _has_bias(self, name: str) -> bool:
    if isinstance(self.bias, bool):
      return self.bias
    unknown = sorted(set(self.bias) - set(PROJECTIONS))
    if unknown:
      raise ConfigError(
        f'attention bias {unknown} is unknown; use names out of {PROJECTIONS}'
      )
    return name in self.bias

  def _project(self, name: str, heads: int, x: Array) -> Array:
    axis = 'heads' if name == 'query' else 'kv_heads'
    return WidthToHeads(
      heads,
      self._resolve_head_dim(),
      axis,
      self._has_bias(name),
      self.dtype,
      name=name,
    )(x)

  def _normalise(self, name: str, x: Array) -> Array:
    if self.qk_norm is None:
      return x
    return norm.make_norm(
      self.qk_norm, self.norm_epsilon, self.dtype, name=name
    )(x)

  def _project_keys(self, source: Array) -> cache_lib.KeyValues:
    heads = self.num_kv_heads or self.num_heads
    key = self._project('key', heads, source)  # [B, S, G, K]
    value = self._project('value', heads, source)  # [B, S, G, K]
    return cache_lib.KeyValues(self._normalise('key_norm', key), value)

  def _project_context(
    self, context: Array | None, decoding: cache_lib.Decoding | None
  ) -> cache_lib.KeyValues:
    if context is not None:
      return self._project_keys(context)
    if decoding is None:
      raise ConfigError(
        'cross-attention got neither a context nor a cache that holds one; '
        'pass the context on the first step'
      )
    return decoding.cache


def _check_visible(visible: visible_lib.Visible, own: bool) -> None:
  """Refuses what is not for this kind of attention.

  Args:
    visible: which keys each query may attend to.
    own: whether it is self-attention without a cache.
  """
  counted = visible.key_positions is not None
  names = [
    *(['causal=True'] if visible.causal else []),
    *(
      n for n in ('segments', 'prefix_mask') if getattr(visible, n) is not None
    ),
    *(['window'] if visible.window is not None and not counted else []),
  ]
  if names and not own:
    raise ConfigError(
      f'{", ".join(names)}: only for self-attention without a cache, whose '
      'keys stand where the queries do; put what each query may attend to in '
      'the mask'
    )
  if visible.prefix_mask is not None and not visible.causal:
    raise ConfigError(
      'a prefix is for causal attention, of which it is the part that attends '
      'in both directions; set causal=True'
    )


def _write(
  decoding: cache_lib.Decoding, new: cache_lib.KeyValues
) -> cache_lib.KeyValues:
  """The cache, S slots, with T new keys and values from `index` on."""
  return jax.tree.map(
    lambda old, x: jax.lax.dynamic_update_slice_in_dim(
      old, x.astype(old.dtype), decoding.index, axis=1
    ),
    decoding.cache,
    new,
  )


class WidthToHeads(nn.Module):
  """A dense layer into heads, kernel [D, H, K] and bias [H, K].

  Attributes:
    num_heads: number of heads H.
    head_dim: number of features of a head K.
    axis: logical name of H.
    use_bias: whether there is a bias.
    dtype: dtype of the computation.
  """

  num_heads: Size
  head_dim: Size
  axis: str
  use_bias: bool
  dtype: Any

  kernel_axes: ClassVar[tuple[int, int]] = (1, 2)

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, N, D] to [B, N, H, K]."""
    shape = (x.shape[-1], self.num_heads, self.head_dim)
    init = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
    init = nn.with_logical_partitioning(init, ('embed', self.axis, 'head_dim'))
    kernel = quantized.find_kernel(self, init, shape)
    x, kernel, _ = quantized.promote(x, kernel, None, self.dtype)
    y = adapters.project(self, x, kernel)  # [B, N, H, K]
    y = kept.name(y, kept.PROJECTION)
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
    width: number of features D.
    use_bias: whether there is a bias.
    dtype: dtype of the computation.
  """

  width: Size
  use_bias: bool
  dtype: Any

  kernel_axes: ClassVar[tuple[int, int]] = (2, 1)

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, N, H, K] to [B, N, D]."""
    init = nn.initializers.xavier_uniform(in_axis=(0, 1), out_axis=2)
    init = nn.with_logical_partitioning(init, ('heads', 'head_dim', 'embed'))
    kernel = quantized.find_kernel(self, init, (*x.shape[-2:], self.width))
    x, kernel, _ = quantized.promote(x, kernel, None, self.dtype)
    y = adapters.project(self, x, kernel, axes=2)  # [B, N, D]
    y = kept.name(y, kept.PROJECTION)
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
        (self.width,),
        jnp.float32,
      )
      y = y + bias[None, None].astype(self.dtype)
    return y
