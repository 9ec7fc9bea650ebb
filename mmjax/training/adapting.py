"""Which parameters a run trains: all, those not frozen, or adapters."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.errors import ConfigError
from mmjax.nn import adapters, quantized
from mmjax.ops import quantization, tree_paths
from mmjax.parallel import hosts
from mmjax.training import state as state_lib
from mmjax.training.experiment import Experiment
from mmjax.types import Array, Params


def find_trained(config: Any, params: Params) -> Any:
  """Which parameters are trained, a tree of bool.

  With adapters, theirs and those that `adapter.train` names; without, all. Of
  these, none that `optimizer.freeze` names.

  Args:
    config: a completed config.
    params: the parameters or their shapes, adapters included.
  """
  frozen = tree_paths.mask(config.optimizer.freeze, params)
  if not config.adapter.layers:
    return jax.tree.map(lambda is_frozen: not is_frozen, frozen)
  named = tree_paths.mask(config.adapter.train, params)

  def trained(path: str, is_named: bool, is_frozen: bool) -> bool:
    own = adapters.is_trained(path)
    is_fixed = adapters.is_adapter(path) or quantized.is_packed(path)
    return (own or (is_named and not is_fixed)) and not is_frozen

  return jax.tree.map(trained, tree_paths.names(params), named, frozen)


def extend(
  config: Any, experiment: Experiment, boxed: Params
) -> tuple[Params, Callable[[Array, Params], Params] | None]:
  """Adds a config's adapters to the model's parameters.

  Args:
    config: a completed config.
    experiment: the experiment of the config.
    boxed: boxed parameters of `state.shapes`.

  Returns:
    The shapes with adapters, frozen parameters in `adapter.frozen_dtype` or
    quantised, and the function that makes such parameters of a key and the
    model's; of quantised ones it makes zeros, as `init_from` has them. Without
    adapters the same shapes and None.

  Raises:
    ConfigError: if a pattern matches no layer that can have an adapter, nothing
      is there to adapt, or only the scales of quantised kernels are quantised.
  """
  if not config.adapter.layers:
    if config.adapter.quantize or config.adapter.double_quantize:
      raise ConfigError(
        'adapter.quantize and adapter.double_quantize store frozen kernels '
        'beside adapters, but adapter.layers is empty; name the layers there'
      )
    return boxed, None
  if not config.init_from:
    raise ConfigError(
      f'adapter.layers={config.adapter.layers!r}, but init_from is empty: '
      'adapters change trained weights, which stay as they are; name the model '
      'to start from, or train all parameters with adapter.layers=()'
    )
  lora, layers = _settings(config), _record_layers(experiment)
  shapes = adapters.make_shapes(boxed, _choose_layers(config, layers), lora)
  whole = adapters.flatten_boxed(boxed) | adapters.flatten_boxed(shapes)
  tree_paths.check('adapter.train', config.adapter.train, nn.meta.unbox(boxed))
  extended = tree_paths.unflatten(whole)
  kept = find_trained(config, nn.meta.unbox(extended))
  cast = functools.partial(
    _cast_frozen, tree_paths.flatten(kept), config.adapter.frozen_dtype
  )

  values = jax.eval_shape(cast, nn.meta.unbox(extended))
  extended = nn.meta.replace_boxed(extended, values)
  boxes = _find_packed(config, layers, extended, tree_paths.flatten(kept))
  packed = nn.meta.unbox(boxes)

  def adapt(key: Array, params: Params) -> Params:
    own = adapters.init(key, nn.meta.unbox(shapes), params, lora)
    return _replace(
      cast(tree_paths.overlay(params, own)), packed, quantized.zeros(packed)
    )

  return _replace(extended, boxes, quantized.join_leaves(boxes)), adapt


def check_read(
  config: Any,
  params: Params,
  read: Collection[str],
  pretrained_parts: Sequence[str] = (),
) -> None:
  """Refuses, or names, parameters that would stay random.

  Without adapters frozen random parameters are logged, not refused: they may be
  the baseline of a comparison.

  Args:
    config: a completed config.
    params: shapes of all parameters.
    read: paths of those that `init_from` has values for.
    pretrained_parts: parts of the model that must be trained before.

  Raises:
    ConfigError: naming those that are frozen beside adapters, or are in parts
      that must be trained before.
  """
  trained = tree_paths.flatten(find_trained(config, params))
  new = [path for path in trained if path not in read]
  for part in pretrained_parts:
    if untrained := [path for path in new if path.startswith(f'{part}/')]:
      raise ConfigError(
        f'init_from={config.init_from!r} has no values of '
        f'{_shorten(untrained)}, and what a random {part} makes means nothing; '
        f'train one first, and name it: init_from={part}=FOLDER'
      )
  frozen = [p for p in new if not trained[p] and not adapters.is_adapter(p)]
  if frozen and config.adapter.layers:
    raise ConfigError(
      f'init_from={config.init_from!r} has no values of {_shorten(frozen)}: '
      'they would stay random, as only adapters are trained; add a pattern of '
      f'them to adapter.train={config.adapter.train!r}'
    )
  if frozen:
    hosts.log(
      f'optimizer.freeze: {len(frozen)} of the frozen parameters stay random, '
      f'as init_from has no values of them: {_shorten(frozen)}'
    )


def _shorten(paths: Sequence[str]) -> str:
  return ', '.join(paths[:5]) + (', ...' if paths[5:] else '')


def reset_magnitudes(state: state_lib.State) -> state_lib.State:
  """Sets the magnitudes of DoRA to the norms of the kernels as they are now."""
  shardings = {
    path: leaf.sharding
    for path, leaf in tree_paths.flatten(state.params).items()
    if path.endswith(f'/{adapters.MAGNITUDE}')
  }
  if not shardings:
    return state
  find = jax.jit(adapters.find_magnitudes, out_shardings=shardings)
  return state_lib.with_params(state, find(state.params))


def _settings(config: Any) -> adapters.Lora:
  section = config.adapter
  return adapters.Lora(
    rank=section.rank,
    alpha=section.alpha,
    dropout=section.dropout,
    rank_stabilized=section.rank_stabilized,
    dora=section.dora,
  )


def _record_layers(experiment: Experiment) -> dict[str, tuple[int, int]]:
  """The layers that can have an adapter, with the axes of their kernels."""
  with adapters.record_layers() as layers:
    state_lib.shapes(experiment.model, experiment.init_batch)
  return layers


def _choose_layers(
  config: Any, layers: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
  """The layers that `adapter.layers` names."""
  named = {path: path for path in layers}
  tree_paths.check(
    'adapter.layers', config.adapter.layers, tree_paths.unflatten(named)
  )
  chosen = tree_paths.flatten(
    tree_paths.mask(config.adapter.layers, tree_paths.unflatten(named))
  )
  return {path: axes for path, axes in layers.items() if chosen[path]}


def _cast_frozen(
  trained: Mapping[str, bool], dtype: str, params: Params
) -> Params:
  """Casts what is frozen, apart from the constants of adapters."""

  def cast(path: str, leaf: Any) -> Any:
    if trained[path] or adapters.is_adapter(path):
      return leaf
    return leaf.astype(jnp.dtype(dtype))

  leaves = tree_paths.flatten(params)
  return tree_paths.unflatten({p: cast(p, leaf) for p, leaf in leaves.items()})


def _find_packed(
  config: Any,
  layers: Mapping[str, tuple[int, int]],
  boxed: Params,
  trained: Mapping[str, bool],
) -> dict[str, quantization.Packed]:
  """Shapes of the kernels that are quantised, by the paths of their layers."""
  kind, double = config.adapter.quantize, config.adapter.double_quantize
  if not kind:
    if double:
      raise ConfigError(
        'adapter.double_quantize=True quantises the scales of quantised '
        "kernels, but adapter.quantize is ''; set it to "
        f'{" or ".join(map(repr, quantization.KINDS))}'
      )
    return {}
  leaves, packed = adapters.flatten_boxed(boxed), {}
  for path, axes in layers.items():
    if not trained[f'{path}/kernel']:
      kernel = leaves[f'{path}/kernel']
      packed[path] = quantized.make_shapes(kernel, *axes, kind, double=double)
  whole = [path for path, shapes in packed.items() if shapes is None]
  if whole:
    hosts.log(
      f'adapter.quantize={kind!r}: kernels whose number of inputs (of a head, '
      'in outputs of attention) no even number from 16 to 64 divides stay in '
      f'{config.adapter.frozen_dtype}: ' + ', '.join(whole)
    )
  return {path: shapes for path, shapes in packed.items() if shapes is not None}


def _replace(
  params: Params, layers: Iterable[str], leaves: Mapping[str, Any]
) -> Params:
  """The tree with other leaves instead of the kernels of some layers."""
  kernels = {f'{layer}/kernel' for layer in layers}
  kept = adapters.flatten_boxed(params)
  return tree_paths.unflatten(
    {p: leaf for p, leaf in kept.items() if p not in kernels} | dict(leaves)
  )
