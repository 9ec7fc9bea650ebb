"""What Qwen2-VL and Qwen2.5-VL have in common."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import decoders, models
from mmjax.data import images as image_files
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
  processors,
  qwen2,
  sections,
  vision_language,
)
from mmjax.types import Batch

SKIP = llamas.SKIP
TIES = tuple(
  dataclasses.replace(
    tie, separate={**tie.separate, 'text_config': tie.separate}
  )
  for tie in llamas.TIES
)
# Names of later releases.
ALIASES = (
  (r'model\.visual\.', 'visual.'),
  (r'model\.language_model\.', 'model.'),
)

_IDS = {'image_token_id': 151655, 'video_token_id': 151656}
_TEXT = {
  **qwen2.DEFAULTS,
  'vocab_size': 152064,
  'hidden_size': 8192,
  'intermediate_size': 29568,
  'num_hidden_layers': 80,
  'num_attention_heads': 64,
  'num_key_value_heads': 8,
  'rms_norm_eps': 1e-5,
}
_ROTARY_PAIRS = (16, 24, 24)
_TEXT_SECTION = sections.Section(
  read=(*_TEXT, *sections.ROTARY, *llamas.WINDOWS)
)
# The keys of the text are in `text_config`, in older files at the top level.
SECTIONS = {
  '': _TEXT_SECTION.join(
    sections.Section(
      read=_IDS,
      irrelevant=(
        'vision_end_token_id',
        'vision_start_token_id',
        'vision_token_id',
      ),
    )
  ),
  'text_config': _TEXT_SECTION.join(
    sections.Section(
      irrelevant=(
        *_IDS,
        'vision_end_token_id',
        'vision_start_token_id',
        'vision_token_id',
      ),
      optional=True,
    )
  ),
}
VISION_SECTION = sections.Section(
  read=('rope_parameters',),
  only={'in_channels': 3, 'in_chans': 3},
  irrelevant=('spatial_patch_size',),
  aliases={'num_attention_heads': 'num_heads', 'num_hidden_layers': 'depth'},
)
# Rows of patches are padded to a multiple of this many tokens.
_STEP = 16


class QwenVL(vision_language.PublishedVisionLanguage):
  """Qwen2-VL and similar models; images keep their aspect ratio.

  In a prompt, `<|vision_start|><|image_pad|><|vision_end|>` stands for an
  image, and the same with `<|video_pad|>` for a video: a
  `mmjax.data.video_files.VideoFile`, or an array of its sampled frames [F, H,
  W, 3]. These are tokens of the model's tokenizer; config.json says which ids
  images and videos replace (`image_token_id`, `video_token_id`). `chat` adds
  the words of the chat template, such as `<|im_start|>user`.

  Attributes:
    video_class: class of the preprocessor of videos.
    time_text: what is read before each step of a video, with its time in
      seconds; '' for nothing, and all steps as one.
    assumes_fps: whether positions in a video follow the time as if its frames
      were sampled at the rate that is asked for, whatever rate they have.
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }
  video_class: ClassVar[type[patches.VideoPreprocessor]] = (
    patches.VideoPreprocessor
  )
  samples_videos: ClassVar[bool] = True
  time_text: ClassVar[str] = ''
  assumes_fps: ClassVar[bool] = False

  @property
  def video_interval(self) -> float:
    """Rotary positions between two steps of a video in time."""
    return 1.0

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> patches.PatchPreprocessor:
    """Makes the preprocessor that cuts images into patches."""
    return patches.PatchPreprocessor.from_config(
      settings, cls.image_defaults, file
    )

  @functools.cached_property
  def video_preprocessor(self) -> patches.VideoPreprocessor:
    """The preprocessor of videos; that of images if the folder has no other."""
    return self.make_video_preprocessor(self.files)

  @classmethod
  def make_video_preprocessor(
    cls, files: Mapping[str, bytes]
  ) -> patches.VideoPreprocessor:
    """Makes the preprocessor of videos of a folder.

    Args:
      files: its small files by name.
    """
    found = processors.find(files, processors.VIDEOS, processors.VIDEO_FILE)
    settings, file = found or processors.find(files) or ({}, preprocess.FILE)
    return cls.video_class.from_config(settings, cls.image_defaults, file)

  @classmethod
  def read_tokens_per_second(cls, config: Mapping[str, Any]) -> float:
    """Rotary positions a second of video (tokens_per_second); 0: steps count.

    Args:
      config: the contents of config.json.
    """
    del config
    return 0.0

  def preprocess(self, images: Any) -> Batch:
    """Cuts images into patches, the arguments of `PackedViT.encode_patches`.

    Args:
      images: one or a list of Pillow images, uint8 [H, W, 3], file paths, or
        videos as arrays of frames uint8 [F, H, W, 3]; of any sizes. Each is
        one example B.

    Returns:
      `patches` [B, S, P] float32, with `positions` [B, S, 2], `segments`
      [B, S] and, for an encoder with windows, `windows` [B, S] int32.
    """
    image_arrays, _ = self.prepare_images([[i] for i in base.as_list(images)])
    return image_arrays['patches']

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Cuts images into patches; returns keys of the batch, and grids."""
    pixels, grids = [], []
    for row in rows:
      cut = [self._cut_patches(image) for image in row]
      pixels.append([array for array, _ in cut])
      grids.append([grid for _, own in cut for grid in own])
    return self.pack_patches(pixels, grids), grids

  def pack_patches(
    self,
    pixels: Sequence[Sequence[np.ndarray]],
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Packs the patches of all images of each text; returns keys of the batch.

    Args:
      pixels: patches [S, P] of each image of each text.
      grids: grid of each image of each text.
    """
    most = max(sum(map(len, row)) for row in pixels)
    if not most:
      return {}
    step = _STEP * self.module.vision.merge_size**2
    length = -(-most // step) * step
    merge_size = self.module.vision.merge_size
    out: dict[str, np.ndarray] = {}
    for i, (row, row_grids) in enumerate(zip(pixels, grids, strict=True)):
      if not row:
        continue
      arrays = packing.patch_layout(
        row_grids, merge_size, self.module.vision.window
      )
      arrays['patches'] = np.concatenate(row).astype(np.float32)
      for name, array in arrays.items():
        shape = (len(pixels), length, *array.shape[1:])
        out.setdefault(name, np.zeros(shape, array.dtype))
        out[name][i, : len(array)] = array
    floats = {'patches': jnp.float32}
    return {
      'patches': {
        name: jnp.asarray(array, floats.get(name, jnp.int32))
        for name, array in out.items()
      }
    }

  def rotary_positions(
    self,
    ids: Sequence[np.ndarray],
    length: int,
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Rotary positions of all tokens, as keys of the batch."""
    positions = np.zeros((len(ids), length, 3), np.int32)
    for i, (row, row_grids) in enumerate(zip(ids, grids, strict=True)):
      rows = packing.rotary_positions(
        row.tolist(), row_grids, self.module.placeholders
      )
      positions[i, : len(rows)] = rows
    return {'text_positions': jnp.asarray(positions)}

  def split_grid(self, grid: packing.Grid) -> list[packing.Grid]:
    """The grids of a video in a text; one by default."""
    return [dataclasses.replace(grid, interval=self.video_interval)]

  def _cut_patches(self, image: Any) -> tuple[np.ndarray, list[packing.Grid]]:
    if isinstance(image, video_files.VideoFile):
      return self._cut_video(image)
    if interleaved.is_video(image):
      pixels, grid = self.video_preprocessor(list(image))
      return pixels, self.split_grid(dataclasses.replace(grid, video=True))
    pixels, grid = self.preprocessor([image_files.to_array(image)])
    return pixels, [grid]

  def read_video(
    self, file: video_files.VideoFile
  ) -> tuple[np.ndarray, video_files.Sample]:
    """Reads the frames of a video that are sampled, uint8 [F, H, W, 3].

    Raises:
      ConfigError: if it can't be read, or has too few; it names the file.
    """
    data = file.read()
    try:
      sample = self.video_preprocessor.sample(video_files.read_outline(data))
      frames = np.stack(list(video_files.decode_some(data, sample.numbers)))
    except ConfigError as error:
      raise file.explain(error) from error
    return frames, sample

  def _cut_video(
    self, file: video_files.VideoFile
  ) -> tuple[np.ndarray, list[packing.Grid]]:
    """Samples the frames of a video and cuts them into patches."""
    prepares = self.video_preprocessor
    frames, sample = self.read_video(file)
    pixels, grid = prepares(list(frames))
    time = self.read_tokens_per_second(self.config)
    rate = prepares.fps if self.assumes_fps else sample.rate
    interval = time * prepares.temporal_patch_size / rate if time else 1.0
    return pixels, [dataclasses.replace(grid, interval=interval, video=True)]


def model(
  config: Mapping[str, Any], vision: Any, dtype: Any
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes, around a vision encoder."""
  ids = configs.section(config, '', _IDS)
  section = config.get('text_config') or config
  return models.InterleavedVisionLanguage(
    vision=vision,
    decoder=decoder(read_text(config), section, dtype),
    placeholders=(ids['image_token_id'], ids['video_token_id']),
  )


def decoder(
  values: Mapping[str, Any], section: Mapping[str, Any], dtype: Any
) -> decoders.TextDecoder:
  """The decoder of the fields of `llamas.DEFAULTS`, see `llamas.decoder`."""
  rotary = configs.rotary_settings(section, 1e6)
  options = {'sections': _ROTARY_PAIRS, **(rotary['rope'] or {})}
  return llamas.decoder(
    values,
    section,
    dtype,
    block={'attention_bias': qwen2.BIAS},
    rotary={**rotary, 'rope': options},
  )


def inputs(vision: Mapping[str, Any]) -> Batch:
  """Shapes of one example.

  Args:
    vision: the config of the vision encoder.
  """
  number = vision['spatial_merge_size'] ** 2
  pixels = 3 * vision['temporal_patch_size'] * vision['patch_size'] ** 2
  integers = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
  return {
    'text': integers((1, 2)),
    'patches': {
      'patches': jax.ShapeDtypeStruct((1, number, pixels), jnp.float32),
      'positions': integers((1, number, 2)),
      'segments': integers((1, number)),
      'windows': integers((1, number)),
    },
  }


def rules(
  vision: Mapping[str, Any],
  mlp: Mapping[str, str],
  *,
  tied: bool,
  norm_bias: bool,
  attention: Mapping[str, str] | None = None,
) -> list[keys.Rule]:
  """The key table.

  Args:
    vision: the config of the vision encoder.
    mlp: our layer of the encoder's MLPs -> theirs.
    tied: whether word vectors are the output matrix too.
    norm_bias: whether the encoder's norms have biases.
    attention: our layer of the encoder's queries, keys and values -> theirs;
      None if they are stored as one.
  """
  ours, theirs = 'blocks/layers', f'blocks.{keys.LAYER}'
  size = vision['patch_size']
  folded = forms.Folded((3, vision['temporal_patch_size'], size, size))
  norm = functools.partial(keys.norm, bias=norm_bias)
  if attention is None:
    project = keys.packed_dense(
      f'{ours}/attention', f'{theirs}.attn.qkv', ('query', 'key', 'value')
    )
  else:
    project = keys.attention(f'{ours}/attention', f'{theirs}.attn', attention)
  table = [
    keys.Rule('patches/kernel', 'patch_embed.proj.weight', folded),
    *norm(f'{ours}/attention_norm', f'{theirs}.norm1'),
    *project,
    *keys.dense(f'{ours}/attention/out', f'{theirs}.attn.proj', inputs=2),
    *norm(f'{ours}/mlp_norm', f'{theirs}.norm2'),
    *norm('last_norm', 'merger.ln_q'),
    *keys.dense('merger/up', 'merger.mlp.0'),
    *keys.dense('merger/down', 'merger.mlp.2'),
  ]
  for name, their in mlp.items():
    table += keys.dense(f'{ours}/mlp/{name}', f'{theirs}.mlp.{their}')
  text = llamas.rules(tied=tied, attention_bias=qwen2.BIAS)
  return [
    *keys.add_prefixes(table, 'vision/', 'visual.'),
    *keys.add_prefixes(text, 'decoder/', ''),
  ]


def vision_section(
  config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads the vision encoder's part of a config.

  Raises:
    ConfigError: for rotary positions that are not by row and column.
  """
  section = config.get('vision_config') or {}
  rope = section.get('rope_parameters') or {}
  configs.refuse(rope, rope_type='axial', rope_theta=10000.0)
  return configs.section(config, 'vision_config', defaults)


def read_text(config: Mapping[str, Any]) -> dict[str, Any]:
  """Reads the fields of the decoder, which may be at the top level."""
  text = dict(config.get('text_config') or config)
  if config.get('tie_word_embeddings'):
    text['tie_word_embeddings'] = True
  return configs.section(text, '', _TEXT)
