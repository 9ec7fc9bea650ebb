"""Convolutions whose gradients are fast inside loops on CPUs."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp

from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Array


def convolve(
  inputs: Array,
  kernel: Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  *,
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: Any = None,
  feature_group_count: int = 1,
  precision: Any = None,
) -> Array:
  """`jax.lax.conv_general_dilated`, also for `flax.linen.Conv`.

  XLA's fast convolutions on CPUs take channels last, and XLA brings others
  into that form, such as the gradients of convolutions, only outside loops: in
  the loop over micro-batches they are up to a hundred times slower. So on CPUs,
  gradients are computed in that form.

  Args:
    inputs: inputs, such as [B, H, W, C].
    kernel: kernel, such as [h, w, C, D].
    window_strides: strides, one per axis of space or time.
    padding: 'SAME', 'VALID', or before and after each of these axes.
    lhs_dilation: dilation of the inputs, one per axis.
    rhs_dilation: dilation of the kernel, one per axis.
    dimension_numbers: layouts, as `jax.lax.conv_general_dilated` takes them.
    feature_group_count: number of groups of channels.
    precision: precision of the products.

  Returns:
    Such as [B, H, W, D].
  """
  if not (
    mesh_lib.platform() == 'cpu'
    and set(lhs_dilation or ()) <= {1}
    and _channels_last(inputs, kernel, dimension_numbers)
  ):
    return jax.lax.conv_general_dilated(
      inputs,
      kernel,
      window_strides,
      padding,
      lhs_dilation,
      rhs_dilation,
      dimension_numbers,
      feature_group_count,
      precision=precision,
    )
  dilation = tuple(rhs_dilation or [1] * len(window_strides))
  if isinstance(padding, str):
    padding = _count_padding(inputs, kernel, window_strides, dilation, padding)
  window = _Window(
    tuple(window_strides),
    dilation,
    tuple(map(tuple, padding)),
    feature_group_count,
    precision,
  )
  return _convolve(window, inputs, kernel)


def _count_padding(inputs, kernel, strides, dilation, name):
  reach = [
    (size - 1) * step + 1
    for size, step in zip(kernel.shape, dilation, strict=False)
  ]
  return jax.lax.padtype_to_pads(inputs.shape[1:-1], reach, strides, name)


class _Window(NamedTuple):
  """How a kernel moves over the inputs, by axis."""

  strides: tuple[int, ...]
  dilation: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  groups: int
  precision: Any


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(window, inputs, kernel):
  return _apply(
    window,
    inputs,
    kernel,
    window.strides,
    window.padding,
    rhs_dilation=window.dilation,
  )


def _forward(window, inputs, kernel):
  return _convolve(window, inputs, kernel), (inputs, kernel)


def _backward(window, saved, grad):
  """Output i has input `stride * i + dilation * k - before` for kernel k."""
  inputs, kernel = saved
  to_inputs, to_kernel = [], []
  for axis, (stride, dilation, (before, _)) in enumerate(
    zip(window.strides, window.dilation, window.padding, strict=True)
  ):
    length = inputs.shape[axis + 1]
    reach = dilation * (kernel.shape[axis] - 1)
    last = stride * (grad.shape[axis + 1] - 1)
    to_inputs.append((reach - before, length - 1 - last + before))
    to_kernel.append((before, reach + last + 1 - length - before))
  groups, space = window.groups, tuple(range(len(to_inputs)))
  flipped = einops.rearrange(
    jnp.flip(kernel, space), '... c (g d) -> ... d (g c)', g=groups
  )
  input_grad = _apply(
    window,
    grad,
    flipped,
    (1,) * len(space),
    to_inputs,
    lhs_dilation=window.strides,
    rhs_dilation=window.dilation,
  )
  # The sum is over examples, which take the place of channels.
  kernel_grad = _apply(
    window,
    einops.rearrange(inputs, 'b ... (g c) -> c ... (g b)', g=groups),
    jnp.moveaxis(grad, 0, -2),  # [H, W, B, D]
    window.dilation,
    to_kernel,
    rhs_dilation=window.strides,
  )  # [C / groups, h, w, D]
  return input_grad, jnp.moveaxis(kernel_grad, 0, -2)


_convolve.defvjp(_forward, _backward)


def _apply(window, inputs, kernel, strides, padding, **dilation):
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    strides,
    padding,
    dimension_numbers=_last(inputs.ndim),
    feature_group_count=window.groups,
    precision=window.precision,
    **dilation,
  )


def _last(ndim: int) -> jax.lax.ConvDimensionNumbers:
  """Inputs, kernel and outputs with channels last."""
  space = tuple(range(1, ndim - 1))
  arrays = (0, ndim - 1, *space)
  kernel = (ndim - 1, ndim - 2, *(axis - 1 for axis in space))
  return jax.lax.ConvDimensionNumbers(arrays, kernel, arrays)


def _channels_last(inputs, kernel, dimension_numbers) -> bool:
  numbers = jax.lax.conv_dimension_numbers(
    inputs.shape, kernel.shape, dimension_numbers
  )
  return numbers == _last(inputs.ndim)
