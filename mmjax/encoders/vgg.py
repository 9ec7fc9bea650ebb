"""VGG, as an image encoder."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.encoders import convolutional
from mmjax.errors import ConfigError
from mmjax.types import Array, Size

_GROUP_SIZE = 16


class VGG(convolutional.Convolutional):
  """Stages of 3x3 convolutions, each ending in max pooling.

  Simonyan and Zisserman 2015, table 1, without its fully connected layers:
  VGG-11 is `stages=(1, 1, 2, 2, 2)`, VGG-13 `(2, 2, 2, 2, 2)`, VGG-16, the
  default, `(2, 2, 3, 3, 3)` and VGG-19 `(2, 2, 4, 4, 4)`. They had no norms;
  with `norm='frozen_batch'` it is the form that is common today.

  Attributes:
    stages: number of convolutions in each stage; every stage halves the
      resolution.
    width: channels of the first stage; every further one doubles them.
    max_width: most channels.
    norm: 'group' (Wu and He 2018), 'frozen_batch' or 'none'.
    positions: whether the output tokens are normalised and get positions, for
      decoders and fusions that attend to them. Pooling is before that.
    dtype: dtype of the computation; parameters are float32.
  """

  stages: Sequence[int] = (2, 2, 3, 3, 3)
  width: Size = 64
  max_width: Size = 512
  norm: str = 'group'
  positions: bool = False
  dtype: Any = jnp.float32

  def setup(self):
    widths = [
      min(self.width * 2**stage, self.max_width)
      for stage in range(len(self.stages))
    ]
    convolutional.check_norm(self.norm, _GROUP_SIZE, *widths)
    self.blocks = [
      VGGStage(number, width, self.norm, self.dtype, name=f'stage{stage}')
      for stage, (number, width) in enumerate(
        zip(self.stages, widths, strict=True)
      )
    ]
    self.setup_convolutional()

  def apply_stem(self, images: Array) -> Array:
    """Returns the images [B, H, W, C] in the type of the computation.

    Raises:
      ConfigError: for images that the stages would halve to nothing.
    """
    smallest = 2 ** len(self.stages)
    if min(images.shape[1:3]) < smallest:
      raise ConfigError(
        f'images of {images.shape[1]} x {images.shape[2]} pixels are too small '
        f'for {len(self.stages)} stages, each of which halves them; use at '
        f'least {smallest} x {smallest}, or fewer stages'
      )
    return images.astype(self.dtype)


class VGGStage(nn.Module):
  """3x3 convolutions, and max pooling over 2x2 cells.

  Attributes:
    number: number of convolutions.
    width: number of features D.
    norm: 'group', 'frozen_batch' or 'none'.
    dtype: dtype of the computation.
  """

  number: int
  width: Size
  norm: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, r, c, C] to [B, r // 2, c // 2, D]."""
    for i in range(1, self.number + 1):
      x = convolutional.make_conv(
        self.width, 3, dtype=self.dtype, use_bias=True, name=f'conv{i}'
      )(x)
      norm = convolutional.make_norm(
        self.norm, _GROUP_SIZE, self.dtype, f'norm{i}'
      )
      x = jax.nn.relu(norm(x))
    x = nn.max_pool(x, (2, 2), (2, 2))
    self.sow('intermediates', 'output', x)
    return x
