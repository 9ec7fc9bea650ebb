"""Modules whose dense layers are quantised."""

import flax.linen as nn
import jax

from mmjax.nn import adapters, quantized
from mmjax.ops import tree_paths


def quantize(module, x, kind, *, double):
  """A module's parameters with quantised kernels, and their boxed shapes."""
  with adapters.record_layers() as layers:
    boxed = module.init(jax.random.key(0), x, train=False)['params']
  params, boxes = nn.meta.unbox(boxed), adapters.flatten_boxed(boxed)
  leaves = tree_paths.flatten(params)
  for path, axes in layers.items():
    shapes = quantized.make_shapes(
      boxes.pop(f'{path}/kernel'), *axes, kind, double=double
    )
    boxes |= quantized.to_leaves(path, shapes)
    kernel = leaves.pop(f'{path}/kernel')
    packed = quantized.quantize_like(kernel, nn.meta.unbox(shapes))
    leaves |= quantized.to_leaves(path, packed)
  return tree_paths.unflatten(leaves), tree_paths.unflatten(boxes)
