"""Frozen kernels of dense layers in int8 or NF4.

In the tree of parameters such a layer has the leaves of
`mmjax.ops.quantization.Packed` instead of `kernel`: `kernel_codes`,
`kernel_scales`, and with double quantisation `kernel_scale_scales` and
`kernel_scale_means`. A layer applies what its parameters have, and computes the
kernel where the product is, again in the backward pass, so that no step holds
those of all layers.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.ops import quantization, tree_paths
from mmjax.ops.quantization import Packed
from mmjax.parallel import products, rules
from mmjax.types import Array, Params

_LEAVES = tuple(f'kernel_{name}' for name in Packed._fields)


def find_kernel(
  layer: nn.Module,
  init: Any,
  shape: tuple[int, ...],
  dtype: Any = jnp.float32,
) -> Array | Packed:
  """A layer's kernel, as its parameters have it.

  Args:
    layer: the layer, while it runs.
    init: initialiser of the parameter `kernel`.
    shape: its shape.
    dtype: its dtype.

  Raises:
    ConfigError: if a quantised kernel has another shape.
  """
  if not layer.has_variable('params', _LEAVES[0]):
    return layer.param('kernel', init, shape, dtype)
  packed = Packed(
    *(
      layer.get_variable('params', name)
      if layer.has_variable('params', name)
      else None
      for name in _LEAVES
    )
  )
  if packed.shape != tuple(shape):
    raise ConfigError(
      f'the quantised kernel of {"/".join(layer.path)} has the shape '
      f'{packed.shape}, and the layer needs {tuple(shape)}; take the '
      'parameters of this model'
    )
  return packed


def promote(
  x: Array, kernel: Array | Packed, bias: Array | None, dtype: Any
) -> tuple[Array, Array | Packed, Array | None]:
  """Gives all the dtype of the computation, as Linen's `promote_dtype`."""
  if not isinstance(kernel, Packed):
    return nn.dtypes.promote_dtype(x, kernel, bias, dtype=dtype)
  x, bias = nn.dtypes.promote_dtype(x, bias, dtype=dtype)
  return x, kernel, bias


def project(x: Array, kernel: Array | Packed, axes: int = 1) -> Array:
  """`products.project`, of a kernel in either form."""
  if isinstance(kernel, Packed):
    return _project(axes, x, kernel)
  return products.project(x, kernel, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _project(axes: int, x: Array, packed: Packed) -> Array:
  # XLA would otherwise compute the kernels of many layers ahead.
  packed, x = jax.lax.optimization_barrier((packed, x))
  return products.project(x, quantization.dequantize(packed, x.dtype), axes)


def _forward(axes: int, x: Array, packed: Packed) -> tuple[Array, Packed]:
  return _project(axes, x, packed), packed


def _backward(axes: int, packed: Packed, grad: Array) -> tuple[Array, None]:
  # It would also keep the forward pass's kernel until here.
  packed, grad = jax.lax.optimization_barrier((packed, grad))
  kernel = quantization.dequantize(packed, grad.dtype)
  rows = grad.shape[: grad.ndim - (kernel.ndim - axes)]
  shape = jax.ShapeDtypeStruct((*rows, *kernel.shape[:axes]), grad.dtype)
  transposed = jax.linear_transpose(
    lambda x: products.project(x, kernel, axes), shape
  )
  return *transposed(grad), None


_project.defvjp(_forward, _backward)


def as_array(kernel: Array | Packed, dtype: Any = jnp.float32) -> Array:
  """A kernel in floating point."""
  if isinstance(kernel, Packed):
    return quantization.dequantize(kernel, dtype)
  return kernel.astype(dtype)


def is_packed(path: str) -> bool:
  """Whether a path is that of a leaf of a quantised kernel."""
  return path.rpartition('/')[2] in _LEAVES


def find(params: Params) -> dict[str, Packed]:
  """The quantised kernels of a tree, by the paths of their layers."""
  leaves = tree_paths.flatten(params)
  layers = [p.rpartition('/')[0] for p in leaves if p.endswith(_LEAVES[0])]
  return {layer: get(leaves, layer) for layer in layers}


def get(leaves: Mapping[str, Any], layer: str) -> Packed:
  """The quantised kernel of a layer, of leaves by their paths."""
  return Packed(*(leaves.get(f'{layer}/{name}') for name in _LEAVES))


def to_leaves(layer: str, packed: Packed) -> dict[str, Any]:
  """The leaves of a quantised kernel by their paths."""
  named = zip(_LEAVES, packed, strict=True)
  return {f'{layer}/{name}': leaf for name, leaf in named if leaf is not None}


def dequantize(params: Params, dtype: Any = jnp.float32) -> Params:
  """The tree with `kernel` in floating point instead of each quantised one."""
  rest = {
    path: leaf
    for path, leaf in tree_paths.flatten(params).items()
    if not is_packed(path)
  }
  unpack = jax.jit(functools.partial(quantization.dequantize, dtype=dtype))
  kernels = {
    f'{layer}/kernel': unpack(packed) for layer, packed in find(params).items()
  }
  return tree_paths.unflatten(rest | kernels)


def make_shapes(
  kernel: Any, inputs: int, outputs: int, kind: str, *, double: bool
) -> Packed | None:
  """Shapes of a quantised kernel, with their logical axes.

  Args:
    kernel: shape of the kernel, in its box.
    inputs: number of its axes of inputs.
    outputs: number of its axes of outputs.
    kind: 'int8' or 'nf4'.
    double: whether the scales are quantised too.

  Returns:
    Boxed shapes; None if the inputs have no blocks.
  """
  plain = nn.meta.unbox(kernel)
  axis = len(plain.shape) - outputs - 1
  if quantization.find_block(plain.shape[axis]) is None:
    return None
  is_boxed = isinstance(kernel, nn.meta.AxisMetadata)
  names = kernel.names if is_boxed else (None,) * len(plain.shape)
  blocks = rules.name_blocks(names[axis])
  names = (*names[:axis], blocks, None, *names[axis + 1 :])
  quantize = functools.partial(
    quantization.quantize,
    axis=axis,
    kind=kind,
    stacked=axis + 1 - inputs if double else None,
  )
  shapes = jax.eval_shape(quantize, plain)

  def box(leaf: Any) -> Any:
    sizes = zip(names, leaf.shape, shapes.codes.shape, strict=True)
    own = tuple(name if n == whole else None for name, n, whole in sizes)
    return nn.LogicallyPartitioned(leaf, own)

  return jax.tree.map(box, shapes)


def as_plain(params: Params) -> Params:
  """The shapes of a tree before quantisation, kernels in float32.

  Args:
    params: tree of `jax.ShapeDtypeStruct`, with shardings or without.
  """
  leaves = tree_paths.flatten(params)
  out = {path: leaf for path, leaf in leaves.items() if not is_packed(path)}
  for layer, packed in find(params).items():
    sharding = getattr(packed.codes, 'sharding', None)
    if isinstance(sharding, jax.NamedSharding):
      spec = [*sharding.spec, *[None] * packed.codes.ndim][: packed.codes.ndim]
      del spec[packed.axis]
      sharding = jax.NamedSharding(sharding.mesh, jax.P(*spec))
    out[f'{layer}/kernel'] = jax.ShapeDtypeStruct(
      packed.shape, jnp.float32, sharding=sharding
    )
  return tree_paths.unflatten(out)


def quantize_like(kernel: Array, like: Packed) -> Packed:
  """Quantises a kernel to the shapes, and with the shardings, of another."""
  stacked = None
  if like.scale_means is not None:
    sizes = like.scale_means.shape
    stacked = next((i for i, n in enumerate(sizes) if n == 1), len(sizes))
  quantize = functools.partial(
    quantization.quantize,
    axis=like.axis - 1,
    kind=like.kind,
    stacked=stacked,
  )
  shardings = jax.tree.map(lambda leaf: getattr(leaf, 'sharding', None), like)
  return jax.jit(quantize, out_shardings=shardings)(kernel)


def quantize_chosen(
  chosen: Mapping[str, Packed], path: str, leaf: Array
) -> Array | Packed:
  """A parameter, quantised if it is the kernel of one of the chosen layers."""
  layer, _, name = path.rpartition('/')
  if name != 'kernel' or layer not in chosen:
    return leaf
  return quantize_like(leaf, chosen[layer])


def join_leaves(kernels: Mapping[str, Packed]) -> dict[str, Any]:
  """The leaves by their paths of quantised kernels by those of their layers."""
  return {
    path: leaf
    for layer, packed in kernels.items()
    for path, leaf in to_leaves(layer, packed).items()
  }


def zeros(shapes: Mapping[str, Packed]) -> dict[str, Array]:
  """Leaves, all 0, of quantised kernels that are read afterwards."""
  leaves = join_leaves(shapes)
  return {path: jnp.zeros(x.shape, x.dtype) for path, x in leaves.items()}
