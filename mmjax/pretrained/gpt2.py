"""GPT-2 (Radford et al. 2019), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import decoders, models
from mmjax.pretrained import (
  base,
  configs,
  forms,
  keys,
  language_models,
  names,
  sections,
)
from mmjax.types import Batch

# Buffers with causal masks.
SKIP = (r'transformer\.h\.\d+\.attn\.(masked_)?bias',)
# Prefix that OpenAI's checkpoints lack.
PREFIXES = ('transformer.',)
TIES = (names.head_tie('transformer.wte.weight'),)


_DEFAULTS = {
  'vocab_size': 50257,
  'n_positions': 1024,
  'n_embd': 768,
  'n_layer': 12,
  'n_head': 12,
  'n_inner': None,
  'activation_function': 'gelu_new',
  'layer_norm_epsilon': 1e-5,
  'tie_word_embeddings': True,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    only={
      'scale_attn_weights': True,
      'scale_attn_by_inverse_layer_idx': False,
      'reorder_and_upcast_attn': False,
    },
    irrelevant=(
      'attn_pdrop',
      'embd_pdrop',
      'n_ctx',
      'n_special',
      'predict_special_tokens',
      'resid_pdrop',
      'summary_activation',
      'summary_first_dropout',
      'summary_proj_to_labels',
      'summary_type',
      'summary_use_proj',
    ),
    aliases={
      'hidden_size': 'n_embd',
      'max_position_embeddings': 'n_positions',
      'num_attention_heads': 'n_head',
      'num_hidden_layers': 'n_layer',
    },
  )
}
_BLOCK = f'transformer.h.{keys.LAYER}'


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.LanguageModel:
  """The model that a config.json describes."""
  config = _read(config)
  return models.LanguageModel(
    decoders.TextDecoder(
      vocab_size=config['vocab_size'],
      width=config['n_embd'],
      depth=config['n_layer'],
      num_heads=config['n_head'],
      mlp_dim=config['n_inner'] or 4 * config['n_embd'],
      max_length=config['n_positions'],
      cross_attention=False,
      tied=config['tie_word_embeddings'],
      block={
        'activation': configs.activation(
          config['activation_function'], 'activation_function'
        ),
        'norm_epsilon': config['layer_norm_epsilon'],
      },
      dtype=dtype,
    )
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return {'text': jax.ShapeDtypeStruct((1, 2), jnp.int32)}


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  ours = 'decoder/blocks/layers'
  tied = _read(config)['tie_word_embeddings']
  return [
    keys.Rule('decoder/words/table/embedding', 'transformer.wte.weight'),
    keys.Rule('decoder/words/position_table', 'transformer.wpe.weight'),
    *keys.norm(f'{ours}/attention_norm', f'{_BLOCK}.ln_1'),
    *keys.packed_dense(
      f'{ours}/attention',
      f'{_BLOCK}.attn.c_attn',
      ('query', 'key', 'value'),
      transposed=False,
    ),
    *_dense(f'{ours}/attention/out', f'{_BLOCK}.attn.c_proj', inputs=2),
    *keys.norm(f'{ours}/mlp_norm', f'{_BLOCK}.ln_2'),
    *_dense(f'{ours}/mlp/up', f'{_BLOCK}.mlp.c_fc'),
    *_dense(f'{ours}/mlp/down', f'{_BLOCK}.mlp.c_proj'),
    *keys.norm('decoder/last_norm', 'transformer.ln_f'),
    *([] if tied else keys.dense('decoder/head', 'lm_head', bias=False)),
  ]


def _dense(ours: str, theirs: str, inputs: int = 1) -> list[keys.Rule]:
  weight = forms.Linear(inputs, transposed=False)
  return [
    keys.Rule(f'{ours}/kernel', f'{theirs}.weight', weight),
    keys.Rule(f'{ours}/bias', f'{theirs}.bias', forms.Same(flat=True)),
  ]


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
  configs.architecture(config, 'GPT2LMHeadModel')
  return configs.section(config, '', _DEFAULTS)


FAMILY = base.Family(
  model_class=language_models.PublishedLanguageModel,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  prefixes=PREFIXES,
  ties=TIES,
)
