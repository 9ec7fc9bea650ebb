"""Whisper (Radford et al. 2022), as Hugging Face publishes it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import decoders, encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  forms,
  generation_keys,
  generation_settings,
  keys,
  names,
  sections,
  speech_recognizers,
)
from mmjax.types import Batch

PREFIXES = ('model.',)
TIES = tuple(
  names.head_tie(f'{prefix}decoder.embed_tokens.weight', 'proj_out.weight')
  for prefix in ('model.', '')
)

AUDIO = {
  'num_mel_bins': 80,
  'd_model': 384,
  'encoder_layers': 4,
  'encoder_attention_heads': 6,
  'encoder_ffn_dim': 1536,
  'activation_function': 'gelu',
  'max_source_positions': 1500,
}
_DEFAULTS = {
  **AUDIO,
  'vocab_size': 51865,
  'decoder_layers': 4,
  'decoder_attention_heads': 6,
  'decoder_ffn_dim': 1536,
  'max_target_positions': 448,
  'tie_word_embeddings': True,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, *generation_keys.SPEECH),
    only={'scale_embedding': False},
    # Keys about training, and about classifying sounds.
    irrelevant=(
      'apply_spec_augment',
      'classifier_proj_size',
      'decoder_layerdrop',
      'encoder_layerdrop',
      'mask_feature_length',
      'mask_feature_min_masks',
      'mask_feature_prob',
      'mask_time_length',
      'mask_time_min_masks',
      'mask_time_prob',
      'use_weighted_layer_sum',
    ),
    aliases={
      'hidden_size': 'd_model',
      'num_attention_heads': 'encoder_attention_heads',
      'num_hidden_layers': 'encoder_layers',
      'num_key_value_heads': 'encoder_attention_heads',
    },
  )
}
_PREFIXES = {'WhisperForConditionalGeneration': 'model.', 'WhisperModel': ''}
_ATTENTION = {
  'query': 'q_proj',
  'key': 'k_proj',
  'value': 'v_proj',
  'out': 'out_proj',
}
_BIAS = ('query', 'value', 'out')
# Frames of a token.
STRIDE = 2


class Model(speech_recognizers.PublishedSpeechRecognizer):
  """Whisper, monolingual or multilingual."""

  def default_language(self) -> str | None:
    """Code of the language that the model's folder names; None without one."""
    language = self.generation.get('language')
    if language is not None:
      return language.strip('<|>')
    forced = self._forced_ids()
    return next(
      (code for code, token in self.languages.items() if token in forced), None
    )

  def prompt(
    self, language: str | None = None, task: str | None = None
  ) -> list[int]:
    """Ids of start, language, task and 'no timestamps'.

    A monolingual model has neither language nor task.

    Raises:
      ConfigError: for a language or task that the model doesn't know.
    """
    settings = self.generation
    ids = [self.special_id('decoder_start_token_id')]
    tasks = settings.get('task_to_id') or {}
    if self.languages:
      ids.append(_find_id('language', language, self.languages))
      forced = [name for name in tasks if tasks[name] in self._forced_ids()]
      task = task or settings.get('task') or next(iter(forced), None)
      task = task or speech_recognizers.TASK
      ids.append(_find_id('task', task, tasks))
    elif language is not None or task is not None:
      raise ConfigError(
        f'language {language!r} and task {task!r} are for models of many '
        f'languages; {generation_settings.FILE} names none, so leave them '
        'out'
      )
    else:
      ids += self._forced_ids()
    no_timestamps = settings.get('no_timestamps_token_id')
    if no_timestamps is not None and ids[-1] != no_timestamps:
      ids.append(no_timestamps)
    return ids

  def text(self, ids: Sequence[int]) -> str:
    """Decodes ids without special tokens and timestamps, and strips spaces."""
    no_timestamps = self.generation.get('no_timestamps_token_id')
    if no_timestamps is None:
      no_timestamps = self.tokenizer.token_to_id('<|notimestamps|>')
    if no_timestamps is not None:
      ids = [token for token in ids if token <= no_timestamps]
    return super().text(ids)

  def _forced_ids(self) -> list[int]:
    """Ids that older folders prescribe after the start; others are chosen."""
    forced = self.generation.get('forced_decoder_ids')
    if forced is None:
      forced = self.config.get('forced_decoder_ids') or ()
    return [token for _, token in sorted(forced) if token is not None]


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.SpeechRecognizer:
  """The model that a config.json describes."""
  values = _values(config)
  return models.SpeechRecognizer(
    audio=audio_encoder(values, dtype),
    decoder=decoders.TextDecoder(
      vocab_size=values['vocab_size'],
      width=values['d_model'],
      depth=values['decoder_layers'],
      num_heads=values['decoder_attention_heads'],
      mlp_dim=values['decoder_ffn_dim'],
      max_length=values['max_target_positions'],
      tied=values['tie_word_embeddings'],
      block=_find_block(values),
      dtype=dtype,
    ),
  )


def audio_encoder(
  values: Mapping[str, Any], dtype: Any, **settings: Any
) -> encoders.AudioTransformer:
  """The encoder; `values` has the fields of `AUDIO`."""
  return encoders.AudioTransformer(
    width=values['d_model'],
    depth=values['encoder_layers'],
    num_heads=values['encoder_attention_heads'],
    mlp_dim=values['encoder_ffn_dim'],
    max_length=values['max_source_positions'],
    strides=(1, STRIDE),
    block=_find_block(values),
    dtype=dtype,
    **{'positions': 'fixed', **settings},
  )


def _find_block(values: Mapping[str, Any]) -> dict[str, Any]:
  return {
    'activation': configs.activation(
      values['activation_function'], 'activation_function'
    ),
    'norm_epsilon': 1e-5,
    'attention_bias': _BIAS,
  }


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  values = _values(config)
  frames = STRIDE * values['max_source_positions']
  shape = (1, frames, values['num_mel_bins'])
  return {
    'spectrogram': jax.ShapeDtypeStruct(shape, jnp.float32),
    'text': jax.ShapeDtypeStruct((1, 2), jnp.int32),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = _values(config)
  decoder = [
    keys.Rule('words/table/embedding', 'embed_tokens.weight'),
    keys.Rule('words/position_table', 'embed_positions.weight'),
    *_blocks({'attention': 'self_attn', 'cross_attention': 'encoder_attn'}),
    *keys.norm('last_norm', 'layer_norm'),
  ]
  out = [
    *keys.add_prefixes(encoder_rules(), 'audio/', 'encoder.'),
    *keys.add_prefixes(decoder, 'decoder/', 'decoder.'),
  ]
  out = keys.add_prefixes(out, '', _prefix(config))
  if not values['tie_word_embeddings']:
    out += keys.dense('decoder/head', 'proj_out', bias=False)
  return out


def encoder_rules(
  norm: str = 'layer_norm', *, has_positions: bool = True
) -> list[keys.Rule]:
  """The key table of the encoder.

  Args:
    norm: their name of its last norm.
    has_positions: whether its positions are a tensor.
  """
  out = []
  for name in ('conv1', 'conv2'):
    ours = f'frames/{name}'
    out += [
      keys.Rule(f'{ours}/kernel', f'{name}.weight', forms.Convolution()),
      keys.Rule(f'{ours}/bias', f'{name}.bias'),
    ]
  if has_positions:
    out.append(keys.Rule('frames/position_table', 'embed_positions.weight'))
  return [
    *out,
    *_blocks({'attention': 'self_attn'}),
    *keys.norm('last_norm', norm),
  ]


def _blocks(attentions: Mapping[str, str]) -> list[keys.Rule]:
  ours, theirs = 'blocks/layers', f'layers.{keys.LAYER}'
  out = [
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.final_layer_norm'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.fc2'),
  ]
  for name, their in attentions.items():
    out += [
      *keys.norm(f'{ours}/{name}_norm', f'{theirs}.{their}_layer_norm'),
      *keys.attention(
        f'{ours}/{name}', f'{theirs}.{their}', _ATTENTION, bias=_BIAS
      ),
    ]
  return out


def _find_id(field: str, name: str | None, ids: Mapping[str, int]) -> int:
  if name not in ids:
    raise ConfigError(
      f'{field} {name!r} is unknown to the model; use one of {sorted(ids)}'
    )
  return ids[name]


def _prefix(config: Mapping[str, Any]) -> str:
  return _PREFIXES[configs.architecture(config, *_PREFIXES)]


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
  values = configs.section(config, '', _DEFAULTS)
  _prefix(config)
  return values


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  prefixes=PREFIXES,
  ties=TIES,
)
