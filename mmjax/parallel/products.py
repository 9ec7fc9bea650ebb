"""Products of activations with a layer's kernel, in the device's best form."""

import math

import jax.numpy as jnp

from mmjax.parallel import collectives
from mmjax.parallel import mesh as mesh_lib
from mmjax.types import Array


def project(x: Array, kernel: Array, axes: int = 1) -> Array:
  """Contracts the last axes of activations with the first ones of a kernel.

  On CPUs, it is a product of two matrices, with examples and tokens merged into
  one axis. For the gradient by the kernel, which sums over both, XLA would
  otherwise copy activations and gradients, transposed, on one thread.

  Args:
    x: activations, such as [B, N, D].
    kernel: weights, such as [D, M] or [D, H, K].
    axes: number of axes that are contracted.

  Returns:
    The product, such as [B, N, M] or [B, N, H, K].
  """
  if not _merges_rows():
    return jnp.tensordot(x, kernel, axes)
  number = math.prod(kernel.shape[:axes])
  product = x.reshape(-1, number) @ kernel.reshape(number, -1)
  return product.reshape(*x.shape[:-axes], *kernel.shape[axes:])


def _merges_rows() -> bool:
  """Whether the devices are CPUs, and the mesh doesn't split sequences.

  The merged axis couldn't be split over the devices of both its parts.
  """
  on_cpus = mesh_lib.platform() == 'cpu'
  return on_cpus and not collectives.automatic_axes(['sequence'])
