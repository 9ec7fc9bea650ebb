"""Small encoded images, sounds and arrays."""

import io

import numpy as np
import PIL.Image

from mmjax.data import audio


def make_image(seed: int, format: str = 'PNG', count: int = 1) -> bytes:
  """Encodes random images 5 pixels high and 7 wide, several as an animation."""
  rng = np.random.default_rng(seed)
  frames = [
    PIL.Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    for _ in range(count)
  ]
  file = io.BytesIO()
  more = {'save_all': True, 'append_images': frames[1:]} if count > 1 else {}
  frames[0].save(file, format, **more)
  return file.getvalue()


def make_sound(seconds: float = 0.5, rate: int = 1000) -> bytes:
  time = np.arange(round(seconds * rate)) / rate
  return audio.encode_wave(0.5 * np.sin(2 * np.pi * 50 * time), rate)


def save_npy(array: np.ndarray) -> bytes:
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()
