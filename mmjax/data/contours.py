"""Augmentations of edges for `mmjax.data.augment`."""

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
    rng: random generator for whether, which and how much.
    strength: largest step either way; a step of 1 gives the mean, of -1 as much
      sharpening.
    p: probability of any change.

  Returns:
    uint8 [H, W, 3].
  """
  if rng.random() >= p:
    return image
  source = PIL.Image.fromarray(np.ascontiguousarray(image))
  blurred = source.filter(PIL.ImageFilter.BoxBlur(1))
  step = rng.uniform(-strength, strength)
  return np.asarray(PIL.Image.blend(source, blurred, step))


def outline(
  image: UInt8[np.ndarray, 'H W 3'],
  rng: np.random.Generator,
  *,
  strength: tuple[float, float] = (0.5, 3.0),
  drawing: float = 0.3,
  p: float = 0.3,
) -> UInt8[np.ndarray, 'H W 3']:
  """Draws dark lines along edges, so that drawing styles matter less.

  The strength of an edge is the range of brightness within 3x3 pixels (the
  morphological gradient, Rivest et al. 1993).

  Args:
    image: uint8 [H, W, 3].
    rng: random generator for whether, how dark and on what.
    strength: range of the lines' darkness. At 1, an edge between black and
      white is drawn in black; at 3, an edge of a third of that contrast too.
    drawing: probability of lines on white, rather than on the image.
    p: probability of any change.

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
