"""What Qwen2-VL and Qwen2.5-VL have in common."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import decoders, models
from mmjax.data import images
from mmjax.ops import packing
from mmjax.pretrained import (
  configs,
  forms,
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
# What later releases call the same.
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
_SECTIONS = (16, 24, 24)
_TEXT_SECTION = sections.Section(
  read=(*_TEXT, *sections.ROTARY, *llamas.WINDOWS)
)
# The text's keys stand in `text_config`, or in older files at the top.
SECTIONS = {
  '': _TEXT_SECTION.joined(
    sections.Section(
      read=_IDS,
      irrelevant=(
        'vision_end_token_id',
        'vision_start_token_id',
        'vision_token_id',
      ),
    )
  ),
  'text_config': _TEXT_SECTION.joined(
    sections.Section(
      irrelevant=(
        *_IDS,
        'vision_end_token_id',
        'vision_start_token_id',
        'vision_token_id',
      )
    )
  ),
}
VISION_SECTION = sections.Section(
  read=('rope_parameters',),
  only={'in_channels': 3, 'in_chans': 3},
  irrelevant=('spatial_patch_size',),
  aliases={'num_attention_heads': 'num_heads', 'num_hidden_layers': 'depth'},
)
# Rows of patches are padded to a multiple of so many tokens.
_STEP = 16


class QwenVL(vision_language.PublishedVisionLanguage):
  """Pictures keep their shape, and have as many tokens as that takes.

  In a prompt, `<|vision_start|><|image_pad|><|vision_end|>` stands for a
  picture, and the same with `<|video_pad|>` for a video: an array of its frames
  [F, H, W, 3].
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }

  @property
  def video_interval(self) -> float:
    """Rotary positions between two steps of a video in time."""
    return 1.0

  @classmethod
  def preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> patches.PatchPreprocessor:
    """Images to patches, see `Pretrained.preprocessor`."""
    return patches.PatchPreprocessor.from_config(
      settings, cls.image_defaults, file
    )

  @functools.cached_property
  def preprocess_video(self) -> patches.PatchPreprocessor:
    """Videos to patches; the folder's settings for images, if it has no own."""
    found = processors.find(
      self.files, processors.VIDEOS, processors.VIDEO_FILE
    )
    return self.preprocessor(*found) if found else self.preprocess

  def look(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Patches of pictures, see `VisionLanguage.look`."""
    pixels, grids = [], []
    for row in rows:
      cut = [self._cut(picture) for picture in row]
      pixels.append([array for array, _ in cut])
      grids.append([grid for _, grid in cut])
    return self.packed(pixels, grids), grids

  def packed(
    self,
    pixels: Sequence[Sequence[np.ndarray]],
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Keys of the batch, of what was cut from pictures.

    Args:
      pixels: for each text and picture, its patches [S, P].
      grids: for each text and picture, its grid.
    """
    most = max(sum(map(len, row)) for row in pixels)
    if not most:
      return {}
    step = _STEP * self.module.vision.merge
    length = -(-most // step) * step
    merge = round(self.module.vision.merge**0.5)
    out: dict[str, np.ndarray] = {}
    for i, (row, of_row) in enumerate(zip(pixels, grids, strict=True)):
      if not row:
        continue
      arrays = packing.patch_layout(of_row, merge, self.module.vision.window)
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

  def located(
    self,
    ids: Sequence[np.ndarray],
    length: int,
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Rotary positions, see `VisionLanguage.located`."""
    positions = np.zeros((len(ids), length, 3), np.int32)
    for i, (row, of_row) in enumerate(zip(ids, grids, strict=True)):
      found = packing.rotary_positions(
        row.tolist(), of_row, self.module.placeholders
      )
      positions[i, : len(found)] = found
    return {'text_positions': jnp.asarray(positions)}

  def _cut(self, picture: Any) -> tuple[np.ndarray, packing.Grid]:
    if isinstance(picture, np.ndarray) and picture.ndim == 4:
      pixels, grid = self.preprocess_video(list(picture))
      video = dataclasses.replace(
        grid, video=True, interval=self.video_interval
      )
      return pixels, video
    return self.preprocess([images.to_array(picture)])


def model(
  config: Mapping[str, Any], vision: Any, dtype: Any
) -> models.InterleavedVisionLanguage:
  """The model of a vision encoder and what a config.json says of the rest."""
  ids = configs.section(config, '', _IDS)
  return models.InterleavedVisionLanguage(
    vision=vision,
    decoder=decoder(config, dtype),
    placeholders=(ids['image_token_id'], ids['video_token_id']),
  )


def decoder(config: Mapping[str, Any], dtype: Any) -> decoders.TextDecoder:
  """The decoder, whose fields lie at the top or in `text_config`."""
  given = config.get('text_config') or config
  rotary = configs.rotary(given, 1e6)
  options = {'sections': _SECTIONS, **(rotary['rope'] or {})}
  return llamas.decoder(
    _text(config),
    given,
    dtype,
    block={'attention_bias': qwen2.BIAS, **rotary, 'rope': options},
  )


def inputs(vision: Mapping[str, Any]) -> Batch:
  """Shapes of one example.

  Args:
    vision: the config of the encoder.
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
  config: Mapping[str, Any],
  vision: Mapping[str, Any],
  mlp: Mapping[str, str],
  *,
  norm_bias: bool,
) -> list[keys.Rule]:
  """The key table.

  Args:
    config: all of config.json.
    vision: the config of the encoder.
    mlp: by our layer of its MLPs, theirs.
    norm_bias: whether its norms have biases.
  """
  ours, theirs = 'blocks/layers', f'blocks.{keys.LAYER}'
  size = vision['patch_size']
  folded = forms.Folded((3, vision['temporal_patch_size'], size, size))
  norm = functools.partial(keys.norm, bias=norm_bias)
  table = [
    keys.Rule('patches/kernel', 'patch_embed.proj.weight', folded),
    *norm(f'{ours}/attention_norm', f'{theirs}.norm1'),
    *keys.packed(
      f'{ours}/attention', f'{theirs}.attn.qkv', ('query', 'key', 'value')
    ),
    *keys.dense(f'{ours}/attention/out', f'{theirs}.attn.proj', inputs=2),
    *norm(f'{ours}/mlp_norm', f'{theirs}.norm2'),
    *norm('last_norm', 'merger.ln_q'),
    *keys.dense('merger/up', 'merger.mlp.0'),
    *keys.dense('merger/down', 'merger.mlp.2'),
  ]
  for name, their in mlp.items():
    table += keys.dense(f'{ours}/mlp/{name}', f'{theirs}.mlp.{their}')
  text = llamas.rules(
    tied=_text(config)['tie_word_embeddings'], attention_bias=qwen2.BIAS
  )
  return [
    *keys.prefixed(table, 'vision/', 'visual.'),
    *keys.prefixed(text, 'decoder/', ''),
  ]


def vision_section(
  config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """The encoder's part of a config.

  Raises:
    ConfigError: for other rotary positions than by row and column.
  """
  given = config.get('vision_config') or {}
  rope = given.get('rope_parameters') or {}
  configs.refuse(rope, rope_type='axial', rope_theta=10000.0)
  return configs.section(config, 'vision_config', defaults)


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
  text = dict(config.get('text_config') or config)
  if config.get('tie_word_embeddings'):
    text['tie_word_embeddings'] = True
  return configs.section(text, '', _TEXT)
