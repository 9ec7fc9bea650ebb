"""PointNet."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.types import Array, TokenVectors

_AXES = 3  # Of a position.


class PointNet(nn.Module):
  """Transforms each point by itself, and takes the largest of each feature.

  Qi et al. 2017, section 4.2 and figure 2, up to the global feature. Batch
  normalisation, which would mix examples and padding, is a norm over a point's
  features here. The paper's loss adds 0.001 times the squared distance of the
  feature transform times its transpose from the identity (equation 2); collect
  the intermediate `transform` of `feature_matrix` for that.

  Attributes:
    local_widths: features of a point after each of the first layers.
    widths: after each of the further layers, behind the feature transform; the
      last is D.
    input_transform: whether positions are multiplied by a 3 x 3 matrix that
      depends on all of them.
    feature_transform: whether the features of the first layers are multiplied
      by a matrix that depends on all of them.
    transform_widths: features of a point after each layer of the network that
      makes a matrix.
    transform_hidden: hidden sizes of that network after its largest values are
      taken.
    norm: 'layernorm', 'rmsnorm' or None, before each ReLU.
    dtype: dtype of the computation; parameters are float32.
  """

  local_widths: Sequence[int] = (64, 64)
  widths: Sequence[int] = (64, 128, 1024)
  input_transform: bool = False
  feature_transform: bool = False
  transform_widths: Sequence[int] = (64, 128, 1024)
  transform_hidden: Sequence[int] = (512, 256)
  norm: str | None = 'layernorm'
  dtype: Any = jnp.float32

  def setup(self):
    layers = lambda widths: PointLayers(widths, self.norm, self.dtype)
    transform = lambda: Transform(
      self.transform_widths, self.transform_hidden, self.norm, self.dtype
    )
    if self.input_transform:
      self.input_matrix = transform()
    self.local_layers = layers(self.local_widths)
    if self.feature_transform:
      self.feature_matrix = transform()
    self.layers = layers(self.widths)

  def __call__(
    self, points: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes sets of points.

    Args:
      points: [B, N, 3 + C] floats, positions and C further values.
      mask: [B, N], True where a point is real; None means everywhere.
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: values [B, N, D], permuted as the points are; pooled, the
      largest of each feature, doesn't depend on their order.

    Raises:
      ConfigError: if points have fewer than 3 values, or `norm` is unknown.
    """
    x, mask = self.embed(points, mask, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def embed(
    self, points: Array, mask: Array | None = None, *, train: bool
  ) -> tuple[Array, Array]:
    """Transforms positions in [B, N, 3 + C]; the second result is the mask."""
    del train
    if points.shape[-1] < _AXES:
      raise ConfigError(
        f'points have {points.shape[-1]} values each; a position alone has '
        f'{_AXES}'
      )
    ops.check_mask(mask, points, 'points', 'B N')
    if mask is None:
      mask = jnp.ones(points.shape[:2], bool)
    x = ops.zero_masked(points, mask).astype(self.dtype)
    if self.input_transform:
      positions = x[:, :, :_AXES]
      matrix = self.input_matrix(positions, mask)  # [B, 3, 3]
      positions = jnp.einsum('bnc,bcd->bnd', positions, matrix)
      x = jnp.concatenate([positions, x[:, :, _AXES:]], axis=-1)
    return x, mask

  def stack(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Maps points [B, N, 3 + C] to features [B, N, D]."""
    del train
    x = self.local_layers(x)
    if self.feature_transform:
      x = jnp.einsum('bnc,bcd->bnd', x, self.feature_matrix(x, mask))
    return self.layers(x)

  def pool(self, x: Array, mask: Array, *, train: bool) -> Array:
    """Takes the largest values of [B, N, D] as [B, D]; sown as `pooled`."""
    del train
    pooled = ops.max_tokens(x, mask)
    self.sow('intermediates', 'pooled', pooled)
    return pooled


class Transform(nn.Module):
  """Makes a square matrix out of a set of points (T-Net, appendix C).

  Attributes:
    widths: features of a point after each layer.
    hidden: hidden sizes after the largest values are taken.
    norm: 'layernorm', 'rmsnorm' or None.
    dtype: dtype of the computation.
  """

  widths: Sequence[int]
  hidden: Sequence[int]
  norm: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    """Makes matrices [B, C, C], at first the identity, of points [B, N, C]."""
    size = x.shape[-1]
    layers = lambda widths, name: PointLayers(
      widths, self.norm, self.dtype, name=name
    )
    x = layers(self.widths, 'points')(x)
    x = layers(self.hidden, 'hidden')(ops.max_tokens(x, mask)[:, None])[:, 0]
    x = mnn.Dense(
      size * size,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.zeros, ('embed', None)
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      dtype=self.dtype,
      name='matrix',
    )(x)
    matrix = x.reshape(-1, size, size) + jnp.eye(size, dtype=self.dtype)[None]
    self.sow('intermediates', 'transform', matrix)
    return matrix


class PointLayers(nn.Module):
  """Dense layers on each point, each followed by a norm and a ReLU.

  Attributes:
    widths: features after each layer.
    norm: 'layernorm', 'rmsnorm' or None.
    dtype: dtype of the computation.
  """

  widths: Sequence[int]
  norm: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, N, C] to [B, N, D], D the last of `widths`."""
    for i, width in enumerate(self.widths):
      x = mnn.Linear(width, dtype=self.dtype, name=f'layer{i}')(x, train=False)
      if self.norm is not None:
        x = mnn.make_norm(self.norm, 1e-6, self.dtype, name=f'norm{i}')(x)
      x = jax.nn.relu(x)
      self.sow('intermediates', 'output', x)
    return x
