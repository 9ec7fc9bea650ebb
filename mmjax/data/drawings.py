"""Draws sounds, series and points as images, for people to look at."""

import numpy as np
import PIL.Image
import PIL.ImageDraw

SIZE = 160
_PAPER = (250, 250, 251)
_INK = (40, 90, 160)
_COLORS = (
  (40, 90, 160),
  (200, 80, 40),
  (50, 140, 70),
  (140, 70, 160),
  (190, 150, 30),
)
_WINDOW = 512  # Samples of a spectrogram's frame.
_DECIBELS = 80  # Range of a spectrogram.
_FLOOR = -20.0  # Decibels of the loudest, at least.
# Dark blue to yellow: red, green and blue at five levels.
_LEVELS = np.array(
  [[20, 10, 60], [70, 30, 120], [180, 60, 90], [240, 140, 60], [255, 240, 150]]
)


def draw_sound(samples: np.ndarray) -> np.ndarray:
  """Draws a waveform, and a spectrogram below it.

  Args:
    samples: [N] in -1..1.

  Returns:
    uint8 [SIZE, SIZE, 3]. The spectrogram spans 0 Hz, at the bottom, to half
    the sample rate, and 80 dB.
  """
  height = SIZE // 3
  image = PIL.Image.new('RGB', (SIZE, height), _PAPER)
  pen = PIL.ImageDraw.Draw(image)
  scale = max(np.abs(samples).max(), 1e-6)
  edges = np.linspace(0, len(samples), SIZE + 1).astype(int)
  for x in range(SIZE):
    # With the sample before it, so that the line has no gaps.
    part = samples[max(0, edges[x] - 1) : edges[x + 1]]
    if len(part):
      low, high = part.min() / scale, part.max() / scale
      middle, reach = height / 2, height / 2 - 1
      pen.line(
        [(x, middle - high * reach), (x, middle - low * reach)], fill=_INK
      )
  return np.concatenate([np.asarray(image), _draw_spectrogram(samples)])


def _draw_spectrogram(samples: np.ndarray) -> np.ndarray:
  """Draws power in decibels, uint8 [SIZE - SIZE // 3, SIZE, 3]."""
  size = (SIZE, SIZE - SIZE // 3)
  padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
  starts = np.linspace(0, len(padded) - _WINDOW, SIZE).astype(int)
  frames = padded[starts[:, None] + np.arange(_WINDOW)] * np.hanning(_WINDOW)
  power = np.square(np.abs(np.fft.rfft(frames, axis=1)))
  decibels = 10 * np.log10(power + 1e-10)
  # Of silence, the loudest is no louder than the rest.
  loudest = max(decibels.max(), _FLOOR)
  level = np.clip((decibels - loudest) / _DECIBELS + 1, 0, 1)
  colors = np.stack(
    [
      np.interp(level, np.linspace(0, 1, len(_LEVELS)), channel)
      for channel in _LEVELS.T
    ],
    axis=-1,
  )
  image = PIL.Image.fromarray(colors.astype(np.uint8).transpose(1, 0, 2)[::-1])
  return np.asarray(image.resize(size, PIL.Image.Resampling.BILINEAR))


def draw_series(values: np.ndarray) -> np.ndarray:
  """Draws the first columns of a series as lines.

  Args:
    values: [T, C]; each column is scaled to the image's height.

  Returns:
    uint8 [SIZE, SIZE, 3].
  """
  image = PIL.Image.new('RGB', (SIZE, SIZE), _PAPER)
  pen = PIL.ImageDraw.Draw(image)
  x = np.linspace(4, SIZE - 5, len(values))
  for column, color in zip(values.T, _COLORS, strict=False):
    low, high = column.min(), column.max()
    scaled = (column - low) / (high - low) if high > low else column * 0 + 0.5
    y = SIZE - 5 - scaled * (SIZE - 10)
    line = list(zip(x.tolist(), y.tolist(), strict=True))
    pen.line(line if len(line) > 1 else line * 2, fill=color, width=1)
  return np.asarray(image)


def draw_points(points: np.ndarray) -> np.ndarray:
  """Draws points from the front (x, z) and from the side (y, z).

  Args:
    points: [N, 3 + C] that begins with x, y and z.

  Returns:
    uint8 [SIZE, 2 * SIZE, 3]; farther points are lighter.
  """
  space = points[:, :3] - points[:, :3].mean(axis=0)
  space = space / max(np.abs(space).max(), 1e-6)
  views = [
    _draw_view(space[:, i], space[:, 2], space[:, 1 - i]) for i in (0, 1)
  ]
  return np.concatenate(views, axis=1)


def _draw_view(
  across: np.ndarray, up: np.ndarray, depth: np.ndarray
) -> np.ndarray:
  image = PIL.Image.new('RGB', (SIZE, SIZE), _PAPER)
  pen = PIL.ImageDraw.Draw(image)
  reach = SIZE / 2 - 6
  for i in np.argsort(-depth):
    x, y = SIZE / 2 + across[i] * reach, SIZE / 2 - up[i] * reach
    lightness = (depth[i] + 1) / 2 * 0.7
    color = tuple(round(c + (230 - c) * lightness) for c in _INK)
    pen.rectangle([x - 1, y - 1, x + 1, y + 1], fill=color)
  return np.asarray(image)
