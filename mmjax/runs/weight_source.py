"""What a run can start from: published models, and other runs."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import tokenizers

from mmjax import encoders, errors, models
from mmjax.config import components
from mmjax.errors import ConfigError
from mmjax.nn import adapters, quantized
from mmjax.ops import tree_paths
from mmjax.pretrained import (
  base,
  checkpoint,
  configs,
  families,
  hub,
  keys,
  peft_config,
  preprocess,
  processors,
  sentences,
  tokenizer_settings,
)
from mmjax.runs import (
  built_tokenizers,
  checkpoints,
  published_inputs,
  rebuild,
)
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
_POOLED_OTHERWISE = (
  'is a sentence encoder whose vectors are pooled in a way that no text '
  'encoder of a config has, which pools the mean, the first or the last token '
  'alone; start from another'
)
_UNKNOWN_SOUND = (
  'has no preprocessor_config.json, which has the sample rate and the '
  'spectrogram that its encoder was trained with; put the published file there'
)


@dataclasses.dataclass(frozen=True)
class Input:
  """What an encoder reads.

  Attributes:
    part: part whose classes encode it, such as 'sound'; None for what has none.
    settings: settings of its feature that the encoder was trained with.
  """

  part: str | None
  settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class WeightSource:
  """A trained model, its weights not yet read.

  Attributes:
    folder: where it lies.
    module: its module.
    data: settings of `data` that it was trained with.
    shapes: of its parameters.
    read: shapes, with shardings, and `convert` of `tree_paths.put` ->
      parameters.
    files: the small files of a published model, by name.
    tables: the models and parts that its config can name.
    note: what the user should know.
    refused: by part, why nothing can start from it.
    tokenizer_fault: why a model with older tokenizer files has no tokenizer; ''
      if it has one, or no such files.
    inputs: what encoders read: of a run by feature, of a published model by
      part.
    spectrogram: settings of `FromSamples` of a published encoder of sounds.
  """

  folder: Path
  module: nn.Module
  data: Mapping[str, Any]
  shapes: Params
  read: Callable[..., Params]
  files: Mapping[str, bytes]
  tables: models.Tables = models.BUILT_IN
  note: str = ''
  refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tokenizer_fault: str = ''
  inputs: Mapping[str, Input] = dataclasses.field(default_factory=dict)
  spectrogram: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
    if type(module) is models.InterleavedVisionLanguage:
      module = models.ImageFirstVisionLanguage.from_interleaved(module)
    if type(module) not in self.tables.models.values():
      raise ConfigError(
        f'init_from: {self.folder} is a {type(module).__name__}, of a kind '
        'that is not trained as a whole; start from a part, as in '
        f'image=FOLDER: {_list_parts(self.module, self.tables)}'
      )
    return module


def find(name: str) -> WeightSource:
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
def _open(folder: Path) -> WeightSource:
  if (folder / peft_config.FILE).exists():
    return _open_adapter(folder)
  if hub.is_run(folder):
    return with_init_from_errors(_open_run, folder)
  return with_init_from_errors(_open_published, folder)


def _open_run(folder: Path) -> WeightSource:
  run = rebuild.load(folder)
  kept = folder / FOLDER
  names = {
    name
    for part in models.PARTS.values()
    for name in (*part.data, *part.lengths)
  }
  data = {name: run.config.data[name] for name in names}
  data['tokenizer'] = str(folder / 'tokenizer.json')

  def read(shapes: Params, *convert: Any) -> Params:
    # Read at each call: the arrays become those of a state, which donates them.
    return tree_paths.put(
      adapters.merge(checkpoints.load_params(folder)), shapes, *convert
    )

  return WeightSource(
    folder=folder,
    module=run.module,
    data=data,
    tables=components.of(run.config).tables,
    shapes=jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
      quantized.as_plain(adapters.split(run.params)[0]),
    ),
    read=read,
    files={
      file.relative_to(kept).as_posix(): file.read_bytes()
      for file in kept.rglob('*')
      if file.is_file()
    },
    inputs={
      name: Input(
        models.ENCODER_PARTS.get(feature.encoded_as),
        {s: getattr(feature, s) for s in feature.encoder_settings},
      )
      for name, feature in run.preprocessor.features.items()
    },
  )


def _open_adapter(folder: Path) -> WeightSource:
  """The model that a folder of PEFT's names, with its adapters merged."""
  config = with_init_from_errors(peft_config.read, folder)
  base_folder = with_init_from_errors(checkpoint.find_base, folder, config)

  def read(shapes: Params, *convert: Any) -> Params:
    return tree_paths.put(
      adapters.merge(checkpoint.load(folder).params), shapes, *convert
    )

  return dataclasses.replace(_open(base_folder), folder=folder, read=read)


def _open_published(folder: Path) -> WeightSource:
  config, small, source = checkpoint.read_folder(folder)
  family = families.find(config)
  module, refused = _pool_texts(family.build_module(config, jnp.float32), small)
  if published_inputs.lacks_pooler(config, small):
    refused = dict.fromkeys(_POOLED, _POOLERLESS)
  checkpoint.check_preprocessing(family, module, config, small)
  data, inputs, note = _read_images(family, module, config, small)
  spectrogram: dict[str, Any] = {}
  if _find_part(module, 'sound', models.BUILT_IN):
    match = published_inputs.find_sound(family.model_class, small)
    if match is None:
      refused |= dict.fromkeys(('sound', 'audio'), _UNKNOWN_SOUND)
    else:
      settings, spectrogram = match
      inputs['sound'] = Input('sound', settings)
      if heard := _find_part(module, 'audio', models.BUILT_IN):
        sounds = published_inputs.convert_sounds(heard[0], *match)
        inputs['sounds'] = Input(None, sounds)
  tokenizer, fault = built_tokenizers.find(folder, config, small)
  read_for_images = published_inputs.convert_image_text(
    family.model_class, config, small, tokenizer
  )
  inputs |= {kind: Input(None, own) for kind, own in read_for_images.items()}
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

  def read(shapes: Params, *convert: Any) -> Params:
    # Of a part alone, what belongs to others is left where it is.
    wanted = tree_paths.flatten(shapes)
    rules = [r for r in family.rules(config) if r.ours in wanted]
    whole = len(rules) == len(family.rules(config))
    skip = family.ignored_patterns if whole else ('.*',)
    return keys.load(rules, source, shapes, *convert, skip=skip)

  return WeightSource(
    folder=folder,
    module=module,
    data=data,
    shapes=checkpoint.shapes(module, family.inputs(config)),
    read=read,
    files={**small, checkpoint.CONFIG: json.dumps(config).encode()},
    note=note,
    refused=refused,
    tokenizer_fault=fault,
    inputs=inputs,
    spectrogram=spectrogram,
  )


def _read_images(
  family: base.Family,
  module: nn.Module,
  config: Mapping[str, Any],
  small: Mapping[str, bytes],
) -> tuple[dict[str, Any], dict[str, Input], str]:
  """Settings of `data` of images, inputs of images and videos, and a note."""
  parts = {
    part: found[0]
    for part in ('image', 'video')
    if (found := _find_part(module, part, models.BUILT_IN))
  }
  if not family.model_class.image_defaults or not parts:
    return {}, {}, ''
  found = processors.find(small) or ({}, preprocess.FILE)
  prepares = family.model_class.make_preprocessor(*found)
  data, note = published_inputs.convert_images(
    getattr(prepares, 'image_preprocessor', prepares)
  )
  inputs = {
    part: Input(part, published_inputs.convert_frames(data, encoder))
    for part, encoder in parts.items()
  }
  sized = published_inputs.convert_sized(
    family.model_class, prepares, module, config, small
  )
  inputs |= {kind: Input(None, own) for kind, own in sized.items()}
  return data if 'image' in parts else {}, inputs, note


def _pool_texts(
  module: nn.Module, small: Mapping[str, bytes]
) -> tuple[nn.Module, dict[str, str]]:
  """A sentence encoder with its own pooling, and by part why that fails."""
  if not isinstance(module, encoders.Transformer) or not sentences.is_encoder(
    small
  ):
    return module, {}
  pooling = sentences.read_pooling(small).of_tower
  if pooling is None:
    return module, dict.fromkeys(_POOLED, _POOLED_OTHERWISE)
  return module.clone(pooling=pooling, pool_activation=None), {}


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
