"""An augmentation that warps images, for `mmjax.data.augment`."""

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
  """Applies a random crop, rotation, shear and elastic deformation.

  The affine map and the elastic deformation of Simard et al. 2003 (section 2)
  are one resampling. Theirs smooths a random shift of every pixel; this one
  interpolates between the shifts of a coarse grid.

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for all parameters, and for the crop's position:
      inside the image or, if the crop is larger, around it.
    scale: range of the crop's area, as a fraction of the image's; above 1 the
      image shrinks.
    ratio: range of the crop's width / height, relative to that of the image,
      drawn uniformly on a log scale.
    degrees: largest rotation either way.
    shear: largest shear either way, as horizontal shift per height.
    elastic: standard deviation of the shifts of the grid's points, in halves of
      the sides.
    cells: number of the grid's cells along each side.
    fill: grey value of pixels outside the image.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ConfigError: if a scale or the number of cells is not positive.
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
  rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  shear_matrix = [[1, rng.uniform(-shear, shear)], [0, 1]]
  xs = np.linspace(0, width, cells + 1).round().astype(int)
  ys = np.linspace(0, height, cells + 1).round().astype(int)
  # Points are (x, y), from -1 to 1 across the image.
  points = np.stack(np.meshgrid(2 * xs / width - 1, 2 * ys / height - 1), -1)
  points = (points * sides) @ (np.asarray(rotation) @ shear_matrix).T
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
  warped = PIL.Image.fromarray(np.ascontiguousarray(image)).transform(
    (width, height),
    PIL.Image.Transform.MESH,
    list(zip(boxes, quads, strict=True)),
    PIL.Image.Resampling.BILINEAR,
    fillcolor=(fill, fill, fill),
  )
  return np.asarray(warped)
