"""Melodies of a few tones, of the data set `shapes_senses`."""

import random

import numpy as np

NAMES = ('rising', 'falling', 'peaking', 'dipping')
SAMPLE_RATE = 4_000
SECONDS_OF_TONE = 0.15


def make_tones(melody: str, number: int, rng: random.Random) -> np.ndarray:
  """Makes tones [S] in -1..1 whose pitches follow a melody, with noise.

  Args:
    melody: one of `NAMES`.
    number: number of tones, at least 3.
    rng: random generator of the pitches and the noise.
  """
  contour = make_contours(number)[melody]
  lowest, octaves = rng.uniform(220, 440), rng.uniform(0.7, 1.2)
  pitches = lowest * 2 ** (octaves * contour)
  time = np.arange(round(SECONDS_OF_TONE * SAMPLE_RATE)) / SAMPLE_RATE
  envelope = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
  tones = [np.sin(2 * np.pi * pitch * time) * envelope for pitch in pitches]
  noise = np.random.default_rng(rng.getrandbits(32))
  samples = 0.6 * np.concatenate(tones)
  return samples + noise.normal(0, 0.02, samples.shape)


def make_contours(number: int) -> dict[str, np.ndarray]:
  """The pitches [N] in 0..1 of N tones of each melody, by name."""
  rise = np.linspace(0, 1, number)
  return {
    'rising': rise,
    'falling': 1 - rise,
    'peaking': 1 - np.abs(2 * rise - 1),
    'dipping': np.abs(2 * rise - 1),
  }
