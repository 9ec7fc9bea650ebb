"""From a published folder to a model, and back."""

import functools
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mmjax.parallel import rules as parallel_rules
from mmjax.pretrained import (
  align,
  audio_spectrogram_transformer,
  base,
  bert,
  blip,
  blip2,
  clip,
  configs,
  ctranslate2,
  dinov2,
  gpt2,
  keys,
  kinds,
  llama,
  llava,
  names,
  opt,
  paligemma,
  qwen2,
  qwen2_5_vl,
  qwen2_vl,
  qwen3,
  resnet,
  sections,
  sentences,
  siglip,
  siglip2,
  single_towers,
  t5,
  tensors,
  tokenizer_files,
  tokenizer_settings,
  videomae,
  vit,
  whisper,
)
from mmjax.types import Params

FAMILIES: dict[str, base.Family] = {
  'align': align,
  'bert': bert,
  'blip': blip,
  'blip-2': blip2,
  'audio-spectrogram-transformer': audio_spectrogram_transformer,
  'clip': clip,
  'clip_text_model': single_towers.CLIP_TEXTS,
  'clip_vision_model': single_towers.CLIP_IMAGES,
  'dinov2': dinov2,
  'dinov2_with_registers': dinov2,
  'gpt2': gpt2,
  'llama': llama,
  'llava': llava,
  'opt': opt,
  'paligemma': paligemma,
  'qwen2': qwen2,
  'qwen2_5_vl': qwen2_5_vl,
  'qwen2_vl': qwen2_vl,
  'qwen3': qwen3,
  'resnet': resnet,
  'siglip': siglip,
  'siglip2': siglip2,
  'siglip_vision_model': single_towers.SIGLIP_IMAGES,
  't5': t5,
  'videomae': videomae,
  'vit': vit,
  'whisper': whisper,
}

CONFIG = 'config.json'
# What peft writes beside the matrices that it trained.
ADAPTER = 'adapter_config.json'
# Small files that belong to a model, and go with it unchanged.
_FILES = (
  base.PREPROCESSOR,
  base.TOKENIZER,
  base.PROCESSOR,
  tokenizer_settings.FILE,
  'special_tokens_map.json',
  'generation_config.json',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  sentences.MODULES,
  sentences.SETTINGS,
  sentences.PROMPTS,
  '1_Pooling/config.json',
  *tokenizer_files.PIECES,
  'added_tokens.json',
  'chat_template.json',
  'chat_template.jinja',
  'video_preprocessor_config.json',
  base.KEPT,  # In the folder of a run that began from the model.
)


def load(
  folder: Path | str,
  *,
  dtype: Any = jnp.float32,
  param_dtype: Any = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
) -> base.Pretrained:
  """Opens a Hugging Face folder: config.json and safetensors.

  Whisper is also read as CTranslate2 keeps it, see `ctranslate2`. Tensors are
  read one at a time, straight to where they will lie.

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
  try:
    return _load(folder, dtype, param_dtype, mesh)
  except ValueError as error:
    if str(error).startswith(str(folder)):
      raise
    raise ValueError(f'{folder}: {error}') from error


def _load(
  folder: Path, dtype: Any, param_dtype: Any, mesh: jax.sharding.Mesh | None
) -> base.Pretrained:
  config, files, source = read_folder(folder)
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
  params = keys.load(family.rules(config), source, target, skip=skipped(family))
  return family.Model(module, params, config, files)


def read_folder(
  folder: Path,
) -> tuple[dict[str, Any], dict[str, bytes], keys.Source]:
  """A folder's config, its other small files by name, and its tensors.

  The config has what its family can only tell by the tensors' names.

  Raises:
    FileNotFoundError: if something is not there.
    ValueError: if the family is unknown, or the tensors can't be read.
  """
  if ctranslate2.is_model(folder):
    config, source, files = ctranslate2.read(folder)
    return config, files, source
  config, files = read_small(folder)
  family = family_of(config)
  config, source = _fitted(names.Named(tensors.Tensors(folder)), config)
  kept = {
    name: np.asarray(source.read(name), np.float32)
    for name in sorted(source.names)
    if any(re.fullmatch(kept, name) for kept in getattr(family, 'KEPT', ()))
  }
  if kept:
    files[base.KEPT] = safetensors.numpy.save(kept)
  return config, files, source


def _fitted(
  source: names.Named, config: Mapping[str, Any]
) -> tuple[Mapping[str, Any], names.Named]:
  """Config and tensors with what each tells of the other."""
  family = family_of(config)
  ties = getattr(family, 'TIES', ())
  source = names.modern(names.unwrapped(source), getattr(family, 'ALIASES', ()))
  source = names.aligned(
    source,
    names.patterns(family.rules(config)),
    [*skipped(family), *(re.escape(tie.other) for tie in ties)],
    getattr(family, 'PREFIXES', ()),
  )
  source, config = names.untied(source, config, family.rules, ties)
  if hasattr(family, 'complete'):
    config = family.complete(config, source.names)
  return config, source


def read_small(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
  """A folder's config, and its other small files by name.

  Raises:
    FileNotFoundError: if there is no config.
    ValueError: if it is broken, has a key or value that mmjax refuses, or the
      folder is that of an adapter.
  """
  if (folder / ADAPTER).exists():
    raise _adapter(folder)
  if not (folder / CONFIG).exists():
    raise FileNotFoundError(
      f'{folder} has no {CONFIG}; give the folder of a Hugging Face model'
    )
  config = configs.read(folder / CONFIG)
  kinds.check(config, folder / CONFIG)
  family = family_of(config)
  # What `complete` adds is in the folder of a run.
  own = {k: v for k, v in config.items() if k not in completes(family)}
  sections.check(own, family.SECTIONS)
  files = {
    name: (folder / name).read_bytes()
    for name in _FILES
    if (folder / name).exists()
  }
  return config, files


def _adapter(folder: Path) -> ValueError:
  """The error about a folder with an adapter, which is not a whole model."""
  given = configs.read(folder / ADAPTER)
  named = given.get('base_model_name_or_path')
  kind = given.get('peft_type') or 'LORA'
  return ValueError(
    f'{folder} holds an adapter ({ADAPTER}, {kind}) for {named or "a model"}, '
    'not a model; merge it into its base once, with peft and transformers:\n'
    '  python -c "import peft; peft.AutoPeftModel.from_pretrained('
    f"{str(folder)!r}).merge_and_unload().save_pretrained('OUT')\"\n"
    'peft.AutoPeftModelForCausalLM for one that writes. Then copy the '
    'tokenizer and preprocessor files of the base into OUT, and open that'
  )


def save(
  model: base.Pretrained,
  folder: Path | str,
  *,
  shard_bytes: int = tensors.SHARD_BYTES,
) -> None:
  """Writes a folder that transformers, and `load`, can open.

  Its config.json names the type that the parameters have, whatever type the
  model was published in; the widest if they have several, so that none is
  rounded where the folder is opened.

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
  if base.KEPT in model.files:
    kept = safetensors.numpy.load(model.files[base.KEPT])
    dtype = jax.tree.leaves(model.params)[0].dtype
    kept = ((name, array.astype(dtype)) for name, array in kept.items())
    written = itertools.chain(written, kept)
  tensors.write(folder, written, shard_bytes)
  completed = completes(family)
  config = {k: v for k, v in model.config.items() if k not in completed}
  leaves = jax.tree.leaves(model.params)
  config = configs.with_dtype(config, jnp.result_type(*leaves))
  config = json.dumps(config, indent=2)
  (folder / CONFIG).write_text(config)
  for name, content in model.files.items():
    if name == base.KEPT:
      continue
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def completes(family: base.Family) -> tuple[str, ...]:
  """Fields that a family adds to a config, see `base.Family`."""
  return tuple(getattr(family, 'COMPLETES', ()))


def skipped(family: base.Family) -> tuple[str, ...]:
  """Patterns of the tensors of a family that hold no parameter."""
  return (*family.SKIP, *getattr(family, 'KEPT', ()))


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
