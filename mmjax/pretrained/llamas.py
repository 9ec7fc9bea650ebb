"""Decoders of Llama and of models like it: Qwen, Gemma."""

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
    **settings: further settings of the decoder.

  Raises:
    ConfigError: for an unknown activation or unknown rotary positions, or for
      sliding-window attention.
  """
  _refuse_windows(config, section)
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
) -> list[keys.Rule]:
  """The key table of the decoder.

  Args:
    tied: whether the output matrix is the embedding.
    attention_bias: layers with a bias, as in `mmjax.nn.Attention.bias`.
    mlp_bias: whether the MLP has biases.
    qk_norm: whether queries and keys are normalised.
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
    *keys.norm(
      f'{ours}/mlp_norm', f'{theirs}.post_attention_layernorm', bias=False
    ),
    *keys.norm('last_norm', 'model.norm', bias=False),
  ]
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


def _refuse_windows(
  config: Mapping[str, Any], section: Mapping[str, Any]
) -> None:
  depth = config['num_hidden_layers']
  kinds = section.get('layer_types')
  if kinds is None and section.get('use_sliding_window'):
    first = section.get('max_window_layers', 28)
    kinds = ['sliding_attention'] * max(0, depth - first)
  windows = sorted(set(kinds or ()) - {'full_attention'})
  if windows and section.get('sliding_window', 4096) is not None:
    raise ConfigError(
      f'config.json: its layers have {windows}; mmjax reads only models whose '
      'tokens attend to all before them'
    )
