"""EfficientNet, as an image encoder with fixed statistics."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.encoders import convolutional
from mmjax.types import Array, Positive, Size


class EfficientNet(convolutional.Convolutional):
  """Inverted bottlenecks that weight their channels (Tan and Le 2019, table 1).

  For published weights, so its batch normalisation has fixed statistics, and
  there is no stochastic depth. Sequences have one entry a stage.

  Attributes:
    stem_width: channels after the first convolution.
    widths: channels.
    repeats: number of blocks.
    kernel_sizes: side of the depthwise convolutions, odd.
    strides: strides of a stage's first block, 1 or 2.
    expansions: how many times as many channels a block has inside.
    squeeze: fraction of a block's incoming channels that weights the others.
    activation: a key of `mmjax.nn.mlp.ACTIVATIONS`.
    even_pads: numbers of the blocks, counted through all stages, that pad both
      sides alike before a stride of 2; the others pad one more behind.
    norm_epsilon: added to the variance.
    dtype: dtype of the computation; parameters are float32.
  """

  stem_width: Size
  widths: Sequence[int]
  repeats: Sequence[int]
  kernel_sizes: Sequence[int]
  strides: Sequence[int]
  expansions: Sequence[int]
  squeeze: float = 0.25
  activation: str = 'silu'
  even_pads: Sequence[int] = ()
  norm_epsilon: Positive = 1e-3
  dtype: Any = jnp.float32

  def setup(self):
    self.stem = convolutional.make_conv(
      self.stem_width, 3, 2, ((0, 1), (0, 1)), self.dtype
    )
    self.stem_norm = mnn.FrozenBatchNorm(self.norm_epsilon, self.dtype)
    blocks = []
    for stage, number in enumerate(self.repeats):
      for i in range(number):
        blocks.append(
          InvertedBottleneck(
            self.widths[stage],
            kernel_size=self.kernel_sizes[stage],
            stride=self.strides[stage] if i == 0 else 1,
            expansion=self.expansions[stage],
            squeeze=self.squeeze,
            residual=i > 0,
            even_pad=len(blocks) in self.even_pads,
            activation=self.activation,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
            name=f'block{len(blocks)}',
          )
        )
    self.blocks = blocks
    self.setup_convolutional()

  def apply_stem(self, images: Array) -> Array:
    """Turns images [B, H, W, C] into the first feature map [B, r, c, D]."""
    x = self.stem_norm(self.stem(images))
    return mnn.activation(self.activation)(x)


class InvertedBottleneck(nn.Module):
  """Widens, convolves each channel, weights channels, and narrows.

  Sandler et al. 2018 (figure 4d), with squeeze and excitation (Hu et al. 2018).

  Attributes:
    width: channels of the result.
    kernel_size: side of the depthwise convolution, odd.
    stride: 1 or 2.
    expansion: how many times as many channels the block has inside.
    squeeze: fraction of the incoming channels that weights the others.
    residual: whether the input is added, where the stride is 1.
    even_pad: whether it pads both sides alike before a stride of 2.
    activation: a key of `mmjax.nn.mlp.ACTIVATIONS`.
    norm_epsilon: added to the variance.
    dtype: dtype of the computation.
  """

  width: Size
  kernel_size: int
  stride: int
  expansion: int
  squeeze: float
  residual: bool
  even_pad: bool
  activation: str
  norm_epsilon: Positive
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps a feature map [B, r, c, C] to [B, r / stride, c / stride, D]."""
    act = mnn.activation(self.activation)
    norm = functools.partial(mnn.FrozenBatchNorm, self.norm_epsilon, self.dtype)
    conv = functools.partial(convolutional.make_conv, dtype=self.dtype)
    channels = x.shape[-1]
    inside = channels * self.expansion
    y = x
    if self.expansion != 1:
      y = conv(inside, 1, name='expand')(y)
      y = act(norm(name='expand_norm')(y))
    half = self.kernel_size // 2
    front = half - 1 if self.stride == 2 and not self.even_pad else half
    y = conv(
      inside,
      self.kernel_size,
      self.stride,
      ((front, half), (front, half)),
      groups=inside,
      name='depthwise',
    )(y)
    y = act(norm(name='depthwise_norm')(y))
    few = max(1, int(channels * self.squeeze))
    weights = jnp.mean(y, axis=(1, 2), keepdims=True)  # [B, 1, 1, inside]
    weights = act(conv(few, 1, use_bias=True, name='squeeze_conv')(weights))
    weights = conv(inside, 1, use_bias=True, name='excite')(weights)
    y = y * jax.nn.sigmoid(weights)
    y = norm(name='project_norm')(conv(self.width, 1, name='project')(y))
    if self.residual and self.stride == 1:
      y = x + y
    self.sow('intermediates', 'output', y)
    return y
