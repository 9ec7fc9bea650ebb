"""The thinker of Qwen2.5-Omni (Xu et al. 2025), as Hugging Face publishes it.

It reads texts, images, sounds and videos, and writes texts. The talker, which
speaks them, is not read.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

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
  patches,
  qwen2_5_vl,
  qwen_vl,
  sections,
  whisper,
)
from mmjax.types import Batch

# What else is in the folder of the whole model.
SKIP = (*llamas.SKIP, r'talker\..*', r'token2wav\..*')
# Vectors that nothing reads.
KEPT = (r'audio_tower\.audio_bos_eos_token\.weight',)
ALIASES = (
  (r'thinker\.', ''),
  (r'model\.audio_tower\.', 'audio_tower.'),
  *qwen_vl.ALIASES,
)

_IDS = {
  'image_token_index': 151655,
  'video_token_index': 151656,
  'audio_token_index': 151646,
}
_STARTS = {'vision_start_token_id': 151652, 'audio_start_token_id': 151647}
_BOTH = {**_IDS, 'position_id_per_seconds': 25, 'tie_word_embeddings': False}
_TEXT = {
  **{k: v for k, v in llamas.DEFAULTS.items() if k != 'tie_word_embeddings'},
  'vocab_size': 152064,
  'hidden_size': 3584,
  'intermediate_size': 18944,
  'num_hidden_layers': 28,
  'num_attention_heads': 28,
  'num_key_value_heads': 4,
  'max_position_embeddings': 32768,
}
_AUDIO = {
  **whisper.AUDIO,
  'num_mel_bins': 128,
  'd_model': 1280,
  'encoder_layers': 32,
  'encoder_attention_heads': 20,
  'encoder_ffn_dim': 5120,
  'n_window': 100,
  'output_dim': 3584,
}
_VISION = {
  k: v for k, v in qwen2_5_vl.VISION.items() if k != 'tokens_per_second'
}
SECTIONS = {
  '': sections.Section(
    read=(*_BOTH, *_STARTS),
    irrelevant=(
      'audio_end_token_id',
      'ignore_index',
      # Of the sounds of videos, which are not read.
      'seconds_per_chunk',
      'user_token_id',
      'vision_end_token_id',
      'vision_token_id',
    ),
    aliases={
      'audio_token_id': 'audio_token_index',
      'image_token_id': 'image_token_index',
      'video_token_id': 'video_token_index',
    },
  ),
  'text_config': sections.Section(
    read=(*_TEXT, *sections.ROTARY, *llamas.WINDOWS)
  ),
  'vision_config': qwen_vl.VISION_SECTION.join(
    sections.Section(
      read=_VISION, irrelevant=('embed_dim', 'tokens_per_second')
    )
  ),
  'audio_config': sections.Section(
    read=_AUDIO,
    only={'scale_embedding': False},
    irrelevant=('encoder_layerdrop',),
    aliases={
      'hidden_size': 'd_model',
      'intermediate_size': 'encoder_ffn_dim',
      'num_attention_heads': 'encoder_attention_heads',
      'num_hidden_layers': 'encoder_layers',
    },
  ),
}
# Tokens of the encoder of sounds that become one.
_MERGED = 2
# Of a frame, which its processor sets, whatever the folder says.
_PIXELS = {'min_pixels': 128 * 28 * 28, 'max_pixels': 768 * 28 * 28}


@dataclasses.dataclass(frozen=True)
class _Sound:
  """A sound among images and videos."""

  source: Any


class Model(qwen2_5_vl.Model, listeners.PublishedListener):
  """Qwen2.5-Omni; it reads images, videos and sounds in one prompt.

  `<|vision_bos|><|IMAGE|><|vision_eos|>` stands for an image, the same with
  `<|VIDEO|>` for a video, and `<|audio_bos|><|AUDIO|><|audio_eos|>` for a
  sound; what each of a prompt's media is follows from its placeholder. Images
  and videos are those of `QwenVL`, sounds those of `PublishedListener`. The
  sound of a video is not read; one beside it stands in a place of its own.
  """

  media: ClassVar[str] = 'images, videos and sounds'
  assumes_fps: ClassVar[bool] = True

  @classmethod
  def read_tokens_per_second(cls, config: Mapping[str, Any]) -> float:
    return float(_read_both(config)['position_id_per_seconds'])

  @classmethod
  def make_video_preprocessor(
    cls, files: Mapping[str, bytes]
  ) -> patches.VideoPreprocessor:
    made = super().make_video_preprocessor(files)
    return dataclasses.replace(made, **_PIXELS)

  def prepare_batch(
    self, images: Any, texts: str | Sequence[str], *, is_chat: bool = False
  ) -> tuple[Batch, list[list[int]]]:
    """Makes the input of the module, as `PublishedInterleaved` does."""
    texts = base.as_list(texts)
    rows = [base.as_list(entry) for entry in base.as_list(images)]
    if len(rows) == len(texts):
      rows = [
        self._mark_sounds(row, text)
        for row, text in zip(rows, texts, strict=True)
      ]
    return super().prepare_batch(rows, texts, is_chat=is_chat)

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Cuts patches and computes spectrograms."""
    seen, seen_grids = super().prepare_images(
      [[item for item in row if not isinstance(item, _Sound)] for row in rows]
    )
    heard, heard_grids = self.prepare_sounds(
      [
        [item.source for item in row if isinstance(item, _Sound)]
        for row in rows
      ]
    )
    grids = []
    for row, *both in zip(rows, seen_grids, heard_grids, strict=True):
      left = [iter(own) for own in both]
      grids.append([next(left[isinstance(item, _Sound)]) for item in row])
    return {**seen, **heard}, grids

  def find_number_of_frames(self, longest: int) -> int:
    """Whole chunks of the encoder, so that few lengths are compiled."""
    chunk = self.module.audio.chunk
    return min(-(-longest // chunk) * chunk, super().find_number_of_frames(0))

  def _mark_sounds(self, row: Sequence[Any], text: str) -> list[Any]:
    """Wraps the sounds among the media of a text.

    Raises:
      ConfigError: if their number is not that of the placeholders, or the text
        has a video with its own sound.
    """
    starts = configs.section(self.config, '', _STARTS).values()
    inner = [self.tokenizer.id_to_token(own) for own in starts]
    if all(inner) and ''.join(inner) in text:
      raise ConfigError(
        f'a text has {"".join(inner)}, as where a video is read with its own '
        'sound (load_audio_from_video, use_audio_in_video), which mmjax does '
        'not do; write video and sound in places of their own'
      )
    ids = self.module.placeholders
    known = [self.tokenizer.id_to_token(own) for own in ids]
    marks = re.findall('|'.join(map(re.escape, filter(None, known))), text)
    if len(marks) != len(row):
      raise ConfigError(
        f'a text has {len(marks)} of the placeholders {", ".join(marks)}, but '
        f'its {self.media} need {len(row)}; it is {text!r}'
      )
    return [
      _Sound(item) if mark == known[-1] else item
      for item, mark in zip(row, marks, strict=True)
    ]


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedAudioLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: if the tokens of images or of sounds don't have the width of
      word vectors.
  """
  configs.architecture(config, 'Qwen2_5OmniThinkerForConditionalGeneration')
  both, text, vision, audio = _read(config)
  for name, value in (
    ('vision_config.out_hidden_size', vision['out_hidden_size']),
    ('audio_config.output_dim', audio['output_dim']),
  ):
    if value != text['hidden_size']:
      raise ConfigError(
        f'config.json: {name} is {value}, but text_config.hidden_size is '
        f'{text["hidden_size"]}; take the published file'
      )
  return models.InterleavedAudioLanguage(
    audio=whisper.audio_encoder(
      audio,
      dtype,
      chunk=whisper.STRIDE * audio['n_window'],
      positions='sincos',
      merged=_MERGED,
    ),
    projector=mnn.Linear(audio['output_dim'], dtype=dtype),
    vision=qwen2_5_vl.encoder(vision, dtype),
    decoder=qwen_vl.decoder(
      {**text, 'tie_word_embeddings': both['tie_word_embeddings']},
      config.get('text_config') or {},
      dtype,
    ),
    placeholders=tuple(both[name] for name in _IDS),
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, _, vision, audio = _read(config)
  frames = whisper.STRIDE * audio['n_window']
  shape = (1, 1, frames, audio['num_mel_bins'])
  return {
    **qwen_vl.inputs(vision),
    'spectrogram': jax.ShapeDtypeStruct(shape, jnp.float32),
    'spectrogram_mask': jax.ShapeDtypeStruct(shape[:3], bool),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  both, _, vision, _ = _read(config)
  heard = whisper.encoder_rules('ln_post', has_positions=False)
  return [
    *keys.add_prefixes(heard, 'audio/', 'audio_tower.'),
    *keys.dense('projector/dense', 'audio_tower.proj'),
    *qwen_vl.rules(
      vision,
      qwen2_5_vl.MLP,
      tied=both['tie_word_embeddings'],
      norm_bias=False,
      attention={'query': 'q', 'key': 'k', 'value': 'v'},
    ),
  ]


def _read_both(config: Mapping[str, Any]) -> dict[str, Any]:
  return configs.section(config, '', _BOTH)


def _read(config: Mapping[str, Any]) -> tuple[dict, dict, dict, dict]:
  """The fields of the whole, of the text, of images and of sounds."""
  return (
    _read_both(config),
    configs.section(config, 'text_config', _TEXT),
    qwen_vl.vision_section(config, _VISION),
    configs.section(config, 'audio_config', _AUDIO),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  kept=KEPT,
  aliases=ALIASES,
  ties=qwen_vl.TIES,
)
