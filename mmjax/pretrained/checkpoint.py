"""From a published folder to a model, and back."""

import functools
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
  clip,
  gpt2,
  keys,
  llama,
  llava,
  paligemma,
  qwen2,
  qwen2_5_vl,
  qwen2_vl,
  qwen3,
  siglip,
  tensors,
)
from mmjax.types import Params

FAMILIES: dict[str, base.Family] = {
  'clip': clip,
  'gpt2': gpt2,
  'llama': llama,
  'llava': llava,
  'paligemma': paligemma,
  'qwen2': qwen2,
  'qwen2_5_vl': qwen2_5_vl,
  'qwen2_vl': qwen2_vl,
  'qwen3': qwen3,
  'siglip': siglip,
}

CONFIG = 'config.json'
# Small files that belong to a model, and go with it unchanged.
_FILES = (
  base.PREPROCESSOR,
  base.TOKENIZER,
  base.PROCESSOR,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'added_tokens.json',
  'chat_template.json',
  'chat_template.jinja',
  'video_preprocessor_config.json',
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
  source = tensors.Renamed(
    tensors.Tensors(folder), getattr(family, 'ALIASES', ())
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
  rules = family_of(model.config).rules(model.config)
  tensors.write(folder, keys.save(rules, model.params), shard_bytes)
  config = json.dumps(dict(model.config), indent=2)
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
