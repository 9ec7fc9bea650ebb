"""Qwen2-Audio (Chu et al. 2024), as Hugging Face publishes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import models
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import (
  base,
  configs,
  keys,
  listeners,
  llamas,
  processors,
  qwen2,
  sections,
  vision_language,
  whisper,
)
from mmjax.types import Batch

SKIP = llamas.SKIP
ALIASES = (
  (r'model\.(?=audio_tower|multi_modal_projector)', ''),
  (r'model\.language_model\.', 'language_model.model.'),
  (r'lm_head\.', 'language_model.lm_head.'),
)

_DEFAULTS = {'audio_token_index': 151646}
_AUDIO = {
  **whisper.AUDIO,
  'num_mel_bins': 128,
  'd_model': 1280,
  'encoder_layers': 32,
  'encoder_attention_heads': 20,
  'encoder_ffn_dim': 5120,
}
SECTIONS = {
  '': sections.Section(
    read=(*_DEFAULTS, 'tie_word_embeddings'),
    irrelevant=('ignore_index', 'vocab_size'),
    aliases={'audio_token_id': 'audio_token_index'},
  ),
  'audio_config': sections.Section(
    read=_AUDIO,
    only={'model_type': 'qwen2_audio_encoder', 'scale_embedding': False},
    irrelevant=('encoder_layerdrop',),
    aliases={
      'hidden_size': 'd_model',
      'intermediate_size': 'encoder_ffn_dim',
      'num_attention_heads': 'encoder_attention_heads',
      'num_hidden_layers': 'encoder_layers',
    },
  ),
  'text_config': qwen2.SECTIONS[''].join(
    sections.Section(only={'model_type': 'qwen2'})
  ),
}
# Tokens of the encoder that become one.
_MERGED = 2


class Model(listeners.PublishedListener):
  """Qwen2-Audio; `<|audio_bos|><|AUDIO|><|audio_eos|>` stands for a sound.

  Sounds have at most 30 seconds.
  """

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Computes spectrograms; returns keys of the batch, and grids."""
    return self.prepare_sounds(rows)

  def pack_spectrograms(self, spectrogram: Any, frames: np.ndarray) -> Batch:
    """Keys of the batch, as of `PublishedListener`.

    Raises:
      ConfigError: if F is not that of the model.
    """
    wanted = whisper.STRIDE * self.module.audio.max_length
    if spectrogram.shape[2] != wanted:
      raise ConfigError(
        f'{self.find_preprocessing(processors.SOUNDS)[1]} makes spectrograms '
        f'of {spectrogram.shape[2]} frames, but by config.json the model reads '
        f'{wanted} (audio_config.max_source_positions); take both files from '
        'one model'
      )
    return super().pack_spectrograms(spectrogram, frames)


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedAudioLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'Qwen2AudioForConditionalGeneration')
  both, audio, text = _sections(config)
  return models.InterleavedAudioLanguage(
    audio=whisper.audio_encoder(
      audio, dtype, merged=_MERGED, convolves_padding=True
    ),
    projector=mnn.Linear(qwen2.read(text)['hidden_size'], dtype=dtype),
    decoder=qwen2.decoder(text, dtype),
    placeholders=(both['audio_token_index'],),
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, audio, _ = _sections(config)
  frames = whisper.STRIDE * audio['max_source_positions']
  shape = (1, 1, frames, audio['num_mel_bins'])
  return {
    'spectrogram': jax.ShapeDtypeStruct(shape, jnp.float32),
    'spectrogram_mask': jax.ShapeDtypeStruct(shape[:3], bool),
    'text': jax.ShapeDtypeStruct((1, 2), jnp.int32),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, _, text = _sections(config)
  return [
    *keys.add_prefixes(whisper.encoder_rules(), 'audio/', 'audio_tower.'),
    *keys.dense('projector/dense', 'multi_modal_projector.linear'),
    *keys.add_prefixes(
      qwen2.decoder_rules(text), 'decoder/', 'language_model.'
    ),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  return (
    configs.section(config, '', _DEFAULTS),
    configs.section(config, 'audio_config', _AUDIO),
    llamas.read_text_config(config),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  aliases=ALIASES,
  ties=vision_language.TIES,
)
