"""How edges are drawn: augmentations, see `mmjax.data.augment`."""

import numpy as np
import PIL.Image
import PIL.ImageFilter
from jaxtyping import UInt8


def sharpness(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  strength: float = 1.0,
  p: float = 0.5,
) -> UInt8[np.ndarray, 'H W 3']:
  """Blurs or sharpens: a random step towards the 3x3 mean or away from it.

  Args:
    image: uint8 [H, W, 3].
    rng: draws whether, which and how much.
    strength: the step is drawn from [-strength, strength]; 1 is all the way to
      the mean, -1 as far away from it.
    p: probability that it happens.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  picture = PIL.Image.fromarray(np.ascontiguousarray(image))
  blurred = picture.filter(PIL.ImageFilter.BoxBlur(1))
  step = rng.uniform(-strength, strength)
  return np.asarray(PIL.Image.blend(picture, blurred, step))


def outline(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  strength: tuple[float, float] = (0.5, 3.0),
  drawing: float = 0.3,
  p: float = 0.3,
) -> UInt8[np.ndarray, 'H W 3']:
  """Draws dark lines along edges, so that drawing styles matter less.

  An edge is as strong as brightness differs within 3x3 pixels (the
  morphological gradient, Rivest et al. 1993).

  Args:
    image: uint8 [H, W, 3].
    rng: draws whether, how dark and on what.
    strength: range of the lines' darkness; at 1, an edge between black and
      white is black, at 3 so is one of a third of that.
    drawing: probability of lines on white, rather than on the picture.
    p: probability that anything happens.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  grey = np.pad(image.mean(axis=2, dtype=np.float32), 1, mode='edge')
  highest = np.maximum(np.maximum(grey[:-2], grey[1:-1]), grey[2:])
  lowest = np.minimum(np.minimum(grey[:-2], grey[1:-1]), grey[2:])
  highest = np.maximum(
    np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:]
  )
  lowest = np.minimum(
    np.minimum(lowest[:, :-2], lowest[:, 1:-1]), lowest[:, 2:]
  )
  darkness = (highest - lowest) * np.float32(rng.uniform(*strength) / 255)
  light = np.clip(1 - darkness, 0, 1)[..., None]
  canvas = np.float32(255) if rng.random() < drawing else image
  lines = np.broadcast_to(np.rint(canvas * light), image.shape)
  return lines.astype(np.uint8)
