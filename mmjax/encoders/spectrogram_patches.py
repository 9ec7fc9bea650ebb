"""A transformer of patches of a spectrogram."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import einops
import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.encoders import tower
from mmjax.errors import ConfigError
from mmjax.parallel import convolutions
from mmjax.types import Array, DropRate, Remat, Size, TokenVectors


class SpectrogramTransformer(tower.Tower):
  """Cuts a spectrogram into patches that may overlap, as if it were an image.

  AST (Gong et al. 2021, section 2.1): its two learned tokens come from DeiT,
  and their mean is the summary.

  Attributes:
    width: number of features D.
    depth: number of blocks.
    num_heads: number of heads H.
    mlp_dim: hidden size of the MLPs.
    patch_size: side of a patch, in bands and in frames.
    strides: bands and frames from one patch to the next.
    num_bands: M, of a spectrogram.
    tokens: names of the learned tokens before the patches; their mean is the
      summary, without them that of the patches.
    final_norm: whether tokens are normalised after the stack.
    block: further settings of `mmjax.nn.Block`.
    dropout: rate on the tokens before the stack.
    drop_path: stochastic depth of the last block.
    scan: whether to scan over layers.
    remat: what the backward pass computes again, of `mmjax.nn.remat.POLICIES`.
    dtype: dtype of the computation; parameters are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  mlp_dim: Size
  patch_size: Size = 16
  strides: tuple[int, int] = (10, 10)
  num_bands: Size = 128
  tokens: Sequence[str] = ('class_token', 'distillation_token')
  final_norm: bool = True
  block: Mapping[str, Any] | None = None
  dropout: DropRate = 0.0
  drop_path: DropRate = 0.0
  scan: bool = True
  remat: Remat = 'none'
  dtype: Any = jnp.float32

  pooling: ClassVar[str] = 'mean'

  def setup(self):
    self.patches = SpectrogramPatches(
      self.width, self.patch_size, self.strides, self.tokens, self.dtype
    )
    self.setup_tower(initial_norm=False)

  def __call__(
    self,
    spectrogram: Array,
    mask: Array | None = None,
    *,
    visible: Array | None = None,
    train: bool,
  ) -> TokenVectors:
    """Encodes spectrograms.

    Args:
      spectrogram: [B, F, M] floats, such as `mmjax.ops.log_fbank` gives; F is
        that which the parameters were made for.
      mask: [B], or [B, F] of the frames, True where there is sound; None means
        everywhere. Of an example with any sound, all tokens are real, since its
        padding is a part of the fixed length.
      visible: int [B, K], indices of the patches that are read (AudioMAE, Huang
        et al. 2022, section 3); None for all.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, N, D], learned ones, patches, low bands first.

    Raises:
      ConfigError: if M is not `num_bands`, F makes another number of patches
        than there are positions, or a patch is larger than the spectrogram.
    """
    x, mask = self.embed(spectrogram, mask, visible=visible, train=train)
    x = self.stack(x, mask, train=train)
    return TokenVectors(x, mask, self.pool(x, mask, train=train))

  def cut(self, spectrogram: Array) -> tuple[Array, tuple[int, int]]:
    """Cuts [B, F, M]: values of patches [B, P, E], their rows and columns.

    Rows are of bands. The patches are those that it reads where the strides are
    the patch size.
    """
    image = einops.rearrange(spectrogram, 'b f m -> b m f 1')
    return ops.cut_patches(image, self.patch_size, ragged=True)

  def embed(
    self,
    spectrogram: Array,
    mask: Array | None = None,
    *,
    visible: Array | None = None,
    train: bool,
  ) -> tuple[Array, Array]:
    """Turns [B, F, M] into tokens [B, N, D] and their mask [B, N]."""
    ops.check_mask(mask, spectrogram, 'spectrograms', 'B', 'B F')
    if spectrogram.shape[2] != self.num_bands:
      raise ConfigError(
        f'a spectrogram has {spectrogram.shape[2]} bands, but num_bands is '
        f'{self.num_bands}; make them equal'
      )
    x = self.patches(ops.zero_masked(spectrogram, mask))
    if visible is not None:
      x = ops.take_patches(x, visible, front=len(self.tokens))
    x = self.embed_dropout(x, deterministic=not train)
    if mask is None:
      mask = jnp.ones(x.shape[:1], bool)
    elif mask.ndim == 2:
      mask = mask.any(axis=1)
    return x, jnp.broadcast_to(mask[:, None], x.shape[:2])

  def _summarise(self, x: Array, mask: Array, *, train: bool) -> Array:
    number = len(self.tokens) or x.shape[1]
    return super()._summarise(x[:, :number], mask[:, :number], train=train)


class SpectrogramPatches(nn.Module):
  """Projects patches to tokens and adds their positions.

  Attributes:
    width: number of features D.
    patch_size: side of a patch, in bands and in frames.
    strides: bands and frames from one patch to the next.
    tokens: names of the learned tokens before the patches.
    dtype: dtype of the computation.
  """

  width: Size
  patch_size: Size
  strides: tuple[int, int]
  tokens: Sequence[str]
  dtype: Any

  @nn.compact
  def __call__(self, spectrogram: Array) -> Array:
    """Embeds [B, F, M] as [B, N, D]."""
    size = self.patch_size
    if min(spectrogram.shape[1:]) < size:
      raise ConfigError(
        f'a patch of {size} is larger than the spectrogram, '
        f'{list(spectrogram.shape[1:])}; use a smaller patch_size or pad it'
      )
    x = nn.Conv(
      self.width,
      (size, size),
      self.strides,
      padding='VALID',
      conv_general_dilated=convolutions.convolve,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), (None, None, None, 'embed')
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, ('embed',)),
      dtype=self.dtype,
      name='projection',
    )(einops.rearrange(spectrogram, 'b f m -> b m f 1'))  # [B, m, f, D]
    x = einops.rearrange(x, 'b m f d -> b (m f) d')
    learned = [
      jnp.broadcast_to(self._make_table(name, 1), (x.shape[0], 1, self.width))
      for name in self.tokens
    ]
    x = jnp.concatenate([*learned, x], axis=1)  # [B, N, D]
    self._check_length(spectrogram.shape[1], x.shape[1])
    return x + self._make_table('position_table', x.shape[1])

  def _check_length(self, frames: int, length: int) -> None:
    if not self.has_variable('params', 'position_table'):
      return
    table = nn.meta.unbox(self.get_variable('params', 'position_table'))
    if len(table) != length:
      raise ConfigError(
        f'{frames} frames make {length} tokens, but there are {len(table)} '
        'positions; cut or pad the spectrogram to the frames of training'
      )

  def _make_table(self, name: str, length: int) -> Array:
    table = self.param(
      name,
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), (None, 'embed')
      ),
      (length, self.width),
      jnp.float32,
    )
    return table[None].astype(self.dtype)
