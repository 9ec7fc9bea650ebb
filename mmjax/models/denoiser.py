"""What all models that take noise out of images have in common."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, Batch, Outputs


class Denoiser(nn.Module):
  """Base of models that objectives and samplers ask through `denoise`.

  Attributes:
    channels: number of channels C of images or latents.
    feature: name of the array that is drawn.
  """

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Makes the parameters; there are no outputs without noise.

    Objectives call `denoise` with noisy images of their own.

    Args:
      batch: the array to draw [B, H, W, C], and what `predict` reads.
      train: whether dropout is on.
    """
    if self.is_initializing():
      drawn = batch[self.feature]
      self.predict(drawn, jnp.zeros(len(drawn)), batch, train=train)
    return {}

  def denoise(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """The prediction [B, H, W, C] about noisy images; as of `predict`.

    Of published models that also predict a variance (Nichol and Dhariwal 2021),
    the channels of the variance are left out.
    """
    return self.predict(noisy, times, batch, conditioned, train=train)[
      ..., : self.channels
    ]

  def predict(
    self,
    noisy: Array,
    times: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """All outputs [B, H, W, O] float32 about noisy images.

    Args:
      noisy: [B, H, W, C].
      times: [B], from 0, no noise, to 1.
      batch: what says what to draw; an example of which nothing is real counts
        as one without.
      conditioned: [B], False where it isn't used; None for all.
      train: whether dropout is on.
    """
    raise NotImplementedError


def make_dense(
  features: int,
  axes: tuple[str | None, str | None],
  dtype: Any,
  *,
  zeros: bool = False,
) -> mnn.Dense:
  """A dense layer with partitioned parameters.

  Args:
    features: number of outputs.
    axes: logical names of the kernel's axes.
    dtype: dtype of the computation.
    zeros: whether the kernel is 0 at first.
  """
  initial = nn.initializers.zeros if zeros else nn.initializers.xavier_uniform()
  return mnn.Dense(
    features,
    kernel_init=nn.with_logical_partitioning(initial, axes),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[1:]),
    dtype=dtype,
  )
