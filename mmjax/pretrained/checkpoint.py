"""From a published folder to a model, and back."""

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax.parallel import rules as parallel_rules
from mmjax.pretrained import (
  base,
  blip,
  clip,
  dinov2,
  keys,
  resnet,
  siglip,
  siglip2,
  tensors,
  videomae,
  vit,
)
from mmjax.types import Params

FAMILIES: dict[str, base.Family] = {
  'blip': blip,
  'clip': clip,
  'dinov2': dinov2,
  'dinov2_with_registers': dinov2,
  'resnet': resnet,
  'siglip': siglip,
  'siglip2': siglip2,
  'videomae': videomae,
  'vit': vit,
}

CONFIG = 'config.json'
# Small files that belong to a model, and go with it unchanged.
_FILES = (
  base.PREPROCESSOR,
  base.TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'vocab.json',
  'merges.txt',
)


def load(
  folder: Path | str,
  *,
  dtype: Any = jnp.float32,
  param_dtype: Any = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
) -> base.Pretrained:
  """Opens a Hugging Face folder: config.json and safetensors.

  Tensors are read one at a time, straight to where they will lie.

  Args:
    folder: where it is.
    dtype: of the computation.
    param_dtype: of the parameters.
    mesh: of `mmjax.parallel.mesh.build`, to lay the parameters out on as
      `mmjax.parallel.rules` says; None puts them on the first device.

  Raises:
    FileNotFoundError: if something is not there.
    ValueError: if the model is of no known family, its config has a value that
      mmjax doesn't know, or its tensors don't fit the config.
  """
  folder = Path(folder)
  if not (folder / CONFIG).exists():
    raise FileNotFoundError(
      f'{folder} has no {CONFIG}; give the folder of a Hugging Face model'
    )
  config = json.loads((folder / CONFIG).read_text())
  family = family_of(config)
  source = tensors.Tensors(folder)
  if hasattr(family, 'complete'):
    config = family.complete(config, source.names)
  module = family.module(config, dtype)
  boxed = _boxed_shapes(module, family.inputs(config))
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, param_dtype),
    nn.meta.unbox(boxed),
  )
  if mesh is not None:
    target = jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=place
      ),
      target,
      parallel_rules.shardings(boxed, mesh),
    )
  params = keys.load(family.rules(config), source, target, skip=family.SKIP)
  files = {
    name: (folder / name).read_bytes()
    for name in _FILES
    if (folder / name).exists()
  }
  return family.Model(module, params, config, files)


def save(
  model: base.Pretrained,
  folder: Path | str,
  *,
  shard_bytes: int = tensors.SHARD_BYTES,
) -> None:
  """Writes a folder that transformers, and `load`, can open.

  Args:
    model: what to write.
    folder: is made if it is not there.
    shard_bytes: what one file of tensors holds at most.
  """
  folder = Path(folder)
  family = family_of(model.config)
  written = keys.save(family.rules(model.config), model.params)
  if hasattr(family, 'extras'):
    written = itertools.chain(written, family.extras(model.config))
  tensors.write(folder, written, shard_bytes)
  completed = getattr(family, 'COMPLETES', ())
  config = {k: v for k, v in model.config.items() if k not in completed}
  config = json.dumps(config, indent=2)
  (folder / CONFIG).write_text(config)
  for name, content in model.files.items():
    (folder / name).write_bytes(content)


def shapes(module: nn.Module, inputs: Any) -> Params:
  """The parameters' shapes and types; nothing is computed."""
  return nn.meta.unbox(_boxed_shapes(module, inputs))


def _boxed_shapes(module: nn.Module, inputs: Any) -> Params:
  variables = jax.eval_shape(
    functools.partial(module.init, train=False), jax.random.key(0), inputs
  )
  return variables['params']


def family_of(config: Mapping[str, Any]) -> base.Family:
  """The family that a config.json belongs to.

  Raises:
    ValueError: if mmjax knows none.
  """
  kind = config.get('model_type')
  if kind not in FAMILIES:
    raise ValueError(
      f'config.json: model_type is {kind!r}; mmjax knows {sorted(FAMILIES)}'
    )
  return FAMILIES[kind]
