"""Models that read an image as tiles of one size."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import PIL.Image

from mmjax.data import images as image_files
from mmjax.data import tiles as tiles_lib
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import base, preprocess, sections, vision_language
from mmjax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class TilePreprocessor:
  """Cuts an image into tiles and normalises them.

  Attributes:
    cutter: cuts an image.
    image_preprocessor: preprocessor of a tile; of an image, it makes one tile.
  """

  cutter: tiles_lib.Cutter
  image_preprocessor: preprocess.ImagePreprocessor
  crop_size: None = None  # As of `ImagePreprocessor`.

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of a tile."""
    return self.cutter.size

  def __call__(self, image: Any) -> tuple[np.ndarray, tiles_lib.Tiles]:
    """Preprocesses one image.

    Args:
      image: a Pillow image, or uint8 [H, W, 3].

    Returns:
      float32 [n, h, w, 3], and the n tiles.
    """
    if not isinstance(image, PIL.Image.Image):
      image = PIL.Image.fromarray(np.asarray(image))
    tiles = self.cutter.cut(image_files.to_rgb(image))
    return np.stack(
      [self.image_preprocessor(tile) for tile in tiles.images]
    ), tiles


def read_pixels(
  config: Mapping[str, Any],
  defaults: Mapping[str, Any],
  section: sections.Section,
  file: str,
) -> preprocess.ImagePreprocessor:
  """Reads how a tile is normalised, from a preprocessor_config.json.

  Args:
    config: contents of the file.
    defaults: defaults of the family.
    section: keys that the file may have.
    file: name of the file, for errors.

  Raises:
    ConfigError: for a setting that mmjax does not support.
  """
  sections.check_file(config, section, file)
  plain = {k: v for k, v in config.items() if k not in ('size', 'do_pad')}
  return preprocess.ImagePreprocessor.from_config(
    {**plain, 'do_resize': False}, {**defaults, 'size': {}}, section, file
  )


def read_side(config: Mapping[str, Any], key: str, file: str) -> int:
  """Reads `longest_edge` of a size in a preprocessor_config.json.

  Raises:
    ConfigError: if it isn't an integer above 0.
  """
  size = config[key]
  side = size.get('longest_edge') if isinstance(size, Mapping) else None
  if type(side) is not int or side < 1 or set(size) != {'longest_edge'}:
    raise ConfigError(
      f'{file}: {key} is {size!r}; mmjax reads longest_edge alone, an integer '
      'above 0'
    )
  return side


def read_sides(
  config: Mapping[str, Any], key: str, file: str
) -> tuple[int, int]:
  """Reads the height and width of a size in a preprocessor_config.json.

  Raises:
    ConfigError: if they aren't integers above 0.
  """
  size = config[key]
  names = ('height', 'width')
  sides = [size.get(n) for n in names] if isinstance(size, Mapping) else []
  if not sides or any(type(side) is not int or side < 1 for side in sides):
    raise ConfigError(
      f'{file}: {key} is {size!r}; mmjax reads height and width, integers '
      'above 0'
    )
  return sides[0], sides[1]


class PublishedTiles(vision_language.PublishedVisionLanguage):
  """Base of models that read an image as tiles.

  A prompt has one placeholder for each image; it is replaced by the text that
  stands for all of its tiles.
  """

  @property
  def placeholder(self) -> str:
    """The placeholder of an image in a prompt."""
    raise NotImplementedError

  @property
  def cutter(self) -> tiles_lib.WritingCutter:
    """Cuts images, and writes the text of their tiles."""
    return self.preprocessor.cutter

  def write_image(self, tiles: tiles_lib.Tiles) -> str:
    """The text of an image, with one placeholder for each of its tiles."""
    parts = self.cutter.write(tiles.rows, tiles.columns)
    return ''.join(self.placeholder if part is None else part for part in parts)

  def preprocess(self, images: Any) -> Array:
    """Preprocesses images to their tiles [N, h, w, 3], those of all in a row.

    Args:
      images: one or a list of Pillow images, uint8 [H, W, 3] or file paths.
    """
    cut = [self._preprocess(image) for image in base.as_list(images)]
    return jnp.concatenate([pixels for pixels, _ in cut])

  def prepare_batch(
    self, images: Any, texts: str | Sequence[str], *, is_chat: bool = False
  ) -> tuple[Batch, list[list[int]]]:
    """Makes the input of the module, see `PublishedVisionLanguage`."""
    texts = base.as_list(texts)
    rows = [base.as_list(entry) for entry in base.as_list(images)]
    cut = [[self._preprocess(image) for image in row] for row in rows]
    if len(rows) == len(texts):
      texts = [
        self._write_tiles(text, [tiles for _, tiles in row])
        for text, row in zip(texts, cut, strict=True)
      ]
    arrays = [[tile for pixels, _ in row for tile in pixels] for row in cut]
    return super().prepare_batch(arrays, texts, is_chat=is_chat)

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Stacks tiles [h, w, 3] of each text; returns keys of the batch, grids."""
    most = max(len(row) for row in rows)
    shape = (*self.preprocessor.size, 3)
    arrays = np.zeros((len(rows), most, *shape), np.float32)
    for i, row in enumerate(rows):
      arrays[i, : len(row)] = np.reshape(row, (-1, *shape))
    grid = packing.Grid(1, 1, self.tokens_per_image())
    grids = [[grid] * len(row) for row in rows]
    return ({'image': jnp.asarray(arrays)} if most else {}), grids

  def _preprocess(self, image: Any) -> tuple[np.ndarray, tiles_lib.Tiles]:
    return self.preprocessor(image_files.to_array(image))

  def _write_tiles(self, text: str, images: Sequence[tiles_lib.Tiles]) -> str:
    number = text.count(self.placeholder)
    if number != len(images):
      raise ConfigError(
        f'a text has {number} placeholders {self.placeholder}, but its images '
        f'need {len(images)}; it is {text!r}'
      )
    parts = text.split(self.placeholder)
    written = [*map(self.write_image, images), '']
    return ''.join(
      part + image for part, image in zip(parts, written, strict=True)
    )
