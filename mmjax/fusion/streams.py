"""Token-level fusions that keep a stream of tokens for each modality."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.fusion import modalities
from mmjax.types import Array, Size, TokenVectors


class _Streams(nn.Module):
  """Blocks over one stream of tokens per modality, joined at the end.

  A subclass defines `apply_blocks`.

  Attributes:
    width: D of the result.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    block: further settings of `mmjax.nn.Block`.
    dtype: dtype of the computation.
  """

  level: ClassVar[str] = 'token'
  minimum: ClassVar[int] = 2

  width: Size
  depth: Size = 2
  num_heads: Size = 4
  mlp_dim: Size = 512
  block: Mapping[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses modalities, in the order of their names.

    Args:
      tokens: by modality, values [B, N_m, D_m].
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, sum of N_m, D]; pooled is the mean of the
      modalities' means, over those that are present.

    Raises:
      ConfigError: if there is one modality.
    """
    names = modalities.sort_names(tokens, self.minimum, type(self).__name__)
    streams = {
      name: modalities.mark(self, name, tokens[name], self.width, self.dtype)
      for name in names
    }
    values = self.apply_blocks(
      {name: s.values for name, s in streams.items()},
      {name: s.mask for name, s in streams.items()},
      train=train,
    )
    normalise = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')
    values = {name: normalise(x) for name, x in values.items()}
    means = jnp.stack(
      [ops.mean_tokens(values[n], streams[n].mask) for n in names], axis=1
    )  # [B, m, D]
    present = modalities.stack_presence(tokens, names)
    return TokenVectors(
      jnp.concatenate([values[n] for n in names], axis=1),
      jnp.concatenate([streams[n].mask for n in names], axis=1),
      ops.mean_tokens(means, present),
    )

  def apply_blocks(
    self,
    values: Mapping[str, Array],
    masks: Mapping[str, Array],
    *,
    train: bool,
  ) -> dict[str, Array]:
    """Changes the tokens of each modality.

    Args:
      values: by modality, [B, N_m, D], zeros where masked.
      masks: by modality, [B, N_m].
      train: whether dropout is on.
    """
    raise NotImplementedError

  def make_block(self, name: str, **settings: Any) -> mnn.Block:
    """One block, with settings besides those of the fields."""
    return mnn.Block(
      self.width,
      self.num_heads,
      self.mlp_dim,
      **{**(self.block or {}), **settings},
      dtype=self.dtype,
      name=name,
    )

  locate = staticmethod(modalities.locate)


class CoAttention(_Streams):
  """Each modality attends to itself and to all others, block by block.

  The co-attention of ViLBERT (Lu et al. 2019, figure 2b) and LXMERT, in both
  directions: in block i, all modalities attend to what the others were before
  it.
  """

  def apply_blocks(self, values, masks, *, train):
    """Changes the tokens of each modality."""
    for i in range(self.depth):
      values = {
        name: self.make_block(f'{name}_layers_{i}', cross_attention=True)(
          x,
          _join_others(name, values, masks),
          mnn.Visible(masks[name][:, None]),
          train=train,
        )[0]
        for name, x in values.items()
      }
    return dict(values)


class CrossmodalTransformer(_Streams):
  """MulT: a stack of cross-attention for each ordered pair of modalities.

  Each modality is the target of a crossmodal stack from each other one, whose
  blocks attend to the source's first tokens; the results are joined along the
  features, projected, and go through self-attention (Tsai et al. 2019, section
  3.1 to 3.3 and figure 3). A source that is absent leaves the target's own
  residual path. The projection to `width` is ours: the paper's width grows with
  the number of modalities.

  Attributes:
    self_depth: number of blocks of self-attention after the crossmodal ones.
  """

  self_depth: Size = 1

  def apply_blocks(self, values, masks, *, train):
    """Changes the tokens of each modality."""
    crossed = {
      name: self._attend_to_others(name, values, masks, train=train)
      for name in values
    }
    out = {}
    for name, x in crossed.items():
      for i in range(self.self_depth):
        x, _ = self.make_block(f'{name}_self_{i}')(
          x, visible=mnn.Visible(masks[name][:, None]), train=train
        )
      out[name] = x
    return out

  def _attend_to_others(
    self,
    target: str,
    values: Mapping[str, Array],
    masks: Mapping[str, Array],
    *,
    train: bool,
  ) -> Array:
    """The target's tokens [B, N, D] after all its crossmodal stacks."""
    parts = []
    for source in values:
      if source == target:
        continue
      x = values[target]
      for i in range(self.depth):
        x, _ = self.make_block(
          f'{target}_from_{source}_{i}',
          self_attention=False,
          cross_attention=True,
        )(x, mnn.Context(values[source], masks[source]), train=train)
      parts.append(x)
    return modalities.make_projection(
      self.width, self.dtype, f'{target}_merge'
    )(jnp.concatenate(parts, axis=-1))


class Bottleneck(_Streams):
  """MBT: modalities exchange through a few bottleneck tokens.

  In each block, a modality's tokens attend to themselves and to the bottleneck
  tokens; each modality then has its own version of those, and their mean goes
  into the next block (Nagrani et al. 2021, section 3). An absent modality is
  left out of the mean. What the last block writes into the bottleneck tokens is
  not used.

  Attributes:
    number: number of bottleneck tokens.
  """

  number: Size = 4

  def apply_blocks(self, values, masks, *, train):
    """Changes the tokens of each modality; ConfigError for one block."""
    if self.depth < 2:
      raise ConfigError(
        f'depth {self.depth} is too small: bottleneck tokens take what one '
        'block gathers into the next; use at least 2'
      )
    start = self.param(
      'bottlenecks',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (self.number, self.width),
      jnp.float32,
    ).astype(self.dtype)
    size = len(next(iter(values.values())))
    shared = jnp.broadcast_to(start[None], (size, *start.shape))
    present = jnp.stack([m.any(axis=1) for m in masks.values()], axis=1)
    own = jnp.ones((size, self.number), bool)
    for i in range(self.depth):
      changed, versions = {}, []
      for name, x in values.items():
        mask = jnp.concatenate([masks[name], own], axis=1)
        both, _ = self.make_block(f'{name}_layers_{i}')(
          jnp.concatenate([x, shared], axis=1),
          visible=mnn.Visible.of_keys(mask),
          train=train,
        )
        changed[name] = both[:, : x.shape[1]]
        versions.append(both[:, x.shape[1] :])
      values = changed
      shared = _average(jnp.stack(versions, axis=1), present)
    return dict(values)


def _average(x: Array, present: Array) -> Array:
  """The mean [B, Q, D] over the modalities of [B, m, Q, D] that are present."""
  kept = ops.zero_masked(x, present)
  number = jnp.maximum(present.sum(axis=1), 1)[:, None, None]
  return kept.sum(axis=1) / number.astype(x.dtype)


def _join_others(
  name: str, values: Mapping[str, Array], masks: Mapping[str, Array]
) -> mnn.Context:
  """The tokens of all modalities but one."""
  others = [other for other in values if other != name]
  return mnn.Context(
    jnp.concatenate([values[other] for other in others], axis=1),
    jnp.concatenate([masks[other] for other in others], axis=1),
  )
