"""Optimizers of optax, put together from the config's section `optimizer`.

Whatever the optimizer, an update is: clip, the optimizer's direction, add
weight decay, times the learning rate, times the factor of the parameter's path.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from mmjax.errors import choose
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.training import schedule

# Default b1 and b2 of each optimizer; None where it has none.
_MOMENTS = {
  'adamw': (0.9, 0.999),
  'lion': (0.9, 0.99),
  'adafactor': (None, None),
  'muon': (0.9, 0.999),
  'sgd': (0.9, None),
}


def build(
  config: Any, params: Any, *, steps: int, axes: Any = None
) -> optax.GradientTransformation:
  """Makes the gradient transformation that the config describes.

  Args:
    config: the section `optimizer`.
    params: all parameters or their shapes.
    steps: updates in the run, for the schedule.
    axes: tree of `PartitionSpec` with the parameters' logical axis names
      (`nn.get_partition_spec`); Muon reads from it which axes of a
      weight are inputs, outputs and layers.

  Returns:
    A transformation for a tree of the trained parameters alone.

  Raises:
    ConfigError: on an unknown name, or a pattern that matches no parameter.
  """
  scales = tuple((pattern, factor) for pattern, factor in config.lr_scales)
  for field in ('freeze', 'no_decay', 'no_muon'):
    tree_paths.check(f'optimizer.{field}', config[field], params)
  tree_paths.check('optimizer.lr_scales', [p for p, _ in scales], params)

  parts = [
    _direction(config, params, axes),
    optax.add_decayed_weights(
      config.weight_decay, mask=lambda tree: decays(tree, config.no_decay)
    ),
    optax.scale_by_learning_rate(schedule.build(config, steps)),
  ]
  if config.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  if scales:
    parts.append(_scale_by_path(scales))
  return optax.chain(*parts)


def decays(params: Any, no_decay: tuple[str, ...] = ()) -> Any:
  """Which parameters weight decay shrinks, a tree of bool.

  Those called `kernel` or `embedding` and both matrices of an adapter, except
  where a pattern of `no_decay` is found in the path. Biases, norms, scales and
  position tables stay as they are. (The number of axes says nothing: a scan
  stacks biases to matrices.)
  """
  return jax.tree.map(
    lambda path: (
      path.split('/')[-1] in ('kernel', 'embedding', adapters.A, adapters.B)
      and not any(re.search(pattern, path) for pattern in no_decay)
    ),
    tree_paths.names(params),
  )


def _direction(config: Any, params: Any, axes: Any):
  """The update before weight decay and learning rate."""
  b1, b2 = choose(config.name, _MOMENTS, 'optimizer.name')
  b1 = b1 if config.b1 is None else config.b1
  b2 = b2 if config.b2 is None else config.b2
  if config.name == 'adamw':
    return optax.scale_by_adam(b1, b2, eps=config.eps)
  if config.name == 'lion':
    return optax.scale_by_lion(b1, b2)
  if config.name == 'sgd':
    return optax.trace(decay=b1)
  if config.name == 'adafactor':
    parts = [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)]
    if b1 is not None:
      parts.append(optax.ema(b1, debias=False))
    return optax.chain(*parts)
  # optax's Muon descends; rate 1 and a change of sign give the bare direction.
  dimensions = muon_dimensions(params, axes, config.no_muon)
  return optax.chain(
    optax.contrib.muon(
      1.0,
      beta=config.momentum,
      adam_b1=b1,
      adam_b2=b2,
      eps=config.eps,
      consistent_rms=0.2,
      muon_weight_dimension_numbers=_by_path(dimensions),
    ),
    optax.scale(-1.0),
  )


def muon_dimensions(
  params: Any, axes: Any = None, no_muon: tuple[str, ...] = ()
) -> dict[str, optax.contrib.MuonDimensionNumbers]:
  """Which parameters are hidden matrices, and which of their axes are which.

  Hidden matrices are leaves called `kernel`, unless `vocab` is one of their
  axes or a pattern of `no_muon` is found in their path (use it for first and
  last layers). `layers` is a batch of matrices. `embed` first or last parts
  inputs from outputs, so attention's [embed, heads, head_dim] is one matrix
  of embed by heads * head_dim; otherwise the last axis is the output, as in
  convolutions [height, width, in, out].

  Returns:
    Path -> dimension numbers. What isn't in it is Adam's.
  """
  paths = tree_paths.names(params)
  logical = jax.tree.map(lambda leaf: (None,) * len(leaf.shape), params)
  if axes is not None:
    logical = jax.tree.map(
      lambda leaf, spec: tuple(spec) + (None,) * (len(leaf.shape) - len(spec)),
      params,
      axes,
    )
  out = {}
  for path, name in zip(
    jax.tree.leaves(paths),
    jax.tree.leaves(logical, is_leaf=lambda x: isinstance(x, tuple)),
    strict=True,
  ):
    own = [i for i, axis in enumerate(name) if axis != 'layers']
    excluded = any(re.search(pattern, path) for pattern in no_muon)
    hidden = path.split('/')[-1] == 'kernel' and 'vocab' not in name
    if excluded or not hidden or len(own) < 2:
      continue
    cut = 1 if name[own[0]] == 'embed' else len(own) - 1
    out[path] = optax.contrib.MuonDimensionNumbers(
      reduction_axis=tuple(own[:cut]), output_axis=tuple(own[cut:])
    )
  return out


def _by_path(dimensions: dict[str, Any]) -> Callable[[Any], Any]:
  """optax asks with several trees (parameters, updates, masked ones)."""
  return lambda tree: jax.tree.map(dimensions.get, tree_paths.names(tree))


def _scale_by_path(
  scales: tuple[tuple[str, float], ...],
) -> optax.GradientTransformation:
  """Times the factor of the first pattern found in a parameter's path."""

  def factor(path: str) -> float:
    return next((f for pattern, f in scales if re.search(pattern, path)), 1.0)

  return optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda path, update: factor(path) * update,
      tree_paths.names(updates),
      updates,
    )
  )
