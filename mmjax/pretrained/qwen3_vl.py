"""Qwen3-VL (Bai et al. 2025), as Hugging Face publishes it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.data import video_files
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import (
  base,
  configs,
  forms,
  interleaved,
  keys,
  llamas,
  patches,
  preprocess,
  qwen_vl,
  sections,
)
from mmjax.types import Batch

_IDS = {'image_token_id': 151655, 'video_token_id': 151656}
_ENDS = {'vision_start_token_id': 151652, 'vision_end_token_id': 151653}
_BOTH = {**_IDS, **_ENDS, 'tie_word_embeddings': False}
_TEXT = {
  **{k: v for k, v in llamas.DEFAULTS.items() if k != 'tie_word_embeddings'},
  'vocab_size': 151936,
  'intermediate_size': 22016,
  'num_key_value_heads': 32,
  'head_dim': 128,
  'max_position_embeddings': 128000,
  'attention_bias': False,
}
_VISION = {
  'depth': 27,
  'hidden_size': 1152,
  'hidden_act': 'gelu_pytorch_tanh',
  'intermediate_size': 4304,
  'num_heads': 16,
  'patch_size': 16,
  'spatial_merge_size': 2,
  'temporal_patch_size': 2,
  'out_hidden_size': 3584,
  'num_position_embeddings': 2304,
  'deepstack_visual_indexes': [8, 16, 24],
}
_ROTARY_PAIRS = (24, 20, 20)
# Tokens of a frame in transformers, unless a file says otherwise.
_FRAME_TOKENS = 768
SECTIONS = {
  '': sections.Section(read=_BOTH),
  'text_config': sections.Section(read=(*_TEXT, *sections.ROTARY)),
  'vision_config': qwen_vl.VISION_SECTION.join(sections.Section(read=_VISION)),
}


class VideoPreprocessor(patches.VideoPreprocessor):
  """Cuts a video, all frames of which share its budget of pixels."""

  scheme: ClassVar[str] = 'whole'

  @classmethod
  def from_config(
    cls,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    file: str = preprocess.FILE,
  ) -> 'VideoPreprocessor':
    """Reads a video_preprocessor_config.json.

    `cap_pixels_per_frame` bounds a frame by `max_video_tokens`, as in
    transformers.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    made = super().from_config(config, defaults, file)
    most = 0
    if config.get('cap_pixels_per_frame'):
      side = made.patch_size * made.merge_size
      most = config.get('max_video_tokens', _FRAME_TOKENS) * side**2
    return dataclasses.replace(made, total_pixels=0, frame_pixels=most)

  def sample(self, outline: video_files.Outline) -> video_files.Sample:
    return video_files.spread_frames(
      outline,
      self.fps,
      self.min_frames,
      self.max_frames,
      self.temporal_patch_size,
    )

  def fit_size(
    self, height: int, width: int, number: int = 1
  ) -> tuple[int, int]:
    return packing.fit_frames(
      height,
      width,
      self.patch_size * self.merge_size,
      number,
      self.temporal_patch_size,
      self.min_pixels,
      self.max_pixels,
      self.frame_pixels,
    )


class Model(qwen_vl.QwenVL):
  """Qwen3-VL, which reads the time of a video's frames as words.

  Each `temporal_patch_size` frames of a video become their mean time, such as
  `<0.3 seconds>`, and an image of their own.

  Attributes:
    frames_per_second: frame rate of the videos.
  """

  frames_per_second: ClassVar[float] = 2.0

  video_class: ClassVar[type] = VideoPreprocessor
  time_text: ClassVar[str] = '<{:.1f} seconds>'

  def prepare_batch(
    self, images: Any, texts: str | Sequence[str], *, is_chat: bool = False
  ) -> tuple[Batch, list[list[int]]]:
    """Makes the input of the module, see `PublishedVisionLanguage`."""
    texts = base.as_list(texts)
    rows = [base.as_list(entry) for entry in base.as_list(images)]
    if len(rows) == len(texts):
      read = [[self._time_frames(image) for image in row] for row in rows]
      texts = [
        self._write_videos(text, [times for _, times in row if times])
        for text, row in zip(texts, read, strict=True)
      ]
      rows = [[image for image, _ in row] for row in read]
    return super().prepare_batch(rows, texts, is_chat=is_chat)

  def split_grid(self, grid: packing.Grid) -> list[packing.Grid]:
    """The grids of a video: one for each step in time."""
    return [dataclasses.replace(grid, times=1)] * grid.times

  def _time_frames(self, image: Any) -> tuple[Any, list[float]]:
    """An image, or the frames of a video with the time of each step."""
    step = self.video_preprocessor.temporal_patch_size
    if isinstance(image, video_files.VideoFile):
      image, sample = self.read_video(image)
      return image, video_files.average_times(sample.times, step)
    if not interleaved.is_video(image):
      return image, []
    times = [at / self.frames_per_second for at in range(len(image))]
    return image, video_files.average_times(times, step)

  def _write_videos(self, text: str, videos: Sequence[Sequence[float]]) -> str:
    """Writes each video as the times and placeholders of its steps."""
    start, pad, end = (
      self._find_token(name)
      for name in (
        'vision_start_token_id',
        'video_token_id',
        'vision_end_token_id',
      )
    )
    number = text.count(pad)
    if number != len(videos):
      raise ConfigError(
        f'a text has {number} placeholders {pad}, but its videos need '
        f'{len(videos)}; it is {text!r}'
      )
    # The steps have their own start and end.
    parts = text.replace(f'{start}{pad}{end}', pad).split(pad)
    out = parts[0]
    for times, part in zip(videos, parts[1:], strict=True):
      for time in times:
        out += f'{self.time_text.format(time)}{start}{pad}{end}'
      out += part
    return out

  def _find_token(self, name: str) -> str:
    value = _read_both(self.config)[name]
    token = self.tokenizer.id_to_token(value)
    if token is None:
      raise ConfigError(
        f'config.json: {name} is {value}, which is not an id of the '
        'tokenizer; take both files from one model'
      )
    return token


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: for a table of positions that isn't a square, or levels in
      another order than that of layers or for more layers than there are.
  """
  configs.architecture(config, 'Qwen3VLForConditionalGeneration')
  vision, text = qwen_vl.vision_section(config, _VISION), _read_text(config)
  side = math.isqrt(vision['num_position_embeddings'])
  if side**2 != vision['num_position_embeddings']:
    raise ConfigError(
      'config.json: num_position_embeddings is '
      f'{vision["num_position_embeddings"]}; mmjax reads squares'
    )
  levels = tuple(vision['deepstack_visual_indexes'])
  if list(levels) != sorted(set(levels)) or (
    len(levels) > text['num_hidden_layers']
    or not all(0 <= level < vision['depth'] for level in levels)
  ):
    raise ConfigError(
      f'config.json: deepstack_visual_indexes is {list(levels)}; mmjax reads '
      f'numbers of the {vision["depth"]} layers of the vision encoder, from '
      f'the lowest on, at most {text["num_hidden_layers"]}'
    )
  both = _read_both(config)
  return models.InterleavedVisionLanguage(
    vision=encoders.PackedViT(
      width=vision['hidden_size'],
      depth=vision['depth'],
      num_heads=vision['num_heads'],
      mlp_dim=vision['intermediate_size'],
      out_width=vision['out_hidden_size'],
      merge_size=vision['spatial_merge_size'],
      patch_size=vision['patch_size'],
      temporal_patch_size=vision['temporal_patch_size'],
      patch_bias=True,
      position_grid=(side, side),
      level_layers=levels,
      block={'activation': configs.activation(vision['hidden_act'])},
      dtype=dtype,
    ),
    decoder=llamas.decoder(
      {**text, 'tie_word_embeddings': both['tie_word_embeddings']},
      config.get('text_config') or {},
      dtype,
      block={'attention_bias': text['attention_bias'], 'qk_norm': 'rmsnorm'},
      rotary=_read_rotary(config),
    ),
    placeholders=tuple(both[name] for name in _IDS),
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return qwen_vl.inputs(qwen_vl.vision_section(config, _VISION))


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  text = llamas.rules(
    tied=_read_both(config)['tie_word_embeddings'],
    attention_bias=_read_text(config)['attention_bias'],
    qk_norm=True,
  )
  return [
    *keys.add_prefixes(_vision_rules(config), 'vision/', 'model.visual.'),
    *keys.add_prefixes(llamas.put_under_model(text), 'decoder/', ''),
  ]


def _vision_rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the vision encoder, without prefixes."""
  vision = qwen_vl.vision_section(config, _VISION)
  ours, theirs = 'blocks/layers', f'blocks.{keys.LAYER}'
  size = vision['patch_size']
  folded = forms.Folded((3, vision['temporal_patch_size'], size, size))
  table = [
    keys.Rule('patches/kernel', 'patch_embed.proj.weight', folded),
    keys.Rule('patches/bias', 'patch_embed.proj.bias'),
    keys.Rule('positions_table', 'pos_embed.weight'),
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.norm1'),
    *keys.packed_dense(
      f'{ours}/attention', f'{theirs}.attn.qkv', ('query', 'key', 'value')
    ),
    *keys.dense(f'{ours}/attention/out', f'{theirs}.attn.proj', inputs=2),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.norm2'),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.mlp.linear_fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.mlp.linear_fc2'),
  ]
  mergers = [('last_norm', 'merger', 'merger')]
  mergers += [
    (f'level_norm_{i}', f'level_merger_{i}', f'deepstack_merger_list.{i}')
    for i in range(len(vision['deepstack_visual_indexes']))
  ]
  for norm, merger, their in mergers:
    table += [
      *keys.norm(norm, f'{their}.norm'),
      *keys.dense(f'{merger}/up', f'{their}.linear_fc1'),
      *keys.dense(f'{merger}/down', f'{their}.linear_fc2'),
    ]
  return table


def _read_both(config: Mapping[str, Any]) -> dict[str, Any]:
  return configs.section(config, '', _BOTH)


def _read_text(config: Mapping[str, Any]) -> dict[str, Any]:
  return configs.section(config, 'text_config', _TEXT)


def _read_rotary(config: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of the decoder's blocks for rotary positions."""
  section = config.get('text_config') or {}
  rope = section.get('rope_parameters') or section.get('rope_scaling') or {}
  configs.refuse(rope, mrope_interleaved=True)
  rope = {k: v for k, v in rope.items() if k != 'mrope_interleaved'}
  rotary = configs.rotary_settings({**section, 'rope_parameters': rope}, 5e5)
  options = {'sections': _ROTARY_PAIRS, **(rotary['rope'] or {})}
  return {**rotary, 'rope': {**options, 'interleaved': True}}


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=llamas.SKIP,
  ties=llamas.TIES_UNDER_MODEL,
)
