"""Fields of images of any size, as tiles of one size."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import PIL.Image

from mmjax.data import contact_sheet
from mmjax.data import images as image_files
from mmjax.data import tiles as tiles_lib
from mmjax.data.features import base, images, several
from mmjax.errors import ConfigError
from mmjax.ops import anyres

SCHEMES = ('padded', 'ratio', 'sides')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles(several.Several, base.Feature):
  """Encoded images of any size, cut into tiles as published models read them.

  Each is one tile, or several and the whole image as one more; all share one
  row: uint8 [n, H, W, 3], and the mask bool [n]. In a conversation, the text of
  an image says which tile is where. A model reads float32, normalised, zeros
  where the mask is False.

  Attributes:
    scheme: how images are cut and written: 'sides' as Idefics3 and SmolVLM,
      'ratio' as InternVL, or 'padded' as LLaVA-OneVision, where one of several
      images of a conversation is one tile (`mmjax.data.tiles`).
    number: n, most tiles of the images of a row.
    size: side of a tile, or its (height, width), in pixels.
    longest: length of an image's longer side before it is cut, of the scheme
      sides; 0 for the image's own.
    splits: whether images are cut, of the scheme sides.
    least: smallest number of tiles of an image, of the scheme ratio.
    most: largest number of tiles of an image, of the scheme ratio; of the
      scheme padded, the number from which an image's tokens are resized.
    sizes: (height, width) that an image may have before it is cut, in whole
      tiles, of the scheme padded.
    start: token before the tiles of an image, of the scheme ratio.
    end: token behind them.
    resample: Pillow's number of the filter.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
  """

  kind: ClassVar[str] = 'tiles'
  field_kinds: ClassVar[tuple[str, ...]] = ('image', 'images')
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'images'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'scheme',
    'size',
    'longest',
    'splits',
    'least',
    'most',
    'sizes',
    'start',
    'end',
    'resample',
    'mean',
    'std',
  )

  scheme: str = 'sides'
  number: int = 16
  size: int | Sequence = 32
  longest: int = 0
  splits: bool = True
  least: int = 1
  most: int = 12
  sizes: Sequence = ()
  start: str = '<img>'
  end: str = '</img>'
  resample: int = 3
  mean: Sequence = images.HALF
  std: Sequence = images.HALF

  def __post_init__(self):
    super().__post_init__()
    images.check_normalisation(self)
    if self.scheme not in SCHEMES:
      self.refuse('scheme', f'is unknown; use {SCHEMES}')
    for setting, least in (('number', 1), ('longest', 0), ('least', 1)):
      if getattr(self, setting) < least:
        self.refuse(setting, f'is not legal: at least {least}')
    if self.most < self.least:
      self.refuse('most', f'is less than least={self.least}')
    if self.resample not in list(PIL.Image.Resampling):
      self.refuse('resample', "is not the number of one of Pillow's filters")
    shape = self.shape
    is_whole = all(type(number) is int for number in shape)
    if not is_whole or len(shape) != 3 or min(shape) < 1:
      self.refuse('size', 'is not legal: one number, or (height, width)')
    if self.scheme != 'ratio' and shape[0] != shape[1]:
      self.refuse('size', 'is not legal: tiles of this scheme are squares')
    if self.scheme == 'padded':
      self._check_sizes()

  def _check_sizes(self) -> None:
    try:
      wrong = [
        pair
        for pair in self.sizes
        if len(pair) != 2 or any(n < 1 or n % self.shape[0] for n in pair)
      ]
    except TypeError:
      wrong = True
    if wrong or not self.sizes:
      self.refuse(
        'sizes', f'is not legal: pairs of multiples of the size {self.size}'
      )

  @property
  def shape(self) -> tuple[int, ...]:
    """(H, W, 3) of a tile."""
    size = self.size
    return (size, size, 3) if isinstance(size, int) else (*size, 3)

  @property
  def is_laid_out(self) -> bool:
    """Whether the tokens of an image are not those of its tiles in a row."""
    return self.scheme == 'padded'

  def make_cutter(self, number: int) -> tiles_lib.Cutter:
    """What cuts the images of a conversation.

    Args:
      number: how many there are.
    """
    size = (self.shape[0], self.shape[1])
    if self.scheme == 'padded' and number > 1:
      color = tuple(int(mean * 255) for mean in self.mean)
      return tiles_lib.SquareCutter(size, color, self.resample)
    if self.scheme == 'padded':
      return tiles_lib.PaddedCutter(size, self.sizes, self.resample)
    if self.scheme == 'sides':
      return tiles_lib.SideCutter(
        size, self.longest, self.splits, self.resample
      )
    return tiles_lib.RatioCutter(
      size, self.least, self.most, self.start, self.end, self.resample
    )

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    kind = images.Images if isinstance(value, list) else images.Image
    return kind.explain_fault(value)

  def get(self, record: Mapping[str, Any]) -> list[Any] | None:
    value = super().get(record)
    return value if value is None or isinstance(value, list) else [value]

  def write(self, value: Any) -> list[str | None]:
    """The text of an image; None stands for each of its tiles.

    Args:
      value: an encoded image, or uint8 [H, W, 3].

    Raises:
      ConfigError: if it is not an image.
    """
    cutter = self.make_cutter(1)
    return cutter.write(*cutter.find_grid(*_read_size(value)))

  def count_tiles(self, value: Any, number: int) -> int:
    """Number of tiles of an image, with the whole, one of `number` images."""
    rows, columns = self.make_cutter(number).find_grid(*_read_size(value))
    return 1 + rows * columns

  def lay_out(self, value: Any, number: int, tokens: int) -> anyres.Layout:
    """The tokens of an image, of the scheme padded.

    Args:
      value: an encoded image, or uint8 [H, W, 3].
      number: how many images the conversation has.
      tokens: number of tokens of a tile.

    Raises:
      ConfigError: if it is not an image.
    """
    side = math.isqrt(tokens)
    if number > 1:
      return anyres.lay_out_whole(side)
    size = _read_size(value)
    grid = self.make_cutter(1).find_grid(*size)
    return anyres.lay_out_tiles(size, *grid, side, self.most)

  def join(self, examples: Sequence[base.Example]) -> base.Example:
    parts = [part[self.name][part[f'{self.name}_mask']] for part in examples]
    return self._stack(np.concatenate(parts))

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the tiles of a batch; absent ones become zeros."""
    pixels, mask = batch[self.name], batch[f'{self.name}_mask']
    present = mask[..., None, None, None].astype(np.float32)
    normal = image_files.normalise(pixels, self.mean, self.std)
    return {self.name: normal * present}

  @classmethod
  def render(cls, value: Any) -> contact_sheet.Cell:
    values = value if isinstance(value, list) else [value]
    return images.render_grid([image_files.decode(item) for item in values]), []

  def _combine(self, arrays: Sequence[np.ndarray]) -> base.Example:
    """Cuts images uint8 [H, W, 3] of any sizes into one row of tiles."""
    cutter = self.make_cutter(len(arrays))
    cut = [
      np.asarray(tile, np.uint8)
      for array in arrays
      for tile in cutter.cut(PIL.Image.fromarray(array)).images
    ]
    if len(cut) > self.number:
      raise ConfigError(
        f'{self.name}: {len(arrays)} images have {len(cut)} tiles, more than '
        f'data.features.{self.name}.number={self.number}; raise it, or make '
        'images smaller'
      )
    return self._stack(np.reshape(cut, (-1, *self.shape)))

  def _stack(self, rows: np.ndarray) -> base.Example:
    """Makes the arrays of tiles, [at most n, H, W, 3]."""
    array = np.zeros((self.number, *self.shape), np.uint8)
    array[: len(rows)] = rows
    mask = np.arange(self.number) < len(rows)
    return {self.name: array, f'{self.name}_mask': mask}


def _read_size(value: Any) -> tuple[int, int]:
  """(height, width) of an encoded image, or of uint8 [H, W, 3]."""
  if isinstance(value, bytes):
    return image_files.read_size(value)
  return value.shape[0], value.shape[1]
