"""BERT (Devlin et al. 2019) and sentence encoders that are one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  keys,
  names,
  sections,
  sentences,
  text_encoders,
)
from mmjax.types import Array

# Buffers that older files hold.
SKIP = (r'(bert\.)?embeddings\.(position_ids|token_type_ids)',)
_NEXT = r'cls\.seq_relationship\.(weight|bias)'
UNUSED = {
  'BertModel': (
    _NEXT,
    r'cls\.predictions\.transform\.(dense|LayerNorm)\.(weight|bias)',
    r'cls\.predictions\.(decoder\.)?(weight|bias)',
  ),
  'BertForMaskedLM': (_NEXT, r'bert\.pooler\.dense\.(weight|bias)'),
}

PREFIXES = ('bert.',)
COMPLETES = ('add_pooling_layer',)
_HEAD = 'cls.predictions'
TIES = (
  names.Tie(
    'bert.embeddings.word_embeddings.weight', f'{_HEAD}.decoder.weight'
  ),
  names.Tie(f'{_HEAD}.bias', f'{_HEAD}.decoder.bias'),
)
# What the oldest files call the scale and the shift of a norm.
ALIASES = (
  (r'(.*)\.LayerNorm\.gamma', r'\1.LayerNorm.weight'),
  (r'(.*)\.LayerNorm\.beta', r'\1.LayerNorm.bias'),
)

_DEFAULTS = {
  'vocab_size': 30522,
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'max_position_embeddings': 512,
  'type_vocab_size': 2,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'add_pooling_layer': True,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    only={'tie_word_embeddings': True},
    # Settings of the original code, which transformers does not read.
    irrelevant=(
      'directionality',
      'pooler_fc_size',
      'pooler_num_attention_heads',
      'pooler_num_fc_layers',
      'pooler_size_per_head',
      'pooler_type',
    ),
  )
}
_ATTENTION = {
  'query': 'self.query',
  'key': 'self.key',
  'value': 'self.value',
  'out': 'output.dense',
}


class Model(text_encoders.PublishedTextEncoder):
  """BERT; the pooled vector is the pooler's output for the first token."""

  def encode_text(
    self,
    texts: str | Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
  ) -> Array:
    """Encodes texts to vectors [B, D]; see `PublishedTextEncoder`.

    Raises:
      ConfigError: also if the vectors are the pooler's, and the checkpoint has
        no pooler.
    """
    is_sentence_encoder = sentences.is_encoder(self.files)
    if (
      not is_sentence_encoder and self.config.get('add_pooling_layer') is False
    ):
      raise ConfigError(
        'the checkpoint has no pooler.dense, which makes the vector of a text; '
        'use encode_tokens, or put the modules.json of the sentence encoder '
        'and the settings of its pooling into the folder'
      )
    return super().encode_text(texts, prompt=prompt, prompt_name=prompt_name)


def complete(
  config: Mapping[str, Any], names: Collection[str]
) -> Mapping[str, Any]:
  """Adds `add_pooling_layer=False` where the tensors hold no pooler."""
  poolers = {'pooler.dense.weight', 'pooler.dense.bias'}
  if _is_masked_language_model(config) or not poolers.isdisjoint(names):
    return config
  return {**config, 'add_pooling_layer': False}


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
  """A `Transformer`, or a `MaskedLanguageModel` if it has that head."""
  values = _values(config)
  is_masked_language_model = _is_masked_language_model(config)
  activation = configs.activation(values['hidden_act'])
  text = encoders.Transformer(
    vocab_size=values['vocab_size'],
    width=values['hidden_size'],
    depth=values['num_hidden_layers'],
    num_heads=values['num_attention_heads'],
    mlp_dim=values['intermediate_size'],
    max_length=values['max_position_embeddings'],
    num_segments=values['type_vocab_size'],
    pooling='first',
    pool_activation='tanh'
    if _has_pooler(values, is_masked_language_model)
    else None,
    embed_norm=True,
    final_norm=False,
    block={
      'norm_position': 'post',
      'norm_epsilon': values['layer_norm_eps'],
      'activation': activation,
    },
    dtype=dtype,
  )
  if not is_masked_language_model:
    return text
  return models.MaskedLanguageModel(
    text,
    activation=activation,
    norm_epsilon=values['layer_norm_eps'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
  """Shape of one text."""
  del config
  return jax.ShapeDtypeStruct((1, 4), jnp.int32)


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  if not _is_masked_language_model(config):
    pooler = keys.dense('pooler', 'pooler.dense')
    return [*encoder_rules(), *(pooler if _has_pooler(_values(config)) else [])]
  return [
    *keys.add_prefixes(encoder_rules(), 'text/', 'bert.'),
    *keys.dense('transform', f'{_HEAD}.transform.dense'),
    *keys.norm('transform_norm', f'{_HEAD}.transform.LayerNorm'),
    keys.Rule('bias', f'{_HEAD}.bias'),
  ]


def encoder_rules() -> list[keys.Rule]:
  """The key table of embeddings and blocks."""
  ours, theirs = 'blocks/layers', f'encoder.layer.{keys.LAYER}'
  embeddings = 'embeddings'
  return [
    keys.Rule('words/table/embedding', f'{embeddings}.word_embeddings.weight'),
    keys.Rule(
      'words/position_table', f'{embeddings}.position_embeddings.weight'
    ),
    keys.Rule(
      'segments/embedding', f'{embeddings}.token_type_embeddings.weight'
    ),
    *keys.norm('initial_norm', f'{embeddings}.LayerNorm'),
    *keys.attention(f'{ours}/attention', f'{theirs}.attention', _ATTENTION),
    *keys.norm(
      f'{ours}/attention_norm', f'{theirs}.attention.output.LayerNorm'
    ),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.intermediate.dense'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.output.dense'),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.output.LayerNorm'),
  ]


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
  return configs.section(config, '', _DEFAULTS)


def _is_masked_language_model(config: Mapping[str, Any]) -> bool:
  """Whether the checkpoint has the head of a masked language model."""
  return configs.architecture(config, *UNUSED) == 'BertForMaskedLM'


def _has_pooler(
  values: Mapping[str, Any], is_masked_language_model: bool = False
) -> bool:
  return values['add_pooling_layer'] and not is_masked_language_model


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  skip=SKIP,
  aliases=ALIASES,
  prefixes=PREFIXES,
  ties=TIES,
  completed_fields=COMPLETES,
  complete=complete,
)
