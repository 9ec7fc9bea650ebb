"""Blocks that attend over time and over space one after the other."""

from collections.abc import Callable
from typing import Any

import einops
import flax.linen as nn

from mmjax.errors import ConfigError
from mmjax.nn import block, stack
from mmjax.nn import cache as cache_lib
from mmjax.nn import visible as visible_lib
from mmjax.types import Array, Size

# Tokens of a video, frames first, as sequences over time and over space.
_OVER_TIME = 'b (f p) d -> (b p) f d'
_OVER_SPACE = 'b (f p) d -> (b f) p d'


class DividedBlock(block.Block):
  """Attention over frames, attention within frames and an MLP.

  Divided space-time attention (Bertasius et al. 2021, section 3): a token
  attends to those at its position in all frames, then to those of its frame.
  The settings are those of `Block`, without cross-attention; the attention over
  space is named `attention`.

  Attributes:
    frames: number of frames F.
  """

  frames: Size = 1

  @nn.compact
  def __call__(
    self,
    x: Array,
    context: visible_lib.Context | None = None,
    visible: visible_lib.Visible = visible_lib.EVERYTHING,
    decoding: cache_lib.Decoding | None = None,
    *,
    drop_path: Array | float = 0.0,
    condition: Array | None = None,
    train: bool,
  ) -> tuple[Array, None]:
    """Transforms the tokens of F frames of P tokens each.

    Where 'intermediates' are collected, they hold `time_attention_output`
    besides those of `Block`.

    Args:
      x: [B, F * P, D], frame after frame.
      context: None.
      visible: its mask [B, 1, F * P], True where a token is real; None means
        everywhere.
      decoding: None.
      drop_path: stochastic depth, as that of `Block`.
      condition: [B, C], if `modulated`.
      train: whether dropout and stochastic depth are on.

    Returns:
      The tokens [B, F * P, D], and None in the place of a cache.

    Raises:
      ConfigError: for a context, a cache, or `cross_attention`.
    """
    if context is not None or decoding is not None or self.cross_attention:
      raise ConfigError(
        'divided attention has neither a context nor a cache; pass none, and '
        'leave out cross_attention'
      )
    self._check(context, condition)
    x = x.astype(self.dtype)
    self.sow('intermediates', 'input', x)
    for name, layout in (
      ('time_attention', _OVER_TIME),
      ('attention', _OVER_SPACE),
    ):
      branch = self._attend_over(name, layout, visible.mask, train)
      x, _ = self._add_branch(name, x, branch, drop_path, train, condition)
    x = self._add_mlp(x, drop_path, train, condition)
    self.sow('intermediates', 'output', x)
    return x, None

  def _attend_over(
    self, name: str, layout: str, mask: Array | None, train: bool
  ) -> Callable[[Array], tuple[Array, Any]]:
    """A branch of attention within each sequence of a layout."""
    back = ' -> '.join(reversed(layout.split(' -> ')))

    def attend(y):
      number, length, _ = y.shape
      sizes = {'f': self.frames, 'p': length // self.frames}
      within = visible_lib.EVERYTHING
      if mask is not None:
        keys = einops.rearrange(mask, 'b 1 n -> b n 1')
        keys = einops.rearrange(keys, layout, **sizes)
        within = visible_lib.Visible(einops.rearrange(keys, 'b n 1 -> b 1 n'))
      y, extra = self._make_attention(name)(
        einops.rearrange(y, layout, **sizes), None, within, train=train
      )
      return einops.rearrange(y, back, b=number, **sizes), extra

    return attend


class DividedStack(stack.Stack):
  """A `Stack` of `DividedBlock`s, whose setting `frames` is in `block`."""

  def make_block(self, name: str) -> DividedBlock:
    """Makes one layer."""
    return DividedBlock(
      self.width,
      self.num_heads,
      self.mlp_dim,
      **(self.block or {}),
      dtype=self.dtype,
      name=name,
    )
