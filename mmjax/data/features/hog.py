"""Images as histograms of oriented gradients."""

import dataclasses
from typing import ClassVar

import numpy as np

from mmjax.data import images as image_files
from mmjax.data.features import base, images, vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hog(vectors.UnitVector, images.StoredImage):
  """An image's histogram of oriented gradients, by scikit-image.

  Dalal and Triggs 2005, with their defaults except for the window: unsigned
  gradients of the channel with the largest one, 9 orientations, cells of 8
  pixels, overlapping blocks of 2 by 2 cells, each normalised by L2-Hys. The
  whole vector is then scaled to unit length. The array is float32 [D], its mask
  bool [], D = (H / cell - block + 1) * (W / cell - block + 1) * block**2 *
  orientations. An image of one colour has no gradient: its vector is zeros.

  Attributes:
    size: (height, width), or one number for both, in pixels; divisible by
      `cell`.
    resize: 'stretch', 'crop' or 'pad', as in `mmjax.data.images.resize`.
    augment: augmentations in training, as of `Image`.
    cell: height and width of a cell in pixels.
    block: height and width of a block in cells.
    orientations: number of bins from 0 to 180 degrees.
    square_root: whether values are replaced by their square roots first, the
      paper's gamma compression.
  """

  kind: ClassVar[str] = 'hog'
  library: ClassVar[str] = 'skimage.feature'
  package: ClassVar[str] = 'scikit-image'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'size',
    'resize',
    'cell',
    'block',
    'orientations',
    'square_root',
  )

  cell: int = 8
  block: int = 2
  orientations: int = 9
  square_root: bool = False

  def __post_init__(self):
    super().__post_init__()
    for setting in ('cell', 'block', 'orientations'):
      if getattr(self, setting) < 1:
        self.refuse(setting, 'is not legal: at least 1')
    if any(side % self.cell for side in self.shape[:2]):
      self.refuse('size', f'is not divisible by cell={self.cell}')
    if min(self.shape[:2]) < self.cell * self.block:
      self.refuse(
        'size',
        f'is smaller than a block of {self.cell * self.block} pixels, cell='
        f'{self.cell} times block={self.block}',
      )

  @property
  def width(self) -> int:
    height, width = (n // self.cell - self.block + 1 for n in self.shape[:2])
    return height * width * self.block**2 * self.orientations

  def _make_example(self, image: np.ndarray) -> base.Example:
    image = image_files.resize(image, self.shape[:2], self.resize)
    histograms = self._import_library().hog(
      image,
      orientations=self.orientations,
      pixels_per_cell=(self.cell, self.cell),
      cells_per_block=(self.block, self.block),
      block_norm='L2-Hys',
      transform_sqrt=self.square_root,
      channel_axis=-1,
    )
    return self._make_unit(histograms)
