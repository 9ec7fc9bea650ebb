"""Qwen2-Audio (Chu et al. 2024), as Hugging Face publishes it."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

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
  interleaved,
  keys,
  llamas,
  preprocess_audio,
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


class Model(interleaved.PublishedInterleaved):
  """Qwen2-Audio; `<|audio_bos|><|AUDIO|><|audio_eos|>` stands for a sound.

  Sounds are paths of .wav files, or floats [N] in -1..1 at the rate of
  `preprocessor.sample_rate`, of at most 30 seconds.
  """

  media: ClassVar[str] = 'sounds'

  @functools.cached_property
  def preprocessor(self) -> preprocess_audio.AudioPreprocessor:
    """The preprocessor that turns sounds into spectrograms."""
    return preprocess_audio.AudioPreprocessor.from_config(
      *self.find_preprocessing(processors.SOUNDS)
    )

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Computes spectrograms; returns keys of the batch, and grids."""
    most = max(map(len, rows))
    if not most:
      return {}, [[] for _ in rows]
    prepares = self.preprocessor
    size = prepares.seconds * prepares.sample_rate
    samples = np.zeros((len(rows), most, size), np.float32)
    frames = np.zeros((len(rows), most), np.int32)
    for i, row in enumerate(rows):
      for j, sound in enumerate(row):
        read = prepares.read_samples(sound)
        self._check_length(len(read))
        samples[i, j, : len(read)] = read
        frames[i, j] = -(-len(read) // prepares.hop)
    spectrogram = np.asarray(prepares.spectrogram(samples.reshape(-1, size)))
    shape = (len(rows), most, *spectrogram.shape[1:])
    grids = [
      [packing.Grid(1, 1, _count_tokens(int(n))) for n in frames[i, : len(row)]]
      for i, row in enumerate(rows)
    ]
    return self.pack_spectrograms(spectrogram.reshape(shape), frames), grids

  def pack_spectrograms(self, spectrogram: Any, frames: np.ndarray) -> Batch:
    """Keys of the batch.

    Args:
      spectrogram: [B, n, F, M], n sounds a text.
      frames: [B, n], how many of the F frames are of the sound; 0 for none.

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
    mask = np.arange(wanted) < frames[:, :, None]
    return {
      'spectrogram': jnp.asarray(spectrogram),
      'spectrogram_mask': jnp.asarray(mask),
    }

  def _check_length(self, number: int) -> None:
    prepares = self.preprocessor
    seconds = number / prepares.sample_rate
    if seconds > prepares.seconds:
      raise ConfigError(
        f'a sound of {seconds:.1f} seconds is longer than the '
        f'{prepares.seconds} that the model reads; cut it'
      )
    if not _count_tokens(-(-number // prepares.hop)):
      raise ConfigError(
        f'a sound of {number} samples is too short for a token; pad it with '
        'zeros'
      )


def _count_tokens(frames: int) -> int:
  """Number of tokens of so many frames."""
  return -(-frames // whisper.STRIDE) // _MERGED


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
