"""LLaVA-OneVision (Li et al. 2024), as Hugging Face publishes it."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import PIL.Image

from mmjax import models
from mmjax import nn as mnn
from mmjax.data import images as image_files
from mmjax.data import tiles as tiles_lib
from mmjax.errors import ConfigError
from mmjax.ops import anyres, packing
from mmjax.pretrained import (
  base,
  configs,
  interleaved,
  keys,
  language_models,
  llamas,
  patches,
  preprocess,
  processors,
  qwen2,
  sections,
  siglip,
  tiles,
  vision_language,
)
from mmjax.types import Array, Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)
ALIASES = (*vision_language.ALIASES, (r'model\.(?=image_newline)', ''))

_SIDES = [384 * number for number in range(1, 7)]
_PINPOINTS = [[height, width] for height in _SIDES for width in _SIDES]
_DEFAULTS = {
  'image_token_index': 151646,
  'video_token_index': 151647,
  'projector_hidden_act': 'gelu',
  'vision_feature_layer': -1,
  'vision_aspect_ratio': 'anyres_max_9',
  'multimodal_projector_bias': True,
  'image_grid_pinpoints': _PINPOINTS,
  'tie_word_embeddings': False,
}
_VISION = {
  **siglip.VISION,
  'hidden_size': 1152,
  'intermediate_size': 4304,
  'num_hidden_layers': 26,
  'num_attention_heads': 16,
  'image_size': 384,
  'patch_size': 14,
  'vision_use_head': False,
}
SECTIONS = {
  '': sections.Section(
    read=_DEFAULTS,
    only={'vision_feature_select_strategy': 'full'},
    irrelevant=('ignore_index', 'image_seq_length', 'vocab_size'),
    aliases={
      'image_token_id': 'image_token_index',
      'video_token_id': 'video_token_index',
    },
  ),
  'text_config': qwen2.SECTIONS[''].join(
    sections.Section(only={'model_type': 'qwen2'})
  ),
  'vision_config': siglip.VISION_SECTION.join(
    sections.Section(only={'model_type': 'siglip_vision_model'})
  ),
}
PREPROCESS = patches.VIDEOS.join(
  sections.Section(read=('image_grid_pinpoints',))
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessor(tiles.TilePreprocessor):
  """Cuts an image that is alone into tiles, and pads one of several.

  Attributes:
    whole: makes the one tile of one of several.
  """

  whole: tiles_lib.SquareCutter


class Model(vision_language.PublishedVisionLanguage):
  """LLaVA-OneVision; `<image>` in a prompt is the placeholder of an image.

  An image that is alone in its prompt is read as a whole and as tiles, each of
  several as one tile. `<video>` stands for a video, an array of its frames
  [F, H, W, 3].
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
    'size': {'height': 384, 'width': 384},
    'image_grid_pinpoints': _PINPOINTS,
  }

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> Preprocessor:
    """Makes the preprocessor that cuts images into tiles."""
    pixels = tiles.read_pixels(settings, cls.image_defaults, PREPROCESS, file)
    settings = {**cls.image_defaults, **settings}
    size = tiles.read_sides(settings, 'size', file)
    if size[0] != size[1]:
      raise ConfigError(
        f'{file}: size is {settings["size"]!r}; mmjax reads tiles that are '
        'squares'
      )
    sizes = _read_sizes(settings['image_grid_pinpoints'], size[0], file)
    resample = pixels.resample
    return Preprocessor(
      tiles_lib.PaddedCutter(size, sizes, resample),
      dataclasses.replace(pixels, size=size),
      whole=tiles_lib.SquareCutter(
        size,
        tuple(int(mean * 255) for mean in settings['image_mean']),
        resample,
      ),
    )

  @functools.cached_property
  def video_preprocessor(self) -> preprocess.ImagePreprocessor:
    """The preprocessor of frames; that of images if the folder has no other."""
    settings = processors.find(
      self.files, processors.VIDEOS, processors.VIDEO_FILE
    )
    return (
      self.make_preprocessor(*settings).image_preprocessor
      if settings
      else self.preprocessor.image_preprocessor
    )

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]

  def preprocess(self, images: Any) -> Array:
    """Preprocesses images to their tiles [N, h, w, 3], those of all in a row.

    Args:
      images: one or a list of Pillow images, uint8 [H, W, 3] or file paths,
        each as if it were alone in its prompt; or arrays of frames.
    """
    cut = [self._cut(image, alone=True)[0] for image in base.as_list(images)]
    return jnp.concatenate(cut)

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Cuts images into tiles; returns keys of the batch, and grids."""
    pixels, layouts, grids = [], [], []
    for row in rows:
      number = sum(not interleaved.is_video(image) for image in row)
      cut = [self._cut(image, alone=number == 1) for image in row]
      starts = np.cumsum([0, *(len(tile) for tile, _ in cut)])
      tokens = self.tokens_per_image()
      pixels.append([tile for array, _ in cut for tile in array])
      layouts.append(
        [
          layout.shift(int(start) * tokens)
          for start, (_, layout) in zip(starts[:-1], cut, strict=True)
        ]
      )
      grids.append(
        [
          packing.Grid(1, 1, len(layout), video=interleaved.is_video(image))
          for image, (_, layout) in zip(row, cut, strict=True)
        ]
      )
    return self._stack(pixels, layouts), grids

  def _cut(
    self, image: Any, *, alone: bool
  ) -> tuple[np.ndarray, anyres.Layout]:
    """Preprocesses an image or a video: tiles [n, h, w, 3] and its tokens."""
    both, vision, _ = _sections(self.config)
    side = vision['image_size'] // vision['patch_size']
    if interleaved.is_video(image):
      frames = [self.video_preprocessor(_to_image(frame)) for frame in image]
      return np.stack(frames), anyres.lay_out_frames(len(frames), side)
    image = _to_image(image)
    prepares = self.preprocessor
    if not alone:
      prepares = dataclasses.replace(prepares, cutter=prepares.whole)
    arrays, cut = prepares(image)
    if not cut.rows:
      return arrays, anyres.lay_out_whole(side)
    self._check_sizes(both)
    layout = anyres.lay_out_tiles(
      (image.height, image.width), cut.rows, cut.columns, side, read_most(both)
    )
    return arrays, layout

  def _check_sizes(self, both: Mapping[str, Any]) -> None:
    wanted = tuple(map(tuple, both['image_grid_pinpoints']))
    if wanted != self.preprocessor.cutter.sizes:
      raise ConfigError(
        f'{self.find_preprocessing()[1]} and config.json have different '
        'image_grid_pinpoints; take both files from one model'
      )

  def _stack(
    self,
    rows: Sequence[Sequence[np.ndarray]],
    layouts: Sequence[Sequence[anyres.Layout]],
  ) -> Batch:
    """Stacks tiles [h, w, 3] and layouts of each text; keys of the batch."""
    most = max(map(len, rows))
    if not most:
      return {}
    shape = next(tile.shape for row in rows for tile in row)
    arrays = np.zeros((len(rows), most, *shape), np.float32)
    longest = max(sum(map(len, row)) for row in layouts)
    step = language_models.PAD_MULTIPLE
    shape = (len(rows), -(-longest // step) * step, 4)
    sources, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for i, (row, own) in enumerate(zip(rows, layouts, strict=True)):
      if len(row):
        arrays[i, : len(row)] = row
        number = sum(map(len, own))
        sources[i, :number] = np.concatenate([one.sources for one in own])
        weights[i, :number] = np.concatenate([one.weights for one in own])
    layout = {'sources': jnp.asarray(sources), 'weights': jnp.asarray(weights)}
    return {'image': jnp.asarray(arrays), 'image_layout': layout}


def _to_image(image: Any) -> PIL.Image.Image:
  if not isinstance(image, PIL.Image.Image):
    image = PIL.Image.fromarray(image_files.to_array(image))
  return image_files.to_rgb(image)


def _read_sizes(
  pinpoints: Any, side: int, file: str
) -> tuple[tuple[int, int], ...]:
  """Reads the sizes that images may have, in whole tiles."""
  try:
    sizes = tuple((int(height), int(width)) for height, width in pinpoints)
  except (TypeError, ValueError):
    sizes = ()
  if not sizes or any(min(pair) < side for pair in sizes):
    raise ConfigError(
      f'{file}: image_grid_pinpoints is {pinpoints!r:.80}; mmjax reads a list '
      f'of pairs of height and width, of at least one tile of {side}'
    )
  wrong = [pair for pair in sizes if pair[0] % side or pair[1] % side]
  if wrong:
    raise ConfigError(
      f'{file}: image_grid_pinpoints has {list(wrong[0])}, which is not a '
      f'multiple of the {side} pixels of a tile'
    )
  return sizes


def read_most(config: Mapping[str, Any]) -> int:
  """The number of tiles above which a grid is resized, of a config.json."""
  value = configs.section(config, '', _DEFAULTS)['vision_aspect_ratio']
  match = re.fullmatch(r'anyres_max_([1-9]\d*)', str(value))
  if not match:
    raise ConfigError(
      f'config.json: vision_aspect_ratio is {value!r}; mmjax reads '
      "'anyres_max_' and a number above 0"
    )
  return int(match[1])


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes."""
  configs.architecture(config, 'LlavaOnevisionForConditionalGeneration')
  both, vision, text = _sections(config)
  read_most(both)
  width = qwen2.read(text)['hidden_size']
  return models.InterleavedVisionLanguage(
    vision=siglip.image_encoder(
      vision, dtype, layer=both['vision_feature_layer']
    ),
    projector=mnn.Mlp(
      width,
      width,
      activation=configs.activation(
        both['projector_hidden_act'], 'projector_hidden_act'
      ),
      use_bias=both['multimodal_projector_bias'],
      dtype=dtype,
    ),
    decoder=qwen2.decoder(text, dtype),
    placeholders=(both['image_token_index'], both['video_token_index']),
    image_newline=True,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return vision_language.inputs(_sections(config)[1])


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  both, vision, text = _sections(config)
  theirs, bias = 'multi_modal_projector', both['multimodal_projector_bias']
  return [
    *keys.add_prefixes(siglip.image_rules(vision), 'vision/', 'vision_tower.'),
    *keys.dense('projector/up', f'{theirs}.linear_1', bias=bias),
    *keys.dense('projector/down', f'{theirs}.linear_2', bias=bias),
    keys.Rule('newline', 'image_newline'),
    *keys.add_prefixes(
      qwen2.decoder_rules(text), 'decoder/', 'language_model.'
    ),
  ]


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict]:
  return (
    configs.section(config, '', _DEFAULTS),
    configs.section(config, 'vision_config', _VISION),
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
