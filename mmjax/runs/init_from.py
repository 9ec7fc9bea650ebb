"""Starting a run from trained weights: a published model's, or another run's.

  --config.init_from=FOLDER                         the whole model
  --config.init_from=image=FOLDER                   its image tower alone
  --config.init_from=vision=FOLDER,decoder=FOLDER2  parts from two folders
  --config.init_from=encoders.voice=FOLDER          one encoder of `multimodal`
  --config.init_from=encoders.voice=RUN#encoders.sound  from one of several
  --config.init_from=encoders.clip.image=FOLDER     the encoder of its frames

The architecture comes with the weights: the config's `model` section, or that
part of it, becomes theirs, and so do the settings of `data` that they were
trained with. What only concerns training stays the config's: dropout,
stochastic depth, rematerialisation; and whether a text encoder or decoder has
cross-attention, which is new where the source has none. A folder may also be a
model's name on the Hugging Face hub.

A published language model with placeholders for its images is trained without
them: one image first, see `mmjax.models.ImageFirstVisionLanguage`; with
model.name='interleaved' it keeps them, for conversations; and with
model.name='embedder' it embeds, as the config's `pooling` and `embed_dim` say.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.nn import adapters, quantized
from mmjax.ops import tree_paths
from mmjax.parallel import hosts
from mmjax.pretrained import base, checkpoint, families
from mmjax.runs import (
  conversation_inputs,
  init_entries,
  init_flags,
  init_notes,
  interleaved,
  rebuild,
  trained_encoders,
  weight_source,
)
from mmjax.types import Params


def resolve(config: Any, flags: Collection[str] = ()) -> Any:
  """A copy of a config whose model and data are those of `init_from`.

  Args:
    config: a completed config.
    flags: paths of the fields that the user set for this run, by flags.

  Raises:
    ConfigError: if a source is not there, or is not a model that a config can
      name, or reads texts and has no tokenizer; or for a field of `flags` that
      a source sets otherwise.
  """
  if not config.init_from:
    return config
  given, config = config, config.copy_and_resolve_references()
  tokenizer = config.data.tokenizer
  before, set_fields = {}, {}
  folders: dict[str, Path] = {}
  for start in init_entries.find(config):
    source = start.source
    described = _describe(config, start)
    settings = [
      *_list_settings(config, start, described),
      *_named_tokenizer(config.init_from, tokenizer, start, described),
    ]
    settings = init_flags.apply(config, start, described, settings, flags)
    with config.unlocked(), config.ignore_type():
      _set_model(config, start, described)
      for name, value in settings:
        if not init_flags.can_share(
          name, value, set_fields.get(f'data.{name}', value)
        ):
          raise ConfigError(
            f'init_from={config.init_from!r}: data.{name} is {value!r} for '
            f'{source.folder}, but {set_fields[f"data.{name}"]!r} for '
            f'{folders[name]}; start from parts that agree'
          )
        path, folders[name] = f'data.{name}', source.folder
        section, _, last = path.rpartition('.')
        before.setdefault(path, _find_section(config, section).get(last))
        _find_section(config, section)[last] = set_fields[path] = value
    init_notes.log_differences(config, start, described)
  init_flags.check(given, config, flags)
  init_notes.log_settings(before, set_fields)
  return config


def _describe(config: Any, start: init_entries.InitEntry) -> dict[str, Any]:
  """The settings of a part of the model, with what stays the config's."""
  tables, given = start.source.tables, start.section(config)
  if start.encoder:
    described = weight_source.with_init_from_errors(
      start.encoder.describe, tables
    )
    if not start.of_frames and 'inputs' in given:
      described['inputs'] = given['inputs']
  else:
    described = interleaved.describe(config.model, start.source, start.part)
  _keep_training_settings(described, given, tables)
  crosses = models.PARTS[start.kind].cross_attention if start.kind else None
  if crosses is not None and 'cross_attention' in models.settings_of(
    described['name'], tables
  ):
    described['cross_attention'] = (given or {}).get('cross_attention', crosses)
  return described


def _set_model(
  config: Any, start: init_entries.InitEntry, described: dict[str, Any]
) -> None:
  if start.encoder and start.of_frames:
    config.model.encoders[start.name]['image'] = described
  elif start.encoder:
    config.model.encoders[start.name] = described
  elif start.part:
    config.model[start.part] = described
    if start.part == 'audio':
      config.model.spectrogram = interleaved.find_spectrogram(start.source)
  else:
    config.model = described


def _list_settings(
  config: Any, start: init_entries.InitEntry, described: Mapping[str, Any]
) -> list[tuple[str, Any]]:
  """The settings of `data` that come with a part, by their path."""
  if start.encoder:
    return list(
      trained_encoders.data_settings(
        start.encoder, start.source, config, start.name
      )
    )
  own = models.training_settings(described['name'], start.source.tables)
  parts = [start.part] if start.part else [k for k in described if k not in own]
  settings = list(start.source.data_settings(parts, config.data))
  if not start.part and conversation_inputs.is_interleaved(described):
    settings += conversation_inputs.list_settings(start.source, config.data)
  if start.part == 'audio':
    settings += conversation_inputs.list_sounds(
      start.source, config.data, described
    )
  return settings


def _find_section(config: Any, path: str) -> Any:
  """The section of a config with a dotted path."""
  return functools.reduce(
    lambda section, key: section[key], path.split('.'), config
  )


def _named_tokenizer(
  init_from: str,
  tokenizer: str,
  start: init_entries.InitEntry,
  described: Mapping[str, Any],
) -> Iterator[tuple[str, str]]:
  """The config's tokenizer, where a source that reads texts has none.

  Args:
    init_from: the config's.
    tokenizer: the config's, '' for none.
    start: what is taken from a source.
    described: its settings.

  Raises:
    ConfigError: if the config names none, either: ids of the data set's own
      tokenizer are not those of the source's word vectors; or if the source's
      has settings that training does not apply.
  """
  source = start.source
  parts = [start.kind] if start.kind else list(described)
  if not source.reads_texts(parts):
    return
  if 'tokenizer' in source.data:
    source.check_tokenizer()
    return
  if not tokenizer:
    fault = source.tokenizer_fault or (
      'the folder has no tokenizer.json, and no older file such as vocab.txt, '
      'so nobody knows which words its vectors are of'
    )
    raise ConfigError(
      f'init_from={init_from!r}: {source.folder}: {fault}. Put the published '
      'file there, or name the tokenizer that the model was trained with, '
      '--config.data.tokenizer=FILE'
    )
  yield 'tokenizer', tokenizer


def _keep_training_settings(
  described: dict[str, Any],
  given: Mapping[str, Any] | None,
  tables: models.Tables,
) -> None:
  """Keeps what the config says of training, in a module and its parts."""
  given = given or {}
  kept = models.training_settings(described['name'], tables)
  for name in kept:
    described.pop(name, None)
    if name in given:
      described[name] = given[name]
  own, block = described.get('block') or {}, given.get('block') or {}
  if not isinstance(own, str):  # A ResNet's is the name of a kind.
    training = models.training_settings('block')
    own = {k: v for k, v in own.items() if k not in training}
    own |= {k: block[k] for k in training if k in block}
    described.pop('block', None)
    if own and 'block' in models.settings_of(described['name'], tables):
      described['block'] = own
  for part in models.PARTS:
    if part in described and part not in kept:
      _keep_training_settings(described[part], given.get(part), tables)


def load(config: Any, target: Params) -> Params:
  """Reads the weights.

  Args:
    config: what `resolve` returned, with `init_from`.
    target: shapes and shardings of the run's parameters; those of adapters are
      left out, as they start at random.

  Returns:
    Parameters by path, 'image/...', for those that have a source. Kernels that
    `target` has quantised are quantised one at a time, as they are read.

  Raises:
    ConfigError: if the model lacks a parameter of the source's, or it has
      another shape; all are named.
  """
  target, _ = adapters.split(target)
  packed = quantized.find(target)
  wanted = tree_paths.flatten(quantized.as_plain(target))
  found, known, wrong = {}, set(), []
  for start, pairs in _pair_paths(config, wanted):
    source = start.source
    shapes = tree_paths.flatten(source.shapes)
    wrong += [
      f'{ours}: {list(wanted[ours].shape)} in the model, '
      f'{list(shapes[theirs].shape)} in {source.folder}'
      if ours in wanted
      else f'{ours}: the model has no such parameter'
      for theirs, ours in pairs.items()
      if ours not in wanted or wanted[ours].shape != shapes[theirs].shape
    ]
    if wrong:
      continue
    chosen = tree_paths.unflatten(
      {theirs: wanted[ours] for theirs, ours in pairs.items()}
    )
    quantize = lambda path, leaf, pairs=pairs: quantized.quantize_chosen(
      packed, pairs[path], leaf
    )
    read = weight_source.with_init_from_errors(source.read, chosen, quantize)
    for path, leaf in tree_paths.flatten(read).items():
      kernel, _, name = path.rpartition('/')
      # Of a quantised kernel, there are several leaves.
      ours = pairs[path] if path in pairs else f'{pairs[kernel]}_{name}'
      found[ours] = leaf
    known |= set(pairs.values())
    new = [p for p in wanted if p.startswith(start.below) and p not in known]
    if new:
      listed = ', '.join(new[:3]) + (', ...' if new[3:] else '')
      hosts.log(
        f'init_from: {len(new)} parameters that {source.folder} does not have '
        f'are new: {listed}'
      )
  if wrong:
    raise ConfigError(
      f'init_from={config.init_from!r} does not fit:\n  ' + '\n  '.join(wrong)
    )
  return found


def find_paths(config: Any, target: Params) -> set[str]:
  """Paths of the run's parameters that `load` has values for; reads none."""
  wanted = tree_paths.flatten(adapters.split(target)[0])
  pairs = _pair_paths(config, wanted)
  return {ours for _, found in pairs for ours in found.values()}


def _pair_paths(
  config: Any, wanted: Mapping[str, Any]
) -> Iterator[tuple[init_entries.InitEntry, dict[str, str]]]:
  """Of each part, the paths in its source, and those in the model."""
  for start in init_entries.find(config):
    source, inside, below = start.source, start.inside, start.below
    theirs = tree_paths.flatten(source.shapes)
    pairs = {
      path: below + path.removeprefix(inside)
      for path in theirs
      if path.startswith(inside)
    }
    if not pairs:
      raise ConfigError(
        f'init_from: {source.folder} is a run that trained no {start.part}, '
        'so it has no parameters for one'
      )
    table = 'words/table/embedding'
    lacks = f'{below}{table}' not in pairs.values()
    if (
      start.kind in ('text', 'question')
      and lacks
      and f'decoder/{table}' in theirs
    ):
      # The encoder of a T5 reads the vectors of its decoder.
      pairs[f'decoder/{table}'] = f'{below}{table}'
    crosses = (
      not start.kind
      or models.PARTS[start.kind].cross_attention is None
      or start.section(config).get('cross_attention')
    )
    in_training = models.training_settings(
      start.section(config)['name'], source.tables
    )
    # Parameters that the run has no use for: the image encoder of a blind
    # baseline, a tower's cross-attention, the word table of an encoder that
    # shares its decoder's, and parts of training alone.
    spared = [
      path
      for path, own in pairs.items()
      if own not in wanted
      and (
        config.data.blind
        or ('cross_attention' in path and not crosses)
        or own == f'encoder/{table}'
        or path.removeprefix(inside).partition('/')[0] in in_training
      )
    ]
    yield start, {p: o for p, o in pairs.items() if p not in spared}


def files(config: Any) -> dict[str, Callable[[Path], None]]:
  """What a run's folder keeps of the published model that it began from."""
  if not config.init_from:
    return {}
  return {
    f'{weight_source.FOLDER}/{name}': functools.partial(
      Path.write_bytes, data=content
    )
    for start in init_entries.find(config)
    for name, content in start.source.files.items()
    if not start.part
  }


def to_pretrained(
  run: rebuild.Run,
  workdir: Path,
  *,
  dtype: Any = None,
  param_dtype: Any = jnp.float32,
) -> base.Pretrained | None:
  """A run as the published model that it began from; None if from none.

  Args:
    run: of `rebuild.load`.
    workdir: its folder.
    dtype: dtype of the computation; by default the run's own.
    param_dtype: of the parameters.
  """
  if not (workdir / weight_source.FOLDER / checkpoint.CONFIG).exists():
    return None
  config, small = checkpoint.read_small_files(workdir / weight_source.FOLDER)
  family = families.find(config)
  dtype = run.config.train.dtype if dtype is None else dtype
  module = family.build_module(config, jnp.dtype(dtype))
  theirs = tree_paths.flatten(checkpoint.shapes(module, family.inputs(config)))
  in_training = models.training_settings(run.config.model.name)
  kept = {k: tree for k, tree in run.params.items() if k not in in_training}
  whole = quantized.dequantize(kept, param_dtype)
  ours, _ = adapters.split(whole)
  if theirs.keys() != tree_paths.flatten(ours).keys():
    return None  # It has more, such as a classifier of answers.
  params = jax.tree.map(lambda leaf: leaf.astype(param_dtype), whole)
  size = checkpoint.check_preprocessing(family, module, config, small)
  model = family.model_class(module, params, config, small, size)
  patterns = run.config.adapter.train if run.config.adapter.layers else ()
  return dataclasses.replace(
    model,
    base=run.config.init_from,
    tuned=tuple(
      path
      for path in tree_paths.flatten(ours)
      if any(re.search(pattern, path) for pattern in patterns)
    ),
  )
