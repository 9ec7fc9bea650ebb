"""Bending a picture: one augmentation, see `mmjax.data.augment`."""

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from mmjax.errors import ConfigError


def warp(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  scale: tuple[float, float] = (0.8, 1.25),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  degrees: float = 0.0,
  shear: float = 0.0,
  elastic: float = 0.0,
  cells: int = 4,
  fill: int = 128,
) -> UInt8[np.ndarray, 'H W 3']:
  """Looks at the image through a random, turned, slanted and uneven window.

  An affine map and the elastic deformation of Simard et al. 2003 (section 2) in
  one resampling; theirs smooths a shift of every pixel, ours interpolates
  between those of a coarse grid.

  Args:
    image: uint8 [H, W, 3].
    rng: draws all that follows, and where the window is: within the image or,
      where it is larger, so that the image is within.
    scale: range of the window's share of the area; above 1 the image shrinks.
    ratio: range of the window's width / height, times that of the image, drawn
      evenly on a log scale.
    degrees: the turn is drawn from [-degrees, degrees].
    shear: the slant, sideways per height, is drawn from [-shear, shear].
    elastic: standard deviation of the shifts of the grid's points, in halves of
      the sides.
    cells: the grid's cells along each side.
    fill: the grey of what lies outside the image.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: for a window without an area, or no cell.
  """
  if min(scale) <= 0 or cells < 1:
    raise ConfigError(
      f'warp scale {scale} and cells {cells} are not both above 0; use, say, '
      '(0.8, 1.25) and 4'
    )
  height, width = image.shape[:2]
  area = rng.uniform(*scale)
  aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
  sides = np.sqrt([area * aspect, area / aspect])
  angle = np.deg2rad(rng.uniform(-degrees, degrees))
  turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  slant = [[1, rng.uniform(-shear, shear)], [0, 1]]
  xs = np.linspace(0, width, cells + 1).round().astype(int)
  ys = np.linspace(0, height, cells + 1).round().astype(int)
  # Points are (x, y), from -1 to 1 across the image.
  points = np.stack(np.meshgrid(2 * xs / width - 1, 2 * ys / height - 1), -1)
  points = (points * sides) @ (np.asarray(turn) @ slant).T
  points += rng.uniform(-1, 1, size=2) * np.abs(1 - sides)
  points += rng.normal(size=points.shape) * elastic
  points = (points + 1) / 2 * (width, height)
  corners = [
    points[:-1, :-1],
    points[1:, :-1],
    points[1:, 1:],
    points[:-1, 1:],
  ]
  quads = np.concatenate(corners, axis=-1).reshape(-1, 8).tolist()
  boxes = [
    (int(xs[j]), int(ys[i]), int(xs[j + 1]), int(ys[i + 1]))
    for i in range(cells)
    for j in range(cells)
  ]
  picture = PIL.Image.fromarray(np.ascontiguousarray(image)).transform(
    (width, height),
    PIL.Image.Transform.MESH,
    list(zip(boxes, quads, strict=True)),
    PIL.Image.Resampling.BILINEAR,
    fillcolor=(fill, fill, fill),
  )
  return np.asarray(picture)
