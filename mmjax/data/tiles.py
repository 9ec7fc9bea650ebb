"""Images cut into tiles of one size, as vision-language models read them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import PIL.Image

from mmjax.ops import anyres

# Longest side that `SideCutter` resizes to.
_LONGEST = 4096


@dataclasses.dataclass(frozen=True)
class Tiles:
  """An image as tiles.

  Attributes:
    images: Pillow images of one size: the tiles, rows first, and the whole
      image, at last unless a cutter says otherwise; or that alone.
    rows: number of rows of tiles; 0 for the whole image alone.
    columns: number of columns of tiles; 0 for the whole image alone.
  """

  images: Sequence[PIL.Image.Image]
  rows: int = 0
  columns: int = 0


class Cutter(Protocol):
  """How a family of models cuts images.

  Attributes:
    size: (height, width) of a tile.
  """

  size: tuple[int, int]

  def find_grid(self, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles of an image; 0 for the whole image alone.

    Args:
      height: height of the image in pixels.
      width: width of the image in pixels.
    """

  def cut(self, image: PIL.Image.Image) -> Tiles:
    """Cuts an RGB image."""


class WritingCutter(Cutter, Protocol):
  """A cutter of a family whose texts tell the tiles of an image apart."""

  def write(self, rows: int, columns: int) -> list[str | None]:
    """The text around the tiles of an image; None stands for each tile."""


@dataclasses.dataclass(frozen=True)
class SideCutter:
  """Stretches the sides of an image to whole tiles, as Idefics3 and SmolVLM.

  Attributes:
    size: (height, width) of a tile, equal.
    longest: length of the longer side before; 0 for the image's.
    splits: whether it is cut.
    resample: Pillow's number of the filter.
  """

  size: tuple[int, int]
  longest: int = 0
  splits: bool = True
  resample: int = PIL.Image.Resampling.LANCZOS

  def find_grid(self, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles; 0 for the whole image alone."""
    if not self.splits:
      return 0, 0
    columns, rows = (
      length // self.size[0]
      for length in self._stretch(self._fit(height, width))
    )
    return (0, 0) if rows == columns == 1 else (rows, columns)

  def cut(self, image: PIL.Image.Image) -> Tiles:
    """Cuts an RGB image."""
    rows, columns = self.find_grid(image.height, image.width)
    kind = PIL.Image.Resampling(self.resample)
    fitted = self._fit(image.height, image.width)
    if self.longest:
      image = image.resize(fitted, kind)
    if not self.splits:
      return Tiles([image.resize(self.size, kind)])
    image = image.resize(self._stretch(fitted), kind)
    if not rows:
      return Tiles([image])
    cut = cut_grid(image, rows, columns)
    return Tiles([*cut, image.resize(self.size, kind)], rows, columns)

  def write(self, rows: int, columns: int) -> list[str | None]:
    """The text around the tiles of an image; None stands for each tile."""
    mark = '<fake_token_around_image>'
    out: list[str | None] = []
    for row in range(1, rows + 1):
      for column in range(1, columns + 1):
        out += [mark, f'<row_{row}_col_{column}>', None]
      out.append('\n' if row < rows else '\n\n')
    return [*out, mark, '<global-img>', None, mark]

  def _fit(self, height: int, width: int) -> tuple[int, int]:
    """(width, height) with the longer side `longest`, the other even."""
    if not self.longest:
      return width, height
    ratio, longest = width / height, self.longest
    even = lambda length: max(1, length + length % 2)
    if ratio >= 1:
      width, height = longest, even(int(longest / ratio))
    else:
      width, height = even(int(longest * ratio)), longest
    ratio = width / height
    if width >= height and width > _LONGEST:
      width, height = _LONGEST, int(_LONGEST / ratio)
    elif height > width and height > _LONGEST:
      width, height = int(_LONGEST * ratio), _LONGEST
    return max(1, width), max(1, height)

  def _stretch(self, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) in whole tiles."""
    (width, height), side = size, self.size[0]
    whole = lambda length: math.ceil(length / side) * side
    if width >= height:
      return whole(width), whole(int(whole(width) / (width / height)))
    return whole(int(whole(height) * (width / height))), whole(height)


@dataclasses.dataclass(frozen=True)
class RatioCutter:
  """Cuts an image into tiles in the ratio of its sides, as InternVL.

  Chen et al. 2024, section 3.3, in their code.

  Attributes:
    size: (height, width) of a tile.
    least: smallest number of tiles.
    most: largest number of tiles.
    start: token before the tiles.
    end: token behind them.
    resample: Pillow's number of the filter.
  """

  size: tuple[int, int]
  least: int = 1
  most: int = 12
  start: str = '<img>'
  end: str = '</img>'
  resample: int = PIL.Image.Resampling.BICUBIC

  def find_grid(self, height: int, width: int) -> tuple[int, int]:
    """Rows and columns whose ratio is nearest to the image's; 0 for one tile.

    Of equally near ones, the largest whose tiles have less than twice the
    image's pixels.
    """
    ratio, area = width / height, width * height
    grids = [
      (rows, columns)
      for columns in range(1, self.most + 1)
      for rows in range(1, self.most + 1)
      if self.least <= rows * columns <= self.most
    ]
    best, nearest = (1, 1), math.inf
    for rows, columns in sorted(grids, key=math.prod):
      distance = abs(ratio - columns / rows)
      fills = area > 0.5 * math.prod(self.size) * rows * columns
      if distance < nearest or (distance == nearest and fills):
        best, nearest = (rows, columns), distance
    return (0, 0) if best == (1, 1) else best

  def cut(self, image: PIL.Image.Image) -> Tiles:
    """Cuts an RGB image."""
    height, width = self.size
    rows, columns = self.find_grid(image.height, image.width)
    kind = PIL.Image.Resampling(self.resample)
    whole = image.resize((width, height), kind)
    if not rows:
      return Tiles([whole])
    stretched = image.resize((columns * width, rows * height), kind)
    return Tiles([*cut_grid(stretched, rows, columns), whole], rows, columns)

  def write(self, rows: int, columns: int) -> list[str | None]:
    """The text around the tiles of an image; None stands for each tile."""
    number = rows * columns + 1
    return [self.start, *[None] * number, self.end]


@dataclasses.dataclass(frozen=True)
class PaddedCutter:
  """Cuts an image into tiles of one of several sizes, padded with black.

  As LLaVA-NeXT and LLaVA-OneVision (Li et al. 2024, section 3.2). The whole
  image comes first.

  Attributes:
    size: (height, width) of a tile.
    sizes: (height, width) that an image may have before it is cut, in whole
      tiles.
    resample: Pillow's number of the filter.
  """

  size: tuple[int, int]
  sizes: Sequence[tuple[int, int]]
  resample: int = PIL.Image.Resampling.BICUBIC

  def find_grid(self, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles."""
    chosen = anyres.choose_size((height, width), self.sizes)
    return chosen[0] // self.size[0], chosen[1] // self.size[1]

  def cut(self, image: PIL.Image.Image) -> Tiles:
    """Cuts an RGB image."""
    kind = PIL.Image.Resampling(self.resample)
    size = (image.height, image.width)
    chosen = anyres.choose_size(size, self.sizes)
    inner = anyres.fit_inside(size, chosen)
    canvas = PIL.Image.new('RGB', chosen[::-1])
    corner = ((chosen[1] - inner[1]) // 2, (chosen[0] - inner[0]) // 2)
    canvas.paste(image.resize(inner[::-1], kind), corner)
    rows, columns = self.find_grid(*size)
    whole = image.resize(self.size[::-1], kind)
    return Tiles([whole, *cut_grid(canvas, rows, columns)], rows, columns)


@dataclasses.dataclass(frozen=True)
class SquareCutter:
  """Pads an image to a square and resizes it to one tile, as LLaVA-OneVision.

  Attributes:
    size: (height, width) of the tile.
    color: color of the padding, in 0..255.
    resample: Pillow's number of the filter.
  """

  size: tuple[int, int]
  color: tuple[int, int, int]
  resample: int = PIL.Image.Resampling.BICUBIC

  def find_grid(self, height: int, width: int) -> tuple[int, int]:
    """There are no tiles."""
    del height, width
    return 0, 0

  def cut(self, image: PIL.Image.Image) -> Tiles:
    """Pads and resizes an RGB image."""
    side = max(image.size)
    canvas = PIL.Image.new('RGB', (side, side), self.color)
    corner = ((side - image.width) // 2, (side - image.height) // 2)
    canvas.paste(image, corner)
    kind = PIL.Image.Resampling(self.resample)
    return Tiles([canvas.resize(self.size[::-1], kind)])


def cut_grid(
  image: PIL.Image.Image, rows: int, columns: int
) -> list[PIL.Image.Image]:
  """Cuts an image into tiles of one size, rows first."""
  width, height = image.width // columns, image.height // rows
  return [
    image.crop(
      (column * width, row * height, (column + 1) * width, (row + 1) * height)
    )
    for row in range(rows)
    for column in range(columns)
  ]
