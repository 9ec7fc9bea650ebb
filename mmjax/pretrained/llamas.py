"""Decoders of Llama and of models like it: Mistral, Qwen, Gemma."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax import decoders
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  keys,
  names,
  sections,
)

# Buffers in older files.
SKIP = (r'.*\.rotary_emb\.inv_freq',)
PREFIXES = ('model.',)
TIES = (names.head_tie('model.embed_tokens.weight'),)
# Of a model that has the decoder as its `language_model`.
_SEPARATE = {'tie_word_embeddings': False}
TIES_UNDER_MODEL = (
  names.Tie(
    'model.language_model.embed_tokens.weight',
    'lm_head.weight',
    {**_SEPARATE, 'text_config': _SEPARATE},
  ),
)

DEFAULTS = {
  'vocab_size': 32000,
  'hidden_size': 4096,
  'intermediate_size': 11008,
  'num_hidden_layers': 32,
  'num_attention_heads': 32,
  'num_key_value_heads': None,
  'head_dim': None,
  'hidden_act': 'silu',
  'max_position_embeddings': 2048,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': False,
}
# Keys that `decoder` reads of the config itself.
WINDOWS = (
  'layer_types',
  'max_window_layers',
  'sliding_window',
  'use_sliding_window',
)
# Kinds of layers.
FULL, SLIDING = 'full_attention', 'sliding_attention'
SECTION = sections.Section(
  read=(*DEFAULTS, *sections.ROTARY, *WINDOWS),
  only={'rope_interleaved': False, 'use_mrope': False},
  # A setting of training, and keys that other libraries wrote.
  irrelevant=('is_llama_config', 'max_sequence_length', 'pretraining_tp'),
)
_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'o_proj',
}


def decoder(
  config: Mapping[str, Any],
  section: Mapping[str, Any],
  dtype: Any,
  *,
  block: Mapping[str, Any] | None = None,
  rotary: Mapping[str, Any] | None = None,
  windows: Mapping[str, Any] | None = None,
  **settings: Any,
) -> decoders.TextDecoder:
  """The decoder that a config describes.

  Args:
    config: the fields of `DEFAULTS`.
    section: the same part of config.json itself, for its rotary positions.
    dtype: type of the computation.
    block: further settings of its blocks.
    rotary: settings of the blocks for rotary positions; None for those of
      `section`.
    windows: which layers have a window, as of `find_windows`; None refuses
      them.
    **settings: further settings of the decoder.

  Raises:
    ConfigError: for an unknown activation or unknown rotary positions, or for
      sliding windows without `windows`.
  """
  if windows is None:
    windows = _refuse_windows(config, section)
  return decoders.TextDecoder(
    vocab_size=config['vocab_size'],
    width=config['hidden_size'],
    depth=config['num_hidden_layers'],
    num_heads=config['num_attention_heads'],
    mlp_dim=config['intermediate_size'],
    max_length=config['max_position_embeddings'],
    cross_attention=False,
    positions='none',
    tied=config['tie_word_embeddings'],
    **windows,
    block={
      'num_kv_heads': config['num_key_value_heads'],
      'head_dim': config['head_dim'],
      'norm': 'rmsnorm',
      'norm_epsilon': config['rms_norm_eps'],
      'activation': configs.activation(config['hidden_act']),
      'gated': True,
      'attention_bias': False,
      'mlp_bias': False,
      **(configs.rotary_settings(section) if rotary is None else rotary),
      **(block or {}),
    },
    dtype=dtype,
    **settings,
  )


def rules(
  *,
  tied: bool,
  attention_bias: bool | Sequence[str] = False,
  mlp_bias: bool = False,
  qk_norm: bool = False,
  sandwich: bool = False,
) -> list[keys.Rule]:
  """The key table of the decoder.

  Args:
    tied: whether the output matrix is the embedding.
    attention_bias: layers with a bias, as in `mmjax.nn.Attention.bias`.
    mlp_bias: whether the MLP has biases.
    qk_norm: whether queries and keys are normalised.
    sandwich: whether what a branch adds is normalised too.
  """
  ours, theirs = 'blocks/layers', f'model.layers.{keys.LAYER}'
  out = [
    keys.Rule('words/table/embedding', 'model.embed_tokens.weight'),
    *keys.norm(
      f'{ours}/attention_norm', f'{theirs}.input_layernorm', bias=False
    ),
    *keys.attention(
      f'{ours}/attention',
      f'{theirs}.self_attn',
      _ATTENTION,
      bias=attention_bias,
    ),
    *keys.norm('last_norm', 'model.norm', bias=False),
  ]
  norms = {'mlp_norm': 'post_attention_layernorm'}
  if sandwich:
    norms = {
      'attention_last_norm': 'post_attention_layernorm',
      'mlp_norm': 'pre_feedforward_layernorm',
      'mlp_last_norm': 'post_feedforward_layernorm',
    }
  for name, their in norms.items():
    out += keys.norm(f'{ours}/{name}', f'{theirs}.{their}', bias=False)
  for name in ('gate', 'up', 'down'):
    out += keys.dense(
      f'{ours}/mlp/{name}', f'{theirs}.mlp.{name}_proj', bias=mlp_bias
    )
  if qk_norm:
    for name in ('query', 'key'):
      out += keys.norm(
        f'{ours}/attention/{name}_norm',
        f'{theirs}.self_attn.{name[0]}_norm',
        bias=False,
      )
  if not tied:
    out += keys.dense('head', 'lm_head', bias=False)
  return out


def put_under_model(table: Sequence[keys.Rule]) -> list[keys.Rule]:
  """The key table of a decoder that is a model's `language_model`.

  Args:
    table: table of the decoder alone, as `rules` returns it.
  """
  return [
    dataclasses.replace(
      rule, theirs=rule.theirs.replace('model.', 'model.language_model.', 1)
    )
    for rule in table
  ]


def read_text_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """The `text_config` of a config.json, tied if either says so."""
  text = dict(config.get('text_config') or {})
  if config.get('tie_word_embeddings'):
    text['tie_word_embeddings'] = True
  return text


def find_windows(
  config: Mapping[str, Any],
  section: Mapping[str, Any],
  kinds: Sequence[str] | None = None,
) -> dict[str, Any]:
  """Settings of a decoder whose layers may have sliding windows.

  Args:
    config: the fields of `DEFAULTS`.
    section: the same part of config.json itself: its `layer_types` and
      `sliding_window`.
    kinds: the kind of each layer where the file has no `layer_types`; None for
      windows in none.

  Raises:
    ConfigError: for an unknown kind, another number of kinds than layers, or a
      window that is not an integer above 0.
  """
  depth = config['num_hidden_layers']
  kinds = section.get('layer_types') or kinds or [FULL] * depth
  if not isinstance(kinds, list | tuple) or len(kinds) != depth:
    raise ConfigError(
      f'config.json: layer_types is {kinds!r}, but num_hidden_layers is '
      f'{depth}; list one kind for each layer'
    )
  unknown = sorted({str(kind) for kind in kinds} - {FULL, SLIDING})
  if unknown:
    raise ConfigError(
      f'config.json: layer_types has {", ".join(unknown)}; mmjax knows '
      f'{FULL} and {SLIDING}'
    )
  local = tuple(i for i, kind in enumerate(kinds) if kind == SLIDING)
  window = section.get('sliding_window', 4096)
  if not local or window is None:
    return {}
  if type(window) is not int or window < 1:
    raise ConfigError(
      f'config.json: sliding_window is {window!r}; mmjax reads an integer '
      'above 0 here'
    )
  if window >= config['max_position_embeddings']:
    return {}  # No text exceeds it, and it would keep fast kernels away.
  return {'local_layers': local, 'window': window}


def _refuse_windows(
  config: Mapping[str, Any], section: Mapping[str, Any]
) -> dict[str, Any]:
  depth = config['num_hidden_layers']
  kinds = section.get('layer_types')
  if kinds is None and section.get('use_sliding_window'):
    first = section.get('max_window_layers', 28)
    kinds = [SLIDING] * max(0, depth - first)
  windows = sorted(set(kinds or ()) - {FULL})
  if windows and section.get('sliding_window', 4096) is not None:
    raise ConfigError(
      f'config.json: its layers have {windows}; of this family mmjax reads '
      'only models whose tokens attend to all before them'
    )
  return {}
