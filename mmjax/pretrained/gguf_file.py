"""GGUF files of Llama and similar models, as llama.cpp writes them.

Names, sizes and the tokenizer come from the file's metadata. Quantised tensors
are dequantised by the package `gguf`, one at a time.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data import git_pointers
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  generation_settings,
  gguf_tokenizer,
  keys,
  tokenizer_files,
  tokenizer_settings,
)

SUFFIX = '.gguf'
# general.architecture -> model_type and class of transformers.
_MODELS = {
  'gemma3': ('gemma3_text', 'Gemma3ForCausalLM'),
  'llama': ('llama', 'LlamaForCausalLM'),
  'qwen2': ('qwen2', 'Qwen2ForCausalLM'),
  'qwen3': ('qwen3', 'Qwen3ForCausalLM'),
}
# Key of the metadata below the architecture -> field of config.json.
_FIELDS = {
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
  'block_count': 'num_hidden_layers',
  'context_length': 'max_position_embeddings',
  'embedding_length': 'hidden_size',
  'feed_forward_length': 'intermediate_size',
}
_OPTIONAL = {
  'attention.key_length': 'head_dim',
  'attention.sliding_window': 'sliding_window',
  'final_logit_softcapping': 'final_logit_softcapping',
  'rope.freq_base': 'rope_theta',
  'rope.freq_base_swa': 'rope_local_base_freq',
}
# Names of layers.
_LAYERS = {
  'attn_norm': 'input_layernorm',
  'ffn_norm': 'post_attention_layernorm',
  'attn_q': 'self_attn.q_proj',
  'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj',
  'attn_output': 'self_attn.o_proj',
  'attn_q_norm': 'self_attn.q_norm',
  'attn_k_norm': 'self_attn.k_norm',
  'ffn_gate': 'mlp.gate_proj',
  'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj',
}
_GEMMA3_LAYERS = {
  **_LAYERS,
  'ffn_norm': 'pre_feedforward_layernorm',
  'post_attention_norm': 'post_attention_layernorm',
  'post_ffw_norm': 'post_feedforward_layernorm',
}
# Number of layers of Gemma 3 27B, whose factor on the dot products differs.
_GEMMA3_LARGEST = 62
_OTHERS = {
  'output.weight': 'lm_head.weight',
  'output_norm.weight': 'model.norm.weight',
  'token_embd.weight': 'model.embed_tokens.weight',
}
# Divisors of the frequencies of Llama 3.1 and 3.2.
_FREQUENCIES = 'rope_freqs.weight'
_LLAMA3 = tuple(
  {
    'rope_type': 'llama3',
    'factor': factor,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  }
  for factor in (8.0, 32.0)
)


class Tensors(keys.Source):
  """The tensors of a file, under transformers' names.

  Attributes:
    names: names of all tensors.
  """

  def __init__(self, path: Path, reader: Any, config: Mapping[str, Any]):
    """Takes an open file and its config.json."""
    self._path, self._config = path, config
    self._tensors = {
      _rename(tensor.name, config['model_type']): tensor
      for tensor in reader.tensors
      if tensor.name != _FREQUENCIES
    }
    self.names = frozenset(self._tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""
    return tuple(int(size) for size in reversed(self._tensors[name].shape))

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor, in float32."""
    tensor = self._tensors[name]
    array = _dequantize(self._path, tensor).reshape(self.shape(name))
    heads = {
      'q_proj': self._config['num_attention_heads'],
      'k_proj': self._config['num_key_value_heads'],
    }.get(name.split('.')[-2])
    if self._config['model_type'] == 'gemma3_text' and array.ndim == 1:
      return array - 1  # Of norms, which llama.cpp stores with their 1.
    if self._config['model_type'] == 'llama' and heads:
      return _separate_halves(array, heads)
    return array

  def stored_name(self, name: str) -> str:
    """Name in the file of a tensor."""
    return self._tensors[name].name


def is_model(path: Path) -> bool:
  """Whether a path is that of a GGUF file."""
  return path.suffix == SUFFIX and path.is_file()


def read(path: Path) -> tuple[dict[str, Any], Tensors, dict[str, bytes]]:
  """Opens a file.

  Returns:
    What config.json says, the tensors, and the small files of such a folder:
    the tokenizer, its settings and those of generation.

  Raises:
    ConfigError: if the package `gguf` is missing, or the file is broken or of a
      model that mmjax does not know.
  """
  reader = _open(path)
  metadata = _Metadata(path, reader.fields)
  config = _make_config(metadata, reader)
  source = Tensors(path, reader, config)
  tokenizer = gguf_tokenizer.build(metadata)
  ids = {
    name: metadata[f'tokenizer.ggml.{key}_token_id']
    for name, key in (
      ('bos_token_id', 'bos'),
      ('eos_token_id', 'eos'),
      ('pad_token_id', 'padding'),
    )
    if f'tokenizer.ggml.{key}_token_id' in metadata
  }
  settings: dict[str, Any] = {
    name.removesuffix('_id'): tokenizer.id_to_token(number)
    for name, number in ids.items()
  }
  if 'tokenizer.chat_template' in metadata:
    settings['chat_template'] = metadata['tokenizer.chat_template']
  files = {
    generation_settings.FILE: json.dumps(ids).encode(),
    tokenizer_files.FILE: tokenizer.to_str().encode(),
    tokenizer_settings.FILE: json.dumps(settings).encode(),
  }
  return {**config, **ids}, source, files


class _Metadata(Mapping[str, Any]):
  """The metadata of a file; values are read when they are asked for."""

  def __init__(self, path: Path, fields: Mapping[str, Any]):
    self._path, self._fields = path, fields
    self._values: dict[str, Any] = {}  # Long lists are slow to read.

  def __getitem__(self, key: str) -> Any:
    if key not in self._values:
      self._values[key] = self._read(key)
    return self._values[key]

  def _read(self, key: str) -> Any:
    field = self._fields[key]
    try:
      value = field.contents()
      # The decimal number that the float32 was made of.
      return float(str(np.float32(value))) if type(value) is float else value
    except Exception as error:  # The package raises several classes.
      raise ConfigError(
        f'{self._path}: {key} is broken ({error}); download the file again'
      ) from error

  def __iter__(self):
    return iter(self._fields)

  def __len__(self) -> int:
    return len(self._fields)


def _open(path: Path) -> Any:
  try:
    import gguf
  except ImportError as error:
    raise ConfigError(
      f'{path}: to read it, install the extra `gguf`: '
      "pip install -e '.[gguf]' in the folder of mmjax"
    ) from error
  try:
    return gguf.GGUFReader(path)
  except Exception as error:  # The package raises several classes.
    with path.open('rb') as pointer:
      reason = git_pointers.explain(pointer.read(32))
    if reason:
      raise ConfigError(f'{path} is {reason}') from error
    raise ConfigError(
      f'{path} is broken or cut off ({error}); download it again'
    ) from error


def _dequantize(path: Path, tensor: Any) -> np.ndarray:
  import gguf

  try:
    array = gguf.dequantize(tensor.data, tensor.tensor_type)
  except NotImplementedError as error:
    raise ConfigError(
      f'{path}: {tensor.name} is of type {tensor.tensor_type.name}, which the '
      'package gguf does not dequantise; take a file of another type'
    ) from error
  return np.asarray(array, np.float32)


def _make_config(metadata: Mapping[str, Any], reader: Any) -> dict[str, Any]:
  """What config.json of the same model says."""
  kind = gguf_tokenizer.require(metadata, 'general.architecture')
  if kind not in _MODELS:
    raise ConfigError(
      f'general.architecture is {kind!r}; of GGUF files, mmjax reads '
      f'{", ".join(_MODELS)}'
    )
  model_type, architecture = _MODELS[kind]
  if metadata.get(f'{kind}.expert_count'):
    raise ConfigError(
      f'{kind}.expert_count is {metadata[f"{kind}.expert_count"]}; mmjax has '
      'no mixture of experts'
    )
  config: dict[str, Any] = {
    field: gguf_tokenizer.require(metadata, f'{kind}.{key}')
    for key, field in _FIELDS.items()
  }
  config |= {
    field: metadata[f'{kind}.{key}']
    for key, field in _OPTIONAL.items()
    if f'{kind}.{key}' in metadata
  }
  tensors = {tensor.name: tensor for tensor in reader.tensors}
  rope = _find_rope(metadata, kind, config, tensors)
  if rope:
    config['rope_scaling'] = rope
  if kind == 'gemma3':
    config |= _find_gemma3(metadata, config)
  else:
    config['hidden_act'] = 'silu'
  return {
    'model_type': model_type,
    'architectures': [architecture],
    'vocab_size': len(
      gguf_tokenizer.require(metadata, 'tokenizer.ggml.tokens')
    ),
    'tie_word_embeddings': 'output.weight' not in tensors,
    **config,
  }


def _find_gemma3(
  metadata: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
  """What a config of Gemma 3 has besides; some of it llama.cpp knows itself."""
  heads, size = config['num_attention_heads'], config.get('head_dim')
  if size is None or config['num_hidden_layers'] == _GEMMA3_LARGEST:
    size = config['hidden_size'] // heads
  return {
    'hidden_activation': 'gelu_pytorch_tanh',
    'query_pre_attn_scalar': size,
    'sliding_window': gguf_tokenizer.require(
      metadata, 'gemma3.attention.sliding_window'
    ),
  }


def _find_rope(
  metadata: Mapping[str, Any],
  kind: str,
  config: Mapping[str, Any],
  tensors: Mapping[str, Any],
) -> dict[str, Any] | None:
  """Settings of scaled rotary positions; None for plain ones."""
  scaling = metadata.get(f'{kind}.rope.scaling.type', 'none')
  if scaling == 'linear':
    factor = gguf_tokenizer.require(metadata, f'{kind}.rope.scaling.factor')
    return {'rope_type': 'linear', 'factor': factor}
  if scaling != 'none':
    raise ConfigError(
      f'{kind}.rope.scaling.type is {scaling!r}; mmjax reads linear alone'
    )
  if _FREQUENCIES not in tensors:
    return None
  stored = np.asarray(tensors[_FREQUENCIES].data, np.float32).reshape(-1)
  theta = config.get('rope_theta', 1e4)
  for settings in _LLAMA3:
    divisors = _llama3_divisors(theta, len(stored), settings)
    if np.allclose(stored, divisors, rtol=1e-4):
      return settings
  raise ConfigError(
    f'{_FREQUENCIES} has frequencies of rotary positions other than those of '
    'Llama 3.1 and 3.2; take the Hugging Face folder of the model'
  )


def _llama3_divisors(
  theta: float, number: int, settings: Mapping[str, Any]
) -> np.ndarray:
  """What Llama 3.1 divides the frequencies by (its `apply_scaling`)."""
  lengths = 2 * np.pi * theta ** (np.arange(number) / number)
  low, high = settings['low_freq_factor'], settings['high_freq_factor']
  turns = settings['original_max_position_embeddings'] / lengths
  smooth = np.clip((turns - low) / (high - low), 0, 1)
  return 1 / ((1 - smooth) / settings['factor'] + smooth)


@functools.cache
def _rename(name: str, model_type: str = 'llama') -> str:
  """The name of a tensor in transformers; unknown names stay.

  >>> _rename('blk.3.attn_q.weight')
  'model.layers.3.self_attn.q_proj.weight'
  """
  layers = _GEMMA3_LAYERS if model_type == 'gemma3_text' else _LAYERS
  match = re.fullmatch(r'blk\.(\d+)\.(\w+)\.(weight|bias)', name)
  if match is None:
    return _OTHERS.get(name, name)
  number, layer, leaf = match.groups()
  return f'model.layers.{number}.{layers.get(layer, layer)}.{leaf}'


def _separate_halves(array: np.ndarray, heads: int) -> np.ndarray:
  """Undoes llama.cpp's order of a head's rows, [2, K / 2] as [K / 2, 2]."""
  rows = array.reshape(heads, -1, 2, *array.shape[1:])
  return rows.swapaxes(1, 2).reshape(array.shape)
