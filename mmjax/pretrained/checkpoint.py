"""Loads a model from a published folder, and saves it."""

import functools
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mmjax.data import chat_templates
from mmjax.errors import ConfigError
from mmjax.nn import adapters
from mmjax.parallel import rules as parallel_rules
from mmjax.pretrained import (
  base,
  config_types,
  configs,
  ctranslate2,
  families,
  gguf_file,
  hub,
  image_sizes,
  keys,
  names,
  patches,
  peft,
  peft_config,
  peft_layers,
  preprocess,
  processors,
  sections,
  sentence_steps,
  tensors,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.types import Params

CONFIG = 'config.json'
# Small files that belong to a model, and are copied unchanged.
_FILES = (
  preprocess.FILE,
  base.TOKENIZER,
  processors.FILE,
  tokenizer_settings.FILE,
  'special_tokens_map.json',
  'generation_config.json',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  *tokenizer_files.PIECES,
  'added_tokens.json',
  'chat_template.json',
  chat_templates.FILE,
  processors.VIDEO_FILE,
  base.KEPT,  # In the folder of a run that began from the model.
)


def load(
  folder: Path | str,
  *,
  dtype: Any = jnp.float32,
  param_dtype: Any = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
  check: Callable[[base.Pretrained], object] | None = None,
) -> base.Pretrained:
  """Loads a model from a Hugging Face folder: config.json and safetensors.

  Whisper is also read in the format of CTranslate2, see `ctranslate2`, Llama
  and similar models from a GGUF file, see `gguf_file`, and a folder of PEFT's
  with the model that it names. Tensors are read one at a time, straight to
  their devices.

  Args:
    folder: path of the folder.
    dtype: type of the computation.
    param_dtype: type of the parameters.
    mesh: mesh of `mmjax.parallel.mesh.build`, on which the parameters are
      sharded by `mmjax.parallel.rules`; None puts them on the first device.
    check: called before the tensors are read, with the model without
      parameters; it may raise, as where the model can't do what is asked for.

  Raises:
    ConfigError: if a file is missing, the model is of an unknown family,
      its config has a value that mmjax doesn't know, or its tensors don't fit
      the config.
  """
  folder = Path(folder)
  try:
    if (folder / peft_config.FILE).exists():
      return _load_adapter(folder, dtype, param_dtype, mesh, check)
    return _load(folder, dtype, param_dtype, mesh, check)
  except ConfigError as error:
    if str(error).startswith(str(folder)):
      raise
    raise ConfigError(f'{folder}: {error}') from error


def _load(
  folder: Path,
  dtype: Any,
  param_dtype: Any,
  mesh: jax.sharding.Mesh | None,
  check: Callable[[base.Pretrained], object] | None,
) -> base.Pretrained:
  config, files, source = read_folder(folder)
  family = families.find(config)
  module = family.build_module(config, dtype)
  size = check_preprocessing(family, module, config, files)
  if check is not None:
    check(family.model_class(module, {}, config, files, size))
  boxed = _boxed_shapes(module, family.inputs(config))
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, param_dtype),
    nn.meta.unbox(boxed),
  )
  if mesh is not None:
    target = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=sharding
      ),
      target,
      parallel_rules.shardings(boxed, mesh),
    )
  params = keys.load(
    family.rules(config), source, target, skip=family.ignored_patterns
  )
  return family.model_class(module, params, config, files, size)


def _load_adapter(
  folder: Path,
  dtype: Any,
  param_dtype: Any,
  mesh: jax.sharding.Mesh | None,
  check: Callable[[base.Pretrained], object] | None,
) -> base.Pretrained:
  """Loads a folder of PEFT's: the model that it names, with its adapters."""
  config = peft_config.read(folder)
  model = _load(find_base(folder, config), dtype, param_dtype, mesh, check)
  layers = peft_layers.find(model.module, model.config)
  return peft.attach(model, layers, folder, config)


def find_base(folder: Path, config: Mapping[str, Any]) -> Path:
  """The folder of the model that an adapter is for.

  Args:
    folder: the adapter's folder.
    config: its config.

  Raises:
    ConfigError: if it names none, or it is not there.
  """
  name = config.get('base_model_name_or_path')
  if not name:
    raise ConfigError(
      f'{folder / peft_config.FILE} does not name the model of the adapter; '
      'set base_model_name_or_path in it to that folder'
    )
  try:
    return hub.find(name)
  except ConfigError as error:
    raise ConfigError(
      f'{folder / peft_config.FILE}: base_model_name_or_path: {error}'
    ) from error


def save_adapter(model: base.Pretrained, folder: Path | str) -> None:
  """Saves a model's adapters alone to a folder that PEFT, and `load`, can open.

  Args:
    model: a model with adapters: loaded from a run that trained some, or from
      a folder of PEFT's.
    folder: path of the folder, which is made if it does not exist.

  Raises:
    ConfigError: if the model has no adapters, or PEFT has no place for what was
      trained.
  """
  peft.save(model, peft_layers.find(model.module, model.config), folder)


def check_preprocessing(
  family: base.Family,
  module: nn.Module,
  config: Mapping[str, Any],
  files: Mapping[str, bytes],
) -> tuple[int, int] | None:
  """Refuses a preprocessing whose images the model can't read.

  Args:
    family: the model's family.
    module: the model.
    config: its config.json.
    files: its other small files by name.

  Returns:
    (height, width) of all images that it reads; None for any.

  Raises:
    ConfigError: naming both sizes and files.
  """
  size = image_sizes.find(module, family.inputs(config))
  for names_of_file in (
    (processors.IMAGES, preprocess.FILE),
    (processors.VIDEOS, processors.VIDEO_FILE),
  ):
    try:
      found = processors.find(files, *names_of_file)
      prepares = found and family.model_class.make_preprocessor(*found)
    except ConfigError:
      continue  # What it refuses, it refuses when images are used.
    if isinstance(prepares, patches.PatchPreprocessor):
      patches.check(module.vision, prepares, found[1])
    elif size and prepares:
      image_sizes.check(size, module, prepares, found[1])
  return size


def read_folder(
  folder: Path,
) -> tuple[dict[str, Any], dict[str, bytes], keys.Source]:
  """Reads a folder's config, its other small files by name, and its tensors.

  The config is completed with the fields that follow from the tensors' names.

  Raises:
    ConfigError: if a file is missing, the family is unknown, or the
      tensors can't be read.
  """
  if gguf_file.is_model(folder):
    config, source, files = gguf_file.read(folder)
    return config, files, source
  if ctranslate2.is_model(folder):
    config, source, files = ctranslate2.read(folder)
    return config, files, source
  config, files = read_small_files(folder)
  family = families.find(config)
  source = names.RenamedTensors(
    tensors.Tensors(sentence_steps.model_folder(folder))
  )
  config, source = _fit(source, config)
  kept = {
    name: np.asarray(source.read(name), np.float32)
    for name in sorted(source.names)
    if any(re.fullmatch(kept, name) for kept in family.kept)
  }
  if kept:
    files[base.KEPT] = safetensors.numpy.save(kept)
  return config, files, source


def _fit(
  source: names.RenamedTensors, config: Mapping[str, Any]
) -> tuple[Mapping[str, Any], names.RenamedTensors]:
  """Completes the config by the tensors, and names the tensors as the table."""
  family = families.find(config)
  ties = family.ties
  source = names.apply_aliases(names.strip_wrappers(source), family.aliases)
  source = names.align_prefixes(
    source,
    names.name_patterns(family.rules(config)),
    [
      *family.ignored_patterns,
      *(re.escape(tie.other) for tie in ties),
      *itertools.chain(*family.unused.values()),
    ],
    family.prefixes,
  )
  source = names.drop_unused(source, config, family.unused)
  source, config = names.resolve_ties(source, config, family.rules, ties)
  if family.complete is not None:
    config = family.complete(config, source.names)
  return config, source


def read_small_files(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
  """Reads a folder's config, and its other small files by name.

  Raises:
    ConfigError: if there is no config, it is broken or has a key or value that
      mmjax refuses, or the folder is laid out as open_clip does.
  """
  root = sentence_steps.model_folder(folder)
  for name in tensors.OPEN_CLIP:
    if (folder / name).exists() and not (root / CONFIG).exists():
      raise tensors.open_clip_error(folder, name)
  if not (root / CONFIG).exists():
    # As in the folder of a training or of the hub's cache.
    below = sorted([*root.glob(f'*/{CONFIG}'), *root.glob(f'*/*/{CONFIG}')])
    hint = f', here perhaps {below[0].parent}' if below else ''
    raise ConfigError(
      f'{root} has no {CONFIG}; give the folder of a Hugging Face model or run'
      f'{hint}'
    )
  config = families.take_part(configs.read(root / CONFIG))
  config_types.check(config, root / CONFIG)
  family = families.find(config)
  # The config in a run's folder has the completed fields too.
  published = {
    k: v for k, v in config.items() if k not in family.completed_fields
  }
  sections.check(published, family.sections)
  sections.check_parts(published, family.sections)
  files = {
    name: (root / name).read_bytes()
    for name in _FILES
    if (root / name).exists()
  }
  files |= {
    path.relative_to(root).as_posix(): path.read_bytes()
    for path in root.glob(f'{chat_templates.FOLDER}/*.jinja')
  }
  return config, files | sentence_steps.read(folder)


def save(
  model: base.Pretrained,
  folder: Path | str,
  *,
  shard_bytes: int = tensors.SHARD_BYTES,
) -> None:
  """Saves a model to a folder that transformers or diffusers, and `load`, open.

  config.json names the type of the parameters, whatever the type of the
  published model; the widest if they have several, so that none is rounded. A
  config of diffusers names none.

  Args:
    model: the model; its adapters, if any, are merged.
    folder: path of the folder, which is made if it does not exist.
    shard_bytes: largest size of one file of tensors.
  """
  folder = Path(folder)
  family = families.find(model.config)
  params = adapters.merge(model.params)
  written = keys.save(family.rules(model.config), params)
  if family.extras is not None:
    written = itertools.chain(written, family.extras(model.config))
  if base.KEPT in model.files:
    kept = safetensors.numpy.load(model.files[base.KEPT])
    dtype = jax.tree.leaves(params)[0].dtype
    kept = ((name, array.astype(dtype)) for name, array in kept.items())
    written = itertools.chain(written, kept)
  theirs = families.is_diffusers(model.config)
  stem = tensors.DIFFUSERS if theirs else 'model'
  tensors.write(folder, written, shard_bytes, stem)
  completed = family.completed_fields
  config = {k: v for k, v in model.config.items() if k not in completed}
  leaves = jax.tree.leaves(params)
  if not theirs:
    config = configs.set_dtype(config, jnp.result_type(*leaves))
  config = json.dumps(config, indent=2)
  (folder / CONFIG).write_text(config)
  for name, content in model.files.items():
    if name == base.KEPT:
      continue
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def shapes(module: nn.Module, inputs: Any) -> Params:
  """Shapes and types of the parameters; nothing is computed."""
  return nn.meta.unbox(_boxed_shapes(module, inputs))


def _boxed_shapes(module: nn.Module, inputs: Any) -> Params:
  variables = jax.eval_shape(
    functools.partial(module.init, train=False), jax.random.key(0), inputs
  )
  return variables['params']
