"""PEFT's folders of adapters: adapter_config.json, adapter_model.safetensors.

LoRA and DoRA of dense layers, with layers that were trained in full beside
them; each in both directions.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mmjax.errors import ConfigError
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.pretrained import (
  base,
  families,
  keys,
  mismatches,
  peft_config,
  peft_layers,
)
from mmjax.pretrained import tensors as tensors_lib

FILE = 'adapter_model.safetensors'
_PREFIX = 'base_model.model.'
# Ends of the names of an adapter's tensors, and our leaves.
_LEAVES = {
  '.lora_A.weight': adapters.A,
  '.lora_B.weight': adapters.B,
  '.lora_magnitude_vector': adapters.MAGNITUDE,
}


def attach(
  model: base.Pretrained,
  layers: peft_layers.Layers,
  folder: Path,
  config: Mapping[str, Any],
) -> base.Pretrained:
  """Adds the adapters of a folder to their base model.

  Args:
    model: the base model.
    layers: its layers.
    folder: the adapter's folder.
    config: config of `peft_config.read`.

  Raises:
    ConfigError: if the adapter is of another model, or its file is broken.
  """
  found: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
  whole, unknown = {}, []
  for name, array in _read_tensors(folder).items():
    layer, leaf = _split_name(name)
    ours = layers.find(layer)
    if not ours or (leaf in adapters.LEAVES and ours not in layers.slots):
      unknown.append(name)
    elif leaf in adapters.LEAVES:
      found[ours][leaf] = array
    else:
      whole[f'{layers.tables[ours]}.{leaf}'] = array
  if unknown:
    raise ConfigError(
      f'{folder / FILE}: {model!r} has no dense layer for '
      f'{mismatches.shorten(sorted(unknown))}; take the model that the adapter '
      'was trained for'
    )
  params = tree_paths.flatten(model.params)
  trained = _replace_whole(model, params, whole, folder)
  own: dict[str, Any] = {}
  for path, slots in layers.by_path().items():
    parts = {
      slot.number: _to_ours(
        slot, found[slot.name], layers.inputs[path], config, folder
      )
      for slot in slots
      if slot.name in found
    }
    if parts:
      kernel = params[f'{path}/kernel']
      own |= _stack(path, kernel, parts, layers.inputs[path])
  # Layers without an adapter of their own keep the norms of their kernels.
  norms = adapters.find_magnitudes(tree_paths.unflatten(params | own))
  own |= {p: jnp.where(jnp.isnan(own[p]), norms[p], own[p]) for p in norms}
  dtype = jax.tree.leaves(model.params)[0].dtype
  own = {path: jnp.asarray(leaf).astype(dtype) for path, leaf in own.items()}
  return dataclasses.replace(
    model,
    params=tree_paths.unflatten(params | own),
    base=str(config['base_model_name_or_path']),
    tuned=tuple(trained),
  )


def save(
  model: base.Pretrained, layers: peft_layers.Layers, folder: Path | str
) -> None:
  """Writes the adapters of a model as PEFT does, without the model.

  Args:
    model: a model with adapters.
    layers: its layers.
    folder: path of the folder, which is made if it does not exist.

  Raises:
    ConfigError: if it has none, or PEFT has no form of one.
  """
  params = tree_paths.flatten(jax.device_get(model.params))
  own = _collect(model, layers, params)
  tensors = {
    f'{_PREFIX}{name}{ending}': leaves[leaf]
    for name, leaves in own.items()
    for ending, leaf in _LEAVES.items()
    if leaf in leaves
  }
  whole = dict(_find_whole(model, layers))
  tensors |= {f'{_PREFIX}{name}': array for name, array in whole.items()}
  rates = [v for p, v in params.items() if p.endswith(f'/{adapters.DROPOUT}')]
  config = peft_config.make(
    model,
    ranks={name: len(leaves[adapters.A]) for name, leaves in own.items()},
    scales={
      name: float(leaves[adapters.SCALE]) for name, leaves in own.items()
    },
    dropout=max((float(np.max(rate)) for rate in rates), default=0.0),
    dora=any(adapters.MAGNITUDE in leaves for leaves in own.values()),
    is_transposed=layers.is_transposed,
    layers=list(layers.tables),
    whole=sorted({name.rpartition('.')[0] for name in whole}),
  )
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tensors_lib.save_file(tensors, folder / FILE)
  text = json.dumps(config, indent=2, sort_keys=True)
  (folder / peft_config.FILE).write_text(text)


def _collect(
  model: base.Pretrained,
  layers: peft_layers.Layers,
  params: Mapping[str, np.ndarray],
) -> dict[str, Mapping[str, np.ndarray]]:
  """By name of a layer in transformers, its adapter in PEFT's layout."""
  ending = f'/{adapters.A}'
  adapted = [p.removesuffix(ending) for p in params if p.endswith(ending)]
  if not adapted:
    raise ConfigError(
      f'{model!r} has no adapters; train some with adapter.layers, or save the '
      'whole model'
    )
  by_path = layers.by_path()
  lacking = sorted(path for path in adapted if path not in by_path)
  if lacking:
    raise ConfigError(
      f'PEFT has no adapter of {mismatches.shorten(lacking)}, which is not a '
      'dense layer there; save the merged model'
    )
  parts: dict[str, dict[int, dict[str, np.ndarray]]] = {}
  for path in adapted:
    for slot in by_path[path]:
      own = parts.setdefault(slot.name, {})
      own[slot.part] = _to_theirs(slot, path, params)
  return {
    name: _join(name, own, layers.slots[name][0].parts)
    for name, own in parts.items()
  }


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
  path = folder / FILE
  if not path.exists():
    raise ConfigError(
      f'{folder} has no {FILE}; adapters in pickles are not read: save them '
      'with safe_serialization=True'
    )
  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ConfigError(
      f'{path} is broken or cut off ({error}); download it again'
    ) from error


def _split_name(name: str) -> tuple[str, str]:
  """The layer of a tensor, and our leaf or the rest of its name.

  >>> _split_name('base_model.model.lm_head.lora_A.weight')
  ('lm_head', 'lora_a')
  >>> _split_name('base_model.model.lm_head.weight')
  ('lm_head', 'weight')
  """
  name = name.removeprefix(_PREFIX)
  for ending, leaf in _LEAVES.items():
    if name.endswith(ending):
      return name.removesuffix(ending), leaf
  layer, _, leaf = name.rpartition('.')
  return layer, leaf


def _to_ours(
  slot: peft_layers.Slot,
  own: Mapping[str, np.ndarray],
  inputs: int,
  config: Mapping[str, Any],
  folder: Path,
) -> dict[str, np.ndarray]:
  """One layer's adapter in our layout, of the shape of its kernel."""
  lacking = {adapters.A, adapters.B} - own.keys()
  if config.get('use_dora'):
    lacking |= {adapters.MAGNITUDE} - own.keys()
  if lacking:
    raise ConfigError(
      f'{folder / FILE} has no {", ".join(sorted(lacking))} of {slot.name}; '
      'save the adapter again'
    )
  a, b = (own[leaf].astype(np.float32) for leaf in (adapters.A, adapters.B))
  rank, shape = len(a), slot.shape
  sizes = math.prod(shape[:inputs]), math.prod(shape[inputs:])
  if a.shape[1:] != sizes[:1] or b.shape != (sizes[1] * slot.parts, rank):
    raise ConfigError(
      f'{folder / FILE}: the matrices of {slot.name} are {list(a.shape)} and '
      f'{list(b.shape)}, but the layer has {sizes[0]} inputs and '
      f'{sizes[1] * slot.parts} outputs; take the model that the adapter was '
      'trained for'
    )
  take = lambda x: np.split(x, slot.parts)[slot.part]
  out = {
    adapters.A: a.T.reshape(*shape[:inputs], rank),
    adapters.B: take(b).T.reshape(rank, *shape[inputs:]),
    adapters.SCALE: np.float32(peft_config.find_scale(config, slot.name, rank)),
  }
  if adapters.MAGNITUDE in own:
    magnitude = own[adapters.MAGNITUDE].astype(np.float32).reshape(-1)
    out[adapters.MAGNITUDE] = take(magnitude).reshape(shape[inputs:])
  return out


def _stack(
  path: str,
  kernel: Any,
  parts: Mapping[int | None, Mapping[str, np.ndarray]],
  inputs: int,
) -> dict[str, np.ndarray]:
  """Adapters of all layers of a stack; NaN where a magnitude is missing."""
  if None in parts:
    return {f'{path}/{leaf}': array for leaf, array in parts[None].items()}
  rank = max(part[adapters.A].shape[-1] for part in parts.values())
  depth = kernel.shape[0]
  out: dict[str, np.ndarray] = {}
  for number, part in parts.items():
    missing = rank - part[adapters.A].shape[-1]
    for leaf, array in part.items():
      if leaf in (adapters.A, adapters.B):
        axis = inputs if leaf == adapters.A else 0
        widths = [(0, missing * (i == axis)) for i in range(array.ndim)]
        array = np.pad(array, widths)
      empty = np.nan if leaf == adapters.MAGNITUDE else 0
      stacked = out.setdefault(
        f'{path}/{leaf}', np.full((depth, *array.shape), empty, np.float32)
      )
      stacked[number] = array
  return out


def _to_theirs(
  slot: peft_layers.Slot, path: str, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """One layer's adapter in PEFT's layout, and its scale."""
  own = {
    leaf: np.asarray(params[f'{path}/{leaf}'], np.float32)
    for leaf in (*adapters.TRAINED, adapters.SCALE)
    if f'{path}/{leaf}' in params
  }
  if slot.number is not None:
    own = {leaf: array[slot.number] for leaf, array in own.items()}
  rank = own[adapters.A].shape[-1]
  out = {
    adapters.A: np.ascontiguousarray(own[adapters.A].reshape(-1, rank).T),
    adapters.B: np.ascontiguousarray(own[adapters.B].reshape(rank, -1).T),
    adapters.SCALE: own[adapters.SCALE],
  }
  if adapters.MAGNITUDE in own:
    out[adapters.MAGNITUDE] = own[adapters.MAGNITUDE].reshape(-1)
  return out


def _join(
  name: str, parts: Mapping[int, Mapping[str, np.ndarray]], number: int
) -> Mapping[str, np.ndarray]:
  """One adapter of a layer that is several layers here, such as queries, keys.

  Its rank is the sum of theirs: `b` has theirs as blocks, one below another.
  """
  if number == 1:
    return parts[0]
  scales = {float(part[adapters.SCALE]) for part in parts.values()}
  dora = any(adapters.MAGNITUDE in part for part in parts.values())
  if len(scales) > 1 or (dora and len(parts) < number):
    raise ConfigError(
      f'{name} is one layer in transformers, of which mmjax adapts '
      f'{len(parts)} of {number} parts, with the factors {sorted(scales)}; '
      'adapt all of them alike, or save the merged model'
    )
  size = len(next(iter(parts.values()))[adapters.B])
  blocks = []
  for index in sorted(parts):
    own = parts[index][adapters.B]
    block = np.zeros((size * number, own.shape[1]), np.float32)
    block[index * size : (index + 1) * size] = own
    blocks.append(block)
  ordered = [parts[index] for index in sorted(parts)]
  out = {
    adapters.A: np.concatenate([part[adapters.A] for part in ordered]),
    adapters.B: np.concatenate(blocks, axis=1),
    adapters.SCALE: ordered[0][adapters.SCALE],
  }
  if dora:
    out[adapters.MAGNITUDE] = np.concatenate(
      [part[adapters.MAGNITUDE] for part in ordered]
    )
  return out


def _replace_whole(
  model: base.Pretrained,
  params: dict[str, Any],
  whole: Mapping[str, np.ndarray],
  folder: Path,
) -> list[str]:
  """Replaces parameters that were trained in full; returns their paths."""
  left, trained = set(whole), []
  for rule in families.find(model.config).rules(model.config):
    leaf = params[rule.ours]
    shape, names = keys.layers(rule, leaf.shape)
    for number, name in enumerate(names):
      if name not in whole:
        continue
      theirs = tuple(rule.form.theirs(shape))
      if whole[name].shape != theirs:
        raise ConfigError(
          f'{folder / FILE}: {name} is {list(whole[name].shape)}, but the '
          f'model has {list(theirs)}; take the model that the adapter was '
          'trained for'
        )
      value = jnp.asarray(rule.form.load(whole[name], shape), leaf.dtype)
      stacked = keys.LAYER in rule.theirs
      leaf = leaf.at[number].set(value) if stacked else value
      left.discard(name)
      trained.append(rule.ours)
    params[rule.ours] = leaf
  if left:
    raise ConfigError(
      f'{folder / FILE}: the model has no '
      f'{mismatches.shorten(sorted(left))}; take the model that the adapter '
      'was trained for'
    )
  return list(dict.fromkeys(trained))


def _find_whole(
  model: base.Pretrained, layers: peft_layers.Layers
) -> Iterator[tuple[str, np.ndarray]]:
  """Names in memory and arrays of the layers that were trained in full."""
  rules = families.find(model.config).rules(model.config)
  of_layer = lambda rule: rule.theirs.rpartition('.')[0]
  chosen = {of_layer(rule) for rule in rules if rule.ours in model.tuned}
  bare = sorted(
    rule.ours
    for rule in rules
    if rule.ours in model.tuned
    and (not re.search(r'\.(weight|bias)$', rule.theirs))
  )
  if bare:
    raise ConfigError(
      f'an adapter of PEFT has no place for {mismatches.shorten(bare)}, which '
      'was trained beside it; save the merged model'
    )
  base_params, _ = adapters.split(model.params)
  table = [rule for rule in rules if of_layer(rule) in chosen]
  for name, array in keys.save(table, base_params):
    layer, _, leaf = name.rpartition('.')
    yield f'{layers.in_memory(layer)}.{leaf}', array
