"""Low-rank adapters: small parameters beside the frozen kernel of a layer.

An adapter adds scale * a @ b to a dense layer's kernel (LoRA, Hu et al. 2022,
equation 3); DoRA also learns the norm of each column of the sum (Liu et al.
2024, equation 5). Its leaves lie in the tree of parameters, beside `kernel`:

  lora_a          [*inputs, rank]
  lora_b          [rank, *outputs]
  lora_scale      [], alpha / rank; not trained
  lora_dropout    [], rate on the inputs of `lora_a`; not trained, only if > 0
  lora_magnitude  [*outputs], of DoRA

each with a leading axis of layers where the kernel has one. A layer applies the
adapter that its parameters have (`project`), so a tree with adapters is all
that `apply`, decoding, saving and sharding need.
"""

import contextlib
import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.nn import quantized
from mmjax.ops import quantization, tree_paths
from mmjax.parallel import products
from mmjax.types import Array, Params

A, B, MAGNITUDE = 'lora_a', 'lora_b', 'lora_magnitude'
SCALE, DROPOUT = 'lora_scale', 'lora_dropout'
TRAINED = (A, B, MAGNITUDE)
LEAVES = (*TRAINED, SCALE, DROPOUT)


@dataclasses.dataclass(frozen=True)
class Lora:
  """Settings of the adapters of a model.

  Attributes:
    rank: size of the axis between `a` and `b`.
    alpha: alpha / rank is the factor on their product.
    dropout: rate on the inputs of `a` in training.
    rank_stabilized: whether the factor is alpha / sqrt(rank) instead
      (Kalajdzievski 2023, equation 4).
    dora: whether a magnitude is learnt as well.
  """

  rank: int
  alpha: float
  dropout: float = 0.0
  rank_stabilized: bool = False
  dora: bool = False

  @property
  def scale(self) -> float:
    """The factor on the product of `a` and `b`."""
    root = math.sqrt(self.rank) if self.rank_stabilized else self.rank
    return self.alpha / root


def project(
  layer: nn.Module,
  x: Array,
  kernel: Array | quantization.Packed,
  axes: int = 1,
) -> Array:
  """The product of activations with a layer's kernel and its adapter, if any.

  In training, that is with an rng 'dropout', the adapter's dropout is on.

  Args:
    layer: the layer that has the kernel, and calls this.
    x: activations [..., *inputs].
    kernel: [*inputs, *outputs], of the same dtype or quantised.
    axes: number of the kernel's axes of inputs.

  Returns:
    The product [..., *outputs], without a bias.
  """
  y = quantized.project(x, kernel, axes)
  if not layer.has_variable('params', A):
    return y
  leaf = lambda name: layer.get_variable('params', name)
  a, b, scale = leaf(A), leaf(B), leaf(SCALE)
  drops = layer.has_variable('params', DROPOUT) and layer.has_rng('dropout')
  if drops:
    x = _drop(layer.make_rng('dropout'), x, leaf(DROPOUT))
  low = products.project(x, a.astype(x.dtype), axes)  # [..., rank]
  change = products.project(low, (scale * b).astype(x.dtype))
  if not layer.has_variable('params', MAGNITUDE):
    return y + change
  # The norm is a constant to the gradient (Liu et al. 2024, section 4.3).
  norm = jax.lax.stop_gradient(_column_norms(kernel, a, b, scale))
  ratio = (leaf(MAGNITUDE) / norm).astype(x.dtype)  # [*outputs]
  ratio = jnp.expand_dims(ratio, range(y.ndim - ratio.ndim))
  base = quantized.project(x, kernel, axes) if drops else y
  return y + (ratio - 1) * base + ratio * change


def _drop(key: Array, x: Array, rate: Array) -> Array:
  kept = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(kept, x / (1 - rate).astype(x.dtype), 0)


@contextlib.contextmanager
def record_layers() -> Iterator[dict[str, int]]:
  """Records the layers that can have an adapter, while a module runs.

  Yields:
    Path of each layer, such as 'text/blocks/layers/mlp/up' -> number of its
    kernel's axes of inputs and outputs.
  """
  found: dict[str, tuple[int, int]] = {}

  def record(call, args, kwargs, context):
    axes = getattr(type(context.module), 'kernel_axes', None)
    if axes is not None and context.method_name == '__call__':
      found['/'.join(context.module.path)] = axes
    return call(*args, **kwargs)

  with nn.intercept_methods(record):
    yield found


def make_shapes(
  boxed: Params, layers: Mapping[str, tuple[int, int]], lora: Lora
) -> Params:
  """Shapes of adapters, with their logical axes.

  Args:
    boxed: shapes of the model's parameters, with the boxes of
      `nn.with_logical_partitioning`.
    layers: layers of `record_layers` that get an adapter.
    lora: settings of the adapters.

  Returns:
    A tree with the adapters' leaves alone, in the same boxes.
  """
  leaves = flatten_boxed(boxed)
  out = {}
  for path, (inputs, outputs) in layers.items():
    kernel = leaves[f'{path}/kernel']
    shape, names = nn.meta.unbox(kernel).shape, _axis_names(kernel)
    stacked = len(shape) - inputs - outputs
    cut = stacked + inputs
    made = {
      A: ((*shape[:cut], lora.rank), (*names[:cut], None)),
      B: (
        (*shape[:stacked], lora.rank, *shape[cut:]),
        (*names[:stacked], None, *names[cut:]),
      ),
      SCALE: (shape[:stacked], names[:stacked]),
    }
    if lora.dropout:
      made[DROPOUT] = made[SCALE]
    if lora.dora:
      made[MAGNITUDE] = (
        (*shape[:stacked], *shape[cut:]),
        (*names[:stacked], *names[cut:]),
      )
    for name, (own_shape, own_names) in made.items():
      out[f'{path}/{name}'] = nn.LogicallyPartitioned(
        jax.ShapeDtypeStruct(own_shape, jnp.float32), own_names
      )
  return tree_paths.unflatten(out)


def init(key: Array, shapes: Params, params: Params, lora: Lora) -> Params:
  """Draws the adapters' first values, which change nothing in the model.

  `a` is uniform of variance 1 / (3 * inputs), as in PEFT, and `b` is zero.

  Args:
    key: key of all adapters; each gets its own by its path.
    shapes: shapes of the adapters.
    params: the model's parameters, for the magnitudes.
    lora: settings of the adapters.
  """
  kernels = tree_paths.flatten(params)
  out = {}
  for path, leaf in tree_paths.flatten(shapes).items():
    parent, name = path.rsplit('/', 1)
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    if name == A:
      stacked = len(tree_paths.flatten(shapes)[f'{parent}/{SCALE}'].shape)
      bound = math.prod(leaf.shape[stacked:-1]) ** -0.5
      out[path] = jax.random.uniform(
        own, leaf.shape, minval=-bound, maxval=bound
      )
    elif name in (SCALE, DROPOUT):
      value = lora.scale if name == SCALE else lora.dropout
      out[path] = jnp.full(leaf.shape, value, jnp.float32)
    else:
      out[path] = jnp.zeros(leaf.shape, jnp.float32)
  merged = tree_paths.unflatten(kernels | out)
  return tree_paths.unflatten(out | find_magnitudes(merged))


def find_magnitudes(params: Params) -> dict[str, Array]:
  """By path, the magnitudes of DoRA with which adapters change nothing."""
  leaves = tree_paths.flatten(params)
  out = {}
  for path in leaves:
    parent, _, name = path.rpartition('/')
    if name == MAGNITUDE:
      own = _of_layer(leaves, parent)
      parts = own['kernel'], own[A], own[B], own[SCALE]
      norms = lambda of_layer: _column_norms(*of_layer)
      # One layer at a time, as the sum of the matrices is in float32.
      is_stack = own[SCALE].ndim > 0
      out[path] = jax.lax.map(norms, parts) if is_stack else norms(parts)
  return out


def is_adapter(path: str) -> bool:
  """Whether a path is that of an adapter's leaf."""
  return path.rpartition('/')[2] in LEAVES


def is_trained(path: str) -> bool:
  """Whether a path is that of a leaf of an adapter that is trained."""
  return path.rpartition('/')[2] in TRAINED


def split(params: Params) -> tuple[Params, Params]:
  """Splits parameters into the model's and those of its adapters."""
  leaves = tree_paths.flatten(params)
  own = {path: leaf for path, leaf in leaves.items() if is_adapter(path)}
  rest = {path: leaf for path, leaf in leaves.items() if path not in own}
  return tree_paths.unflatten(rest), tree_paths.unflatten(own)


def merge(params: Params) -> Params:
  """Merges adapters into their kernels, which keep their dtype.

  Quantised kernels become float32.

  Args:
    params: parameters, with adapters or without.

  Returns:
    Parameters without adapters, of a model that computes the same.
  """
  leaves = tree_paths.flatten(quantized.dequantize(params))
  out = {path: leaf for path, leaf in leaves.items() if not is_adapter(path)}
  for path in leaves:
    parent, _, name = path.rpartition('/')
    if name == A:
      own = _of_layer(leaves, parent)
      merge_one = jax.vmap(_merge) if own[SCALE].ndim else _merge
      out[f'{parent}/kernel'] = merge_one(own)
  return tree_paths.unflatten(out)


def flatten_boxed(boxed: Params) -> dict[str, Any]:
  """Boxed leaves by their paths."""
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  return {
    tree_paths.join(path): leaf
    for path, leaf in jax.tree.leaves_with_path(boxed, is_leaf=is_box)
  }


def _axis_names(leaf: Any) -> tuple[str | None, ...]:
  if isinstance(leaf, nn.meta.AxisMetadata):
    return leaf.names
  return (None,) * len(leaf.shape)


def _of_layer(leaves: Mapping[str, Any], parent: str) -> dict[str, Any]:
  """The kernel of a layer and the leaves of its adapter, by name."""
  names = ('kernel', *LEAVES)
  own = {n: leaves[p] for n in names if (p := f'{parent}/{n}') in leaves}
  if 'kernel' not in own:
    own['kernel'] = quantized.get(leaves, parent)
  return own


def _merge(own: Mapping[str, Array]) -> Array:
  kernel, scale = own['kernel'], own[SCALE]
  total = _add(kernel, own[A], own[B], scale)
  if MAGNITUDE in own:
    ratio = own[MAGNITUDE] / _column_norms(kernel, own[A], own[B], scale)
    total *= jnp.expand_dims(ratio, range(total.ndim - ratio.ndim))
  return total.astype(kernel.dtype)


def _add(
  kernel: Array | quantization.Packed, a: Array, b: Array, scale: Array
) -> Array:
  """kernel + scale * a @ b in float32."""
  exact = jax.lax.Precision.HIGHEST
  a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  change = scale * jnp.tensordot(a, b, 1, precision=exact)
  return quantized.as_array(kernel) + change


def _column_norms(
  kernel: Array | quantization.Packed, a: Array, b: Array, scale: Array
) -> Array:
  """Norms over the inputs of kernel + scale * a @ b: [*outputs] float32."""
  total = _add(kernel, a, b, scale)
  return jnp.sqrt(jnp.sum(total**2, axis=tuple(range(a.ndim - 1))))
