"""Published vision-language models."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import interleaved, names
from mmjax.types import Batch

# Names of transformers 4.52 to 4.57, and of releases before 5.
ALIASES = (
  (r'model\.(?=vision_tower|multi_modal_projector)', ''),
  (r'model\.language_model\.', 'language_model.model.'),
  (r'lm_head\.', 'language_model.lm_head.'),
  (r'vision_tower\.vision_model\.', 'vision_tower.'),
)
_SEPARATE = {'tie_word_embeddings': False}
TIES = (
  names.Tie(
    'language_model.model.embed_tokens.weight',
    'language_model.lm_head.weight',
    {**_SEPARATE, 'text_config': _SEPARATE},
  ),
)


class PublishedVisionLanguage(interleaved.PublishedInterleaved):
  """LLaVA and similar models.

  Each image has the same number of tokens, but in subclasses that prepare
  images otherwise (Qwen2-VL).
  """

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Preprocesses images.

    Args:
      rows: images of each text.

    Returns:
      Keys of the batch, and the grid of tokens of each image of each text.

    Raises:
      ConfigError: if preprocessed images don't have the size in config.json.
    """
    vision = self.vision_config()
    side = vision['image_size']
    most = max(len(row) for row in rows)
    arrays = np.zeros((len(rows), most, side, side, 3), np.float32)
    for i, row in enumerate(rows):
      if row:
        pixels = self.preprocess(row)
        if pixels.shape[1:] != arrays.shape[2:]:
          file = self.find_preprocessing()[1]
          raise ConfigError(
            f'{file} makes images of {pixels.shape[1:3]} '
            f'pixels, but by config.json the model reads {(side, side)}; take '
            'both files from one model'
          )
        arrays[i, : len(row)] = pixels
    grid = packing.Grid(1, 1, self.tokens_per_image())
    grids = [[grid] * len(row) for row in rows]
    return ({'image': jnp.asarray(arrays)} if most else {}), grids

  def tokens_per_image(self) -> int:
    """Number of tokens of an image."""
    vision = self.vision_config()
    number = (vision['image_size'] // vision['patch_size']) ** 2
    return number + self.module.vision.class_token - self.module.skipped

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    raise NotImplementedError


def inputs(vision: Mapping[str, Any]) -> Batch:
  """Shapes of one example.

  Args:
    vision: the config of the vision encoder.
  """
  side, channels = vision['image_size'], vision['num_channels']
  return {
    'image': jax.ShapeDtypeStruct((1, 1, side, side, channels), jnp.float32),
    'text': jax.ShapeDtypeStruct((1, 2), jnp.int32),
  }
