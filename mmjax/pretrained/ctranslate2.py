"""Whisper in the format of CTranslate2 and faster-whisper: model.bin.

A model.bin of version 6, little-endian; a string is its length (2 bytes) with a
final 0, its characters and the 0:

  version (4)  kind (string)  revision (4)
  number of variables (4); each is
    name (string)  axes (1)  size of each axis (4)  type (1)  bytes (4)  data
  number of aliases (4); each is
    alias (string)  name of a variable (string)

Quantised matrices are integers; their scales, one for each row or one for all,
are in a variable of their own: value = integer / scale.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, keys, preprocess

FILE = 'model.bin'
# Files that are beside a model.bin of CTranslate2, but not beside a pickle.
VOCABULARIES = ('vocabulary.json', 'vocabulary.txt')
_VERSION = 6
_KIND, _REVISION = 'WhisperSpec', 3
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, jnp.bfloat16)
_SCALE = '_scale'
_TOKENIZER = 'tokenizer.json'
# Settings of the format, and their values for Whisper.
_SETTINGS = {
  'encoder/activation': 3,  # The exact GELU.
  'encoder/pre_norm': 1,
  'encoder/scale_embeddings': 0,
  'decoder/activation': 3,
  'decoder/pre_norm': 1,
  'decoder/scale_embeddings': 0,
  'decoder/start_from_zero_embedding': 0,
  'decoder/alibi': 0,
}
# Variables that change no output: the attention heads that align words, and
# settings of positions that Whisper doesn't have.
_UNREAD = (
  'decoder/alignment_heads',
  'decoder/alignment_layer',
  'decoder/alibi_use_positive_positions',
  'decoder/scale_alibi',
)
_FIRST_OF_MANY_LANGUAGES = 51865  # Vocabulary size of multilingual models.
_SPECIAL = {
  'decoder_start_token_id': '<|startoftranscript|>',
  'eos_token_id': '<|endoftext|>',
  'pad_token_id': '<|endoftext|>',
  'bos_token_id': '<|endoftext|>',
}


class Variables:
  """The variables of a model.bin by name, read from disk one at a time.

  Attributes:
    names: names of all variables and aliases.
  """

  def __init__(self, path: Path | str):
    """Opens a file and reads its table of contents.

    Raises:
      ConfigError: if it is of another version or kind, or broken.
    """
    self._path = Path(path)
    self._data = np.memmap(self._path, np.uint8, 'r')
    self._at = 0
    self._where: dict[str, tuple[tuple[int, ...], Any, int]] = {}
    self._aliases: dict[str, str] = {}
    (version,) = self._unpack('I')
    kind = self._read_string() if version == _VERSION else None
    (revision,) = self._unpack('I') if kind else (None,)
    if (version, kind, revision) != (_VERSION, _KIND, _REVISION):
      raise ConfigError(
        f'{self._path} has version {version}, kind {kind!r} and revision '
        f'{revision}; mmjax reads version {_VERSION}, {_KIND!r} and revision '
        f'{_REVISION}'
      )
    for _ in range(self._unpack('I')[0]):
      self._read_variable()
    for _ in range(self._unpack('I')[0]):
      alias, name = self._read_string(), self._read_string()
      if name not in self._where:
        raise self._error(f'{alias} is {name}, which is not there')
      self._aliases[alias] = name
    if self._at != len(self._data):
      raise self._error(f'{len(self._data) - self._at} bytes are left over')
    self.names = frozenset({*self._where, *self._aliases})

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a variable, without reading it."""
    return self._where[self._resolve(name)][0]

  def read(self, name: str) -> np.ndarray:
    """Reads one variable; a quantised one as float32."""
    name = self._resolve(name)
    array = self._read_stored(name)
    if name + _SCALE in self.names:
      scale = self._read_stored(name + _SCALE).astype(np.float32)
      scale = (
        scale.reshape(-1, *[1] * (array.ndim - 1)) if array.ndim else scale
      )
      array = array.astype(np.float32) / scale
    return array

  def is_same(self, name: str, other: str) -> bool:
    """Whether two names are those of one variable."""
    return self._resolve(name) == self._resolve(other)

  def _resolve(self, name: str) -> str:
    return self._aliases.get(name, name)

  def _read_stored(self, name: str) -> np.ndarray:
    shape, kind, start = self._where[self._resolve(name)]
    size = math.prod(shape) * np.dtype(kind).itemsize
    return self._data[start : start + size].view(kind).reshape(shape)

  def _read_variable(self) -> None:
    name = self._read_string()
    (axes,) = self._unpack('B')
    shape = self._unpack(f'{axes}I')
    kind, size = self._unpack('BI')
    if kind >= len(_TYPES):
      raise self._error(f'{name} is of the unknown type {kind}')
    if size != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
      raise self._error(f'{name} {list(shape)} has {size} bytes')
    self._where[name] = shape, _TYPES[kind], self._skip(size)

  def _read_string(self) -> str:
    (size,) = self._unpack('H')
    start = self._skip(size)
    text = self._data[start : start + size].tobytes()
    if not text.endswith(b'\0'):
      raise self._error(f'{text!r} does not end with a 0')
    return text[:-1].decode()

  def _unpack(self, form: str) -> tuple[int, ...]:
    form = f'<{form}'
    start = self._skip(struct.calcsize(form))
    return struct.unpack_from(form, self._data, start)

  def _skip(self, size: int) -> int:
    start, self._at = self._at, self._at + size
    if self._at > len(self._data):
      raise self._error('it ends early')
    return start

  def _error(self, why: str) -> ConfigError:
    return ConfigError(f'{self._path} is broken: {why}; download it again')


class Tensors(keys.Source):
  """The variables under the names that Hugging Face gives Whisper's tensors.

  Attributes:
    names: names of all tensors.
    tied: whether the output matrix is the embedding.
  """

  def __init__(self, variables: Variables):
    """Maps the variables to tensors.

    Raises:
      ConfigError: naming all variables that are missing or unknown, and
        settings that Whisper doesn't have.
    """
    self._variables = variables
    embedding, output = 'decoder/embeddings/weight', 'decoder/projection/weight'
    names = variables.names
    self.tied = {embedding, output} <= names and variables.is_same(
      embedding, output
    )
    self._where = {
      theirs: (name, part, parts)
      for theirs, name, part, parts in _tensors(_count_layers(variables))
    }
    if not self.tied:
      self._where['proj_out.weight'] = (output, 0, 1)
    used = {name for name, _, _ in self._where.values()}
    used |= {'encoder/num_heads', 'decoder/num_heads'}
    wrong = [f'{name} is missing' for name in sorted(used - names)]
    known = {*used, output, *_SETTINGS, *_UNREAD}
    known |= {name + _SCALE for name in known}
    wrong += [f'{name} is left over' for name in sorted(names - known)]
    for name, value in _SETTINGS.items():
      if name in names and variables.read(name) != value:
        wrong.append(f'{name} is {variables.read(name)}, not {value}')
    # Whisper's keys have no bias, but the fused variable has a part for it: 0.
    for name, part, parts in _key_biases(_count_layers(variables)):
      if name in names and np.split(variables.read(name), parts)[part].any():
        wrong.append(f'{name} has a bias of keys')
    if wrong:
      raise ConfigError(
        f'{FILE} is not a Whisper model:\n  ' + '\n  '.join(wrong)
      )
    self.names = frozenset(self._where)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    variable, _, parts = self._where[name]
    first, *rest = self._variables.shape(variable)
    return (first // parts, *rest)

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor."""
    variable, part, parts = self._where[name]
    return np.split(self._variables.read(variable), parts)[part]


def is_model(folder: Path) -> bool:
  """Whether a folder holds a model.bin, and not a pickle of that name."""
  if not (folder / FILE).exists():
    return False
  with (folder / FILE).open('rb') as file:
    return int.from_bytes(file.read(4), 'little') < 256


def read(folder: Path) -> tuple[dict[str, Any], Tensors, dict[str, bytes]]:
  """Reads a folder with model.bin, config.json and tokenizer.json.

  Sizes are those of the variables, since the folder's config.json has none.

  Returns:
    The config, tensors and small files in the format of Hugging Face.

  Raises:
    ConfigError: if the tokenizer is missing, or the model is broken or not a
      Whisper model.
  """
  variables = Variables(folder / FILE)
  tensors = Tensors(variables)
  if not (folder / _TOKENIZER).exists():
    raise ConfigError(
      f'{folder} has no {_TOKENIZER}; put that of the model there'
    )
  tokenizer = (folder / _TOKENIZER).read_bytes()
  added = configs.parse(tokenizer, folder / _TOKENIZER)['added_tokens']
  ids = {token['content']: token['id'] for token in added}
  special = {field: ids[token] for field, token in _SPECIAL.items()}
  config = _config(variables, tensors.tied) | special
  settings = configs.read(folder / 'config.json')
  generation = _generation(settings, ids, config) | special
  files = {
    _TOKENIZER: tokenizer,
    'generation_config.json': json.dumps(generation, indent=2).encode(),
    preprocess.FILE: json.dumps(_preprocessor(config), indent=2).encode(),
  }
  if (folder / preprocess.FILE).exists():
    files[preprocess.FILE] = (folder / preprocess.FILE).read_bytes()
  return config, tensors, files


def _count_layers(variables: Variables) -> dict[str, int]:
  """Counts the layers of encoder and decoder."""
  matches = [
    re.match(r'(encoder|decoder)/layer_(\d+)/', name)
    for name in variables.names
  ]
  depth = {'encoder': 0, 'decoder': 0}
  for match in filter(None, matches):
    depth[match[1]] = max(depth[match[1]], int(match[2]) + 1)
  return depth


def _tensors(depth: Mapping[str, int]) -> Iterator[tuple[str, str, int, int]]:
  """Yields tensor, variable, index of the part and number of parts."""
  for name in ('conv1', 'conv2'):
    for leaf in ('weight', 'bias'):
      yield f'model.encoder.{name}.{leaf}', f'encoder/{name}/{leaf}', 0, 1
  embedding = 'decoder/embeddings/weight'
  yield 'model.decoder.embed_tokens.weight', embedding, 0, 1
  for side, number in depth.items():
    position = f'{side}/position_encodings/encodings'
    yield f'model.{side}.embed_positions.weight', position, 0, 1
    yield from _norm(f'model.{side}.layer_norm', f'{side}/layer_norm')
    for i in range(number):
      yield from _layer(f'model.{side}.layers.{i}', f'{side}/layer_{i}')
      if side == 'decoder':
        theirs = f'model.decoder.layers.{i}.encoder_attn'
        ours = f'decoder/layer_{i}/attention'
        yield from _norm(f'{theirs}_layer_norm', f'{ours}/layer_norm')
        yield from _packed(theirs, ours, 0, 'q')
        yield from _packed(theirs, ours, 1, 'kv')
        yield from _linear(f'{theirs}.out_proj', f'{ours}/linear_2')


def _layer(theirs: str, ours: str) -> Iterator[tuple[str, str, int, int]]:
  attention = f'{ours}/self_attention'
  yield from _norm(f'{theirs}.self_attn_layer_norm', f'{attention}/layer_norm')
  yield from _packed(f'{theirs}.self_attn', attention, 0, 'qkv')
  yield from _linear(f'{theirs}.self_attn.out_proj', f'{attention}/linear_1')
  yield from _norm(f'{theirs}.final_layer_norm', f'{ours}/ffn/layer_norm')
  yield from _linear(f'{theirs}.fc1', f'{ours}/ffn/linear_0')
  yield from _linear(f'{theirs}.fc2', f'{ours}/ffn/linear_1')


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, str, int, int]]:
  yield f'{theirs}.weight', f'{ours}/gamma', 0, 1
  yield f'{theirs}.bias', f'{ours}/beta', 0, 1


def _linear(theirs: str, ours: str) -> Iterator[tuple[str, str, int, int]]:
  yield f'{theirs}.weight', f'{ours}/weight', 0, 1
  yield f'{theirs}.bias', f'{ours}/bias', 0, 1


def _packed(
  theirs: str, ours: str, index: int, which: str
) -> Iterator[tuple[str, str, int, int]]:
  """Yields projections that are stored in one variable, in order."""
  for part, letter in enumerate(which):
    for leaf in ('weight', 'bias'):
      if (letter, leaf) != ('k', 'bias'):
        name = f'{ours}/linear_{index}/{leaf}'
        yield f'{theirs}.{letter}_proj.{leaf}', name, part, len(which)


def _key_biases(depth: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
  """Yields variables with a bias of keys, its index and number of parts."""
  for side, number in depth.items():
    for i in range(number):
      yield f'{side}/layer_{i}/self_attention/linear_0/bias', 1, 3
      if side == 'decoder':
        yield f'{side}/layer_{i}/attention/linear_1/bias', 0, 2


def _config(variables: Variables, tied: bool) -> dict[str, Any]:
  shape = variables.shape
  depth = _count_layers(variables)
  width, mels, _ = shape('encoder/conv1/weight')
  heads = {side: int(variables.read(f'{side}/num_heads')[()]) for side in depth}
  return {
    'architectures': ['WhisperForConditionalGeneration'],
    'model_type': 'whisper',
    'activation_function': 'gelu',
    'd_model': width,
    'num_mel_bins': mels,
    'vocab_size': shape('decoder/embeddings/weight')[0],
    'max_source_positions': shape('encoder/position_encodings/encodings')[0],
    'max_target_positions': shape('decoder/position_encodings/encodings')[0],
    'encoder_layers': depth['encoder'],
    'decoder_layers': depth['decoder'],
    'encoder_attention_heads': heads['encoder'],
    'decoder_attention_heads': heads['decoder'],
    'encoder_ffn_dim': shape('encoder/layer_0/ffn/linear_0/weight')[0],
    'decoder_ffn_dim': shape('decoder/layer_0/ffn/linear_0/weight')[0],
    'tie_word_embeddings': tied,
  }


def _generation(
  settings: Mapping[str, Any],
  ids: Mapping[str, int],
  config: Mapping[str, Any],
) -> dict[str, Any]:
  """Makes a generation_config.json from config.json and the tokens' ids."""
  many = config['vocab_size'] >= _FIRST_OF_MANY_LANGUAGES
  out = {
    'is_multilingual': many,
    'max_length': config['max_target_positions'],
    'no_timestamps_token_id': ids['<|notimestamps|>'],
    'suppress_tokens': settings.get('suppress_ids') or [],
    'begin_suppress_tokens': settings.get('suppress_ids_begin') or [],
  }
  if many:
    languages = set(settings.get('lang_ids') or ())
    tasks = ('translate', 'transcribe')
    out['lang_to_id'] = {
      token: number for token, number in ids.items() if number in languages
    }
    out['task_to_id'] = {name: ids[f'<|{name}|>'] for name in tasks}
  return out


def _preprocessor(config: Mapping[str, Any]) -> dict[str, Any]:
  """The preprocessor_config.json of Whisper, for folders without the file."""
  return {
    'feature_extractor_type': 'WhisperFeatureExtractor',
    'feature_size': config['num_mel_bins'],
    'sampling_rate': 16_000,
    'hop_length': 160,
    'n_fft': 400,
    'chunk_length': config['max_source_positions'] * 2 * 160 // 16_000,
    'padding_value': 0.0,
  }
