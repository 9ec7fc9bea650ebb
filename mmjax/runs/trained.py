"""Trained models that a run can start from: published ones, and other runs."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from mmjax import errors, models
from mmjax.config import definition
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.pretrained import (
  base,
  checkpoint,
  configs,
  families,
  hub,
  keys,
  preprocess,
  processors,
  sentence_steps,
  sentences,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.runs import built_tokenizers, checkpoints, rebuild
from mmjax.types import Params

# In a run's folder: what belongs to the published model that it began from.
FOLDER = 'pretrained'
# Parts whose pooled vector is used, and what a BERT without a pooler lacks.
_POOLED = ('text', 'question')
_POOLERLESS = (
  'has no pooler.dense, which makes the vector of a text; take a checkpoint '
  'that has one, or give it a new one to train with transformers: '
  'BertModel.from_pretrained(IN).save_pretrained(OUT)'
)


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model, its weights not yet read.

  Attributes:
    folder: where it lies.
    module: its module.
    data: settings of `data` that it was trained with.
    shapes: of its parameters.
    read: shapes, with shardings -> parameters.
    files: the small files of a published model, by name.
    tables: the models and parts that its config can name.
    note: what the user should know.
    refused: by part, why nothing can start from it.
    tokenizer_fault: why a model with older tokenizer files has no tokenizer; ''
      if it has one, or no such files.
  """

  folder: Path
  module: nn.Module
  data: Mapping[str, Any]
  shapes: Params
  read: Callable[[Params], Params]
  files: Mapping[str, bytes]
  tables: models.Tables = models.BUILT_IN
  note: str = ''
  refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tokenizer_fault: str = ''

  def part(self, name: str) -> tuple[nn.Module, str]:
    """A part, and the path of its parameters, with its slash.

    Args:
      name: of the part; '' for the whole, as one that can be trained.

    Raises:
      ConfigError: if there is no such part, or it can't be trained.
    """
    if not name:
      return self._whole(), ''
    if name in self.refused:
      raise ConfigError(f'init_from: {self.folder} {self.refused[name]}')
    found = _find_part(self.module, name, self.tables)
    if found is None:
      raise ConfigError(
        f'init_from: {self.folder} is a {type(self.module).__name__} without '
        f'{name}; {_list_parts(self.module, self.tables)}'
      )
    return found

  def data_settings(
    self, parts: Sequence[str], given: Mapping[str, Any]
  ) -> Iterator[tuple[str, Any]]:
    """The settings of `data` that come with parts.

    Args:
      parts: their names.
      given: the config's `data`.
    """
    for part in models.PARTS:
      if part not in parts:
        continue
      for name in models.PARTS[part].data:
        if name in self.data:
          yield name, self.data[name]
      module, _ = self.part(part)
      most = getattr(module, 'max_length', None)
      for name in models.PARTS[part].lengths if most else ():
        padded = getattr(module, 'reads_padding', False)
        yield name, most if padded else min(given[name], most)

  def reads_texts(self, parts: Sequence[str]) -> bool:
    """Whether any of some parts reads or writes ids of a tokenizer."""
    return any(
      models.PARTS[part].uses_tokenizer
      for part in parts
      if part in models.PARTS
    )

  def check_tokenizer(self) -> None:
    """Refuses what tokenizer_config.json says if training would not do it.

    Raises:
      ConfigError: if it does.
    """
    file = tokenizer_settings.FILE
    if file not in self.files or 'tokenizer' not in self.data:
      return
    named = with_init_from_errors(configs.parse, self.files[file], file)
    tokenizer = tokenizers.Tokenizer.from_file(self.data['tokenizer'])
    with_init_from_errors(tokenizer_settings.apply, tokenizer, named)
    if tokenizer.encode_special_tokens:
      raise ConfigError(
        f'init_from: {self.folder / file}: split_special_tokens is True, but '
        'training reads the names of special tokens as these; set it to false, '
        'if the texts have none'
      )

  def _whole(self) -> nn.Module:
    module = self.module
    if isinstance(module, models.InterleavedVisionLanguage):
      module = models.ImageFirstVisionLanguage.from_interleaved(module)
    if type(module) not in self.tables.models.values():
      raise ConfigError(
        f'init_from: {self.folder} is a {type(module).__name__}, of a kind '
        'that is not trained as a whole; start from a part, as in '
        f'image=FOLDER: {_list_parts(self.module, self.tables)}'
      )
    return module


def find(name: str) -> Trained:
  """Opens a folder, or a model of the Hugging Face hub.

  Args:
    name: of the folder, or on the hub.

  Raises:
    ConfigError: if it is not there, or can't be read.
  """
  return _open(with_init_from_errors(hub.find, name))


def with_init_from_errors(function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function that reads what `init_from` names; its errors say so."""
  try:
    return function(*args)
  except ConfigError as error:
    raise ConfigError(f'init_from: {error}') from error
  except OSError as error:
    raise ConfigError(
      f'init_from: {error.filename}: {errors.reason(error)}'
    ) from error


@functools.lru_cache(maxsize=8)
def _open(folder: Path) -> Trained:
  if hub.is_run(folder):
    return _open_run(folder)
  return with_init_from_errors(_open_published, folder)


def _open_run(folder: Path) -> Trained:
  run = rebuild.load(folder)
  kept = folder / FOLDER
  names = {
    name
    for part in models.PARTS.values()
    for name in (*part.data, *part.lengths)
  }
  data = {name: run.config.data[name] for name in names}
  data['tokenizer'] = str(folder / 'tokenizer.json')

  def read(shapes: Params) -> Params:
    # Read at each call: the arrays become those of a state, which donates them.
    held, wanted = (
      tree_paths.flatten(checkpoints.load_params(folder)),
      tree_paths.flatten(shapes),
    )
    return tree_paths.unflatten(
      {
        path: jax.device_put(held[path], getattr(place, 'sharding', None))
        for path, place in wanted.items()
      }
    )

  return Trained(
    folder=folder,
    module=run.module,
    data=data,
    tables=definition.of(run.config).tables,
    shapes=jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.params
    ),
    read=read,
    files={
      file.relative_to(kept).as_posix(): file.read_bytes()
      for file in kept.rglob('*')
      if file.is_file()
    },
  )


def _open_published(folder: Path) -> Trained:
  config, small, source = checkpoint.read_folder(folder)
  family = families.find(config)
  module = family.build_module(config, jnp.float32)
  checkpoint.check_preprocessing(family, module, config, small)
  data: dict[str, Any] = {}
  note = ''
  if family.model_class.image_defaults and _find_part(
    module, 'image', models.BUILT_IN
  ):
    found = processors.find(small) or ({}, preprocess.FILE)
    prepares = family.model_class.make_preprocessor(*found)
    data, note = _convert_image_settings(getattr(prepares, 'pixels', prepares))
  tokenizer, fault = _tokenizer(folder, config, small)
  if tokenizer is not None:
    data['tokenizer'] = str(tokenizer)
    data['lower_case'] = (
      family.model_class.lower_case or sentences.uses_lower_case(small)
    )
    reads = getattr(module, 'encoder', None) is not None
    if isinstance(module, models.EncoderDecoder) or (
      reads and hasattr(module, 'bos_id')
    ):
      data['bos'] = module.bos_id  # Not what its tokenizer starts texts with.

  def read(shapes: Params) -> Params:
    # Of a part alone, what belongs to others is left where it is.
    wanted = tree_paths.flatten(shapes)
    rules = [r for r in family.rules(config) if r.ours in wanted]
    whole = len(rules) == len(family.rules(config))
    skip = family.ignored_patterns if whole else ('.*',)
    return keys.load(rules, source, shapes, skip=skip)

  return Trained(
    folder=folder,
    module=module,
    data=data,
    shapes=checkpoint.shapes(module, family.inputs(config)),
    read=read,
    files={**small, checkpoint.CONFIG: json.dumps(config).encode()},
    note=note,
    refused=dict.fromkeys(_POOLED, _POOLERLESS)
    if _lacks_pooler(config)
    else {},
    tokenizer_fault=fault,
  )


def _tokenizer(
  folder: Path, config: Mapping[str, Any], small: Mapping[str, bytes]
) -> tuple[Path | None, str]:
  """The file of a published model's tokenizer, and why there is none."""
  if base.TOKENIZER in small:
    return sentence_steps.model_folder(folder) / base.TOKENIZER, ''
  if small.keys().isdisjoint(tokenizer_files.VOCABULARIES):
    return None, ''
  try:
    return built_tokenizers.write(small, config), ''
  except ConfigError as error:
    return None, str(error)


def _lacks_pooler(config: Mapping[str, Any]) -> bool:
  """Whether a checkpoint is a BERT without the pooler that its class has."""
  return (
    config.get('model_type') == 'bert'
    and config.get('add_pooling_layer') is False
  )


def _convert_image_settings(
  prepares: preprocess.ImagePreprocessor,
) -> tuple[dict[str, Any], str]:
  """Our settings of a published preprocessing, and how they differ."""
  # Theirs are of scaled pixels, ours of pixels in [0, 1].
  scale = np.full(3, 255 * prepares.rescale_factor)
  data: dict[str, Any] = {
    'mean': tuple((prepares.mean / scale).tolist()),
    'std': tuple((prepares.std / scale).tolist()),
  }
  edge = prepares.shortest_edge
  size = prepares.crop_size or prepares.size or ((edge, edge) if edge else None)
  if size is None:
    return data, (
      'training makes all images of one size, data.image_size, which the '
      'published preprocessing does not'
    )
  data |= {'image_size': size, 'resize': 'crop' if edge else 'stretch'}
  before = edge or prepares.size
  if edge and not prepares.crop_size:
    return data, f'training crops to {size}; the published preprocessing not'
  if before in (None, size, *size):
    return data, ''
  return data, (
    f'training resizes images to {size} at once, where the published '
    f'preprocessing first makes {"their shorter side" if edge else "them"} '
    f'{before} and crops'
  )


def _find_part(
  module: nn.Module, part: str, tables: models.Tables
) -> tuple[nn.Module, str] | None:
  known = tables.parts[part].classes.values()
  if type(module) in known:
    return module, ''  # A tower that was published alone.
  # An `encoder` is what a classifier, or a T5, has.
  for name in (part, *models.PARTS[part].aliases, 'encoder'):
    held = getattr(module, name, None)
    if type(held) in known:
      return held, f'{name}/'
  return None


def _list_parts(module: nn.Module, tables: models.Tables) -> str:
  parts = [part for part in models.PARTS if _find_part(module, part, tables)]
  return f'it has {", ".join(parts) or "no parts"}'
