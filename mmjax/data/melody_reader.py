"""Reads the melody of tones, as `mmjax.data.melodies` makes them, by rule.

Nothing is learnt: tones are found by their loudness, their pitches by the
highest peak of their spectra, and the pitches are compared with each melody.
"""

import re

import numpy as np

from mmjax.data import melodies

_LOUD = 0.1  # Root mean square; tones have 0.4, the noise 0.02.
_PURE = 0.5  # Least share of a tone's power around its pitch.
_AROUND = 25.0  # Hz; in a tone's 0.15 s, a pitch is about 14 wide.
_OCTAVES = 0.3  # Least distance of the highest pitch from the lowest.
_ALIKE = 0.95  # Least correlation of pitches and melody.
_FEWEST = 4
_PADDED = 8_192  # Points of a spectrum.


def read(samples: np.ndarray, rate: int) -> str | None:
  """The melody of a sound, one of `melodies.NAMES`.

  Args:
    samples: [S] in -1..1: tones of `melodies.SECONDS_OF_TONE` from the
      start on, then silence.
    rate: samples a second.

  Returns:
    None if there is none: fewer than four tones, noise, or another order of
    pitches.
  """
  length = round(melodies.SECONDS_OF_TONE * rate)
  parts = [
    samples[start : start + length]
    # The last tone may be cut.
    for start in range(0, len(samples) - length // 2, length)
  ]
  is_loud = [np.sqrt(np.mean(np.square(part))) > _LOUD for part in parts]
  number = is_loud.index(False) if False in is_loud else len(is_loud)
  if number < _FEWEST or any(is_loud[number:]):
    return None
  pitches = [_find_pitch(part, rate) for part in parts[:number]]
  if None in pitches or np.ptp(pitches) < _OCTAVES:
    return None
  alike = {
    name: np.corrcoef(contour, pitches)[0, 1]
    for name, contour in melodies.make_contours(number).items()
  }
  best = max(alike, key=alike.get)
  return best if alike[best] >= _ALIKE else None


def holds(samples: np.ndarray, text: str, rate: int) -> bool:
  """Whether a sound has the melody that a text names."""
  return read(samples, rate) in re.findall(r'\w+', text)


def _find_pitch(part: np.ndarray, rate: int) -> float | None:
  """The pitch of a tone in octaves above 1 Hz; None of noise."""
  power = np.abs(np.fft.rfft(part * np.hanning(len(part)), _PADDED)) ** 2
  hertz = np.fft.rfftfreq(_PADDED, 1 / rate)
  peak = hertz[power[1:].argmax() + 1]
  if power[np.abs(hertz - peak) < _AROUND].sum() < _PURE * power.sum():
    return None
  return float(np.log2(peak))
