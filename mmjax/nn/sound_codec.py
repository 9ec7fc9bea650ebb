"""The two halves of a convolutional autoencoder of sounds."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.parallel import convolutions
from mmjax.types import Array, Size

_LECUN, _ZEROS = nn.initializers.lecun_normal(), nn.initializers.zeros
_LSTM_PARTS = ('input', 'recurrent')


@dataclasses.dataclass(frozen=True)
class SoundLayout:
  """Layers of a `SoundEncoder`, and in reverse order of a `SoundDecoder`.

  Attributes:
    width: channels at the rate of samples; they double at each lower rate.
    ratios: factors of the rate on the way from tokens to samples.
    num_blocks: residual blocks a rate.
    kernel_size: steps that the first convolution reads.
    last_kernel_size: steps that the last convolution reads.
    block_kernel_size: steps that the first convolution of a block reads.
    dilation_growth: factor of the dilation from one block to the next.
    compress: divisor of the channels inside a block.
    lstm_layers: LSTM layers at the rate of tokens.
    causal: whether no step depends on later ones, except the first few, before
      which their mirror image lies.
    conv_shortcut: whether the shortcut of a block is a convolution.
  """

  width: int
  ratios: Sequence[int] = (8, 5, 4, 2)
  num_blocks: int = 1
  kernel_size: int = 7
  last_kernel_size: int = 7
  block_kernel_size: int = 3
  dilation_growth: int = 2
  compress: int = 2
  lstm_layers: int = 2
  causal: bool = True
  conv_shortcut: bool = True

  @property
  def hop(self) -> int:
    """Samples from one token to the next."""
    return math.prod(self.ratios)


class SoundEncoder(nn.Module):
  """Maps samples to vectors at the rate of tokens.

  SEANet (Tagliasacchi et al. 2020) with LSTM layers, as in EnCodec (Défossez et
  al. 2022, section 3.1).

  Attributes:
    layout: the layers.
    out_channels: channels C of the result.
    dtype: dtype of the computation.
  """

  layout: SoundLayout
  out_channels: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, samples: Array) -> Array:
    """Maps samples [B, N] to [B, T, C], T = N / hop, rounded up."""
    layout, dtype = self.layout, self.dtype
    conv = _convolutions(layout, dtype)
    x = conv(layout.width, layout.kernel_size, name='stem')(
      samples[:, :, None].astype(dtype)
    )
    for level, ratio in enumerate(reversed(layout.ratios)):
      x = jax.nn.elu(_apply_blocks(layout, dtype, level, x))
      name = f'level{level}_downsample'
      x = conv(2 * x.shape[-1], 2 * ratio, stride=ratio, name=name)(x)
    x = jax.nn.elu(_apply_lstm(layout, dtype, x))
    return conv(self.out_channels, layout.last_kernel_size, name='head')(x)


class SoundDecoder(nn.Module):
  """Maps vectors back to samples; the mirror of `SoundEncoder`.

  Attributes:
    layout: the layers.
    dtype: dtype of the computation; samples are float32.
  """

  layout: SoundLayout
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, vectors: Array) -> Array:
    """Maps [B, T, C] to samples [B, T * hop]."""
    layout, dtype = self.layout, self.dtype
    conv = _convolutions(layout, dtype)
    width = layout.width * 2 ** len(layout.ratios)
    x = conv(width, layout.kernel_size, name='stem')(vectors)
    x = _apply_lstm(layout, dtype, x)
    levels = reversed(range(len(layout.ratios)))
    for level, ratio in zip(levels, layout.ratios, strict=True):
      x = NormedUpsampling(
        x.shape[-1] // 2,
        ratio,
        causal=layout.causal,
        dtype=dtype,
        name=f'level{level}_upsample',
      )(jax.nn.elu(x))
      x = _apply_blocks(layout, dtype, level, x)
    x = conv(1, layout.last_kernel_size, name='head')(jax.nn.elu(x))
    return x[:, :, 0].astype(jnp.float32)


class SoundBlock(nn.Module):
  """Two convolutions over time, each after ELU, and a shortcut.

  Attributes:
    layout: the layers.
    dilation: dilation of the first convolution.
    dtype: dtype of the computation.
  """

  layout: SoundLayout
  dilation: Size = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, T, C] to the same shape."""
    conv, width = _convolutions(self.layout, self.dtype), x.shape[-1]
    y = conv(
      width // self.layout.compress,
      self.layout.block_kernel_size,
      dilation=self.dilation,
      name='conv0',
    )(jax.nn.elu(x))
    y = conv(width, 1, name='conv1')(jax.nn.elu(y))
    if self.layout.conv_shortcut:
      x = conv(width, 1, name='shortcut')(x)
    return x + y


class NormedConv(nn.Module):
  """A convolution over time with weight norm (Salimans and Kingma 2016).

  The kernel has the direction of the parameter `kernel`, and for each output
  channel the length `scale`. What lies before and after the inputs is their
  mirror image.

  Attributes:
    features: number of output channels D.
    size: steps that it reads.
    stride: steps from one output to the next.
    dilation: steps between those that it reads.
    causal: whether it reads no later steps.
    dtype: dtype of the computation.
  """

  features: Size
  size: Size
  stride: Size = 1
  dilation: Size = 1
  causal: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, T, C] to [B, T / stride, D], rounded up."""
    shape = self.size, x.shape[-1], self.features
    kernel, bias = _normed_kernel(self, shape, self.features)
    outside = (self.size - 1) * self.dilation + 1 - self.stride
    right = 0 if self.causal else outside // 2
    # The last step may read beyond the end.
    pads = outside - right, right + -x.shape[1] % self.stride
    y = convolutions.convolve(
      _mirror(x.astype(self.dtype), pads),
      kernel.astype(self.dtype),
      (self.stride,),
      'VALID',
      rhs_dilation=(self.dilation,),
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    return y + bias.astype(self.dtype)[None, None]


class NormedUpsampling(nn.Module):
  """A transposed convolution over time with weight norm.

  Each input step adds to twice `ratio` output steps. As in PyTorch, the kernel
  has a length `scale` for each input channel.

  Attributes:
    features: number of output channels D.
    ratio: output steps from one input step to the next.
    causal: whether outputs depend on no later inputs.
    dtype: dtype of the computation.
  """

  features: Size
  ratio: Size
  causal: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, T, C] to [B, T * ratio, D]."""
    shape = 2 * self.ratio, self.features, x.shape[-1]
    kernel, bias = _normed_kernel(self, shape, self.features)
    y = jnp.einsum(
      'btc,kdc->btkd', x.astype(self.dtype), kernel.astype(self.dtype)
    )
    # As matrix products, since zeros between the inputs would be slow. The
    # second half of a step's outputs is added to the first of the next step's.
    first, second = jnp.split(y, 2, axis=2)
    widen = lambda half, *pad: jnp.pad(half, ((0, 0), pad, (0, 0), (0, 0)))
    y = widen(first, 0, 1) + widen(second, 1, 0)
    y = einops.rearrange(y, 'b t k d -> b (t k) d')
    left = 0 if self.causal else self.ratio - self.ratio // 2
    y = y[:, left : left + x.shape[1] * self.ratio]
    return y + bias.astype(self.dtype)[None, None]


class Lstm(nn.Module):
  """An LSTM layer over time (Hochreiter and Schmidhuber 1997).

  It has two biases, as in PyTorch and published models.

  Attributes:
    dtype: dtype of the computation; the cell's state is float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, T, C] to the same shape."""
    width = x.shape[-1]
    init = nn.with_logical_partitioning(_LECUN, ('embed', None))
    zeros = nn.with_logical_partitioning(_ZEROS, (None,))
    shape = width, 4 * width  # Gates of input, forgetting, value and output.
    kernels = [self.param(f'{n}_kernel', init, shape) for n in _LSTM_PARTS]
    biases = [self.param(f'{n}_bias', zeros, shape[1:]) for n in _LSTM_PARTS]
    to_gates, recurrent = (kernel.astype(self.dtype) for kernel in kernels)
    # All steps at once; the recurrence is the only thing left to the loop.
    inputs = x.astype(self.dtype) @ to_gates
    inputs += sum(biases).astype(self.dtype)[None, None]

    def step(state, gates):
      hidden, cell = state
      i, f, g, o = jnp.split(
        (gates + hidden @ recurrent).astype(jnp.float32), 4, axis=-1
      )
      cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
      hidden = (jax.nn.sigmoid(o) * jnp.tanh(cell)).astype(self.dtype)
      return (hidden, cell), hidden

    start = jnp.zeros((len(x), width), self.dtype)
    state = start, start.astype(jnp.float32)
    _, outputs = jax.lax.scan(step, state, jnp.moveaxis(inputs, 1, 0))
    return jnp.moveaxis(outputs, 0, 1)


def _convolutions(layout: SoundLayout, dtype: Any):
  """Makes convolutions that have what is common to all of a layout."""
  return lambda features, size, **settings: NormedConv(
    features, size, causal=layout.causal, dtype=dtype, **settings
  )


def _apply_blocks(layout: SoundLayout, dtype: Any, level: int, x: Array):
  for i in range(layout.num_blocks):
    dilation = layout.dilation_growth**i
    x = SoundBlock(layout, dilation, dtype, name=f'level{level}_block{i}')(x)
  return x


def _apply_lstm(layout: SoundLayout, dtype: Any, x: Array) -> Array:
  y = x
  for i in range(layout.lstm_layers):
    y = Lstm(dtype, name=f'lstm{i}')(y)
  return x + y


def _normed_kernel(
  module: nn.Module, shape: tuple[int, ...], features: int
) -> tuple[Array, Array]:
  """A kernel with weight norm, whose last axis has the lengths, and a bias."""
  named = nn.with_logical_partitioning
  kernel = module.param('kernel', named(_LECUN, (None, None, 'conv')), shape)
  lengths = jnp.linalg.norm(kernel, axis=(0, 1))
  scale = module.param('scale', named(lambda key: lengths, ('conv',)))
  bias = module.param('bias', named(_ZEROS, ('conv',)), (features,))
  return kernel * (scale / lengths)[None, None], bias


def _mirror(x: Array, pads: tuple[int, int]) -> Array:
  """Pads time of [B, T, C] with the mirror image, and if T is short zeros."""
  missing = max(0, max(pads) - x.shape[1] + 1)
  x = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
  x = jnp.pad(x, ((0, 0), pads, (0, 0)), mode='reflect')
  return x[:, : x.shape[1] - missing]
