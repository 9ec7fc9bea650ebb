"""Melodies are read as they were made."""

import random

import numpy as np
import pytest

from mmjax.data import melodies, melody_reader

RATE = melodies.SAMPLE_RATE


def make(melody, number, length=4_400):
  tones = melodies.make_tones(melody, number, random.Random(number))
  return np.pad(tones, (0, 4_400 - len(tones)))[:length]


@pytest.mark.parametrize('melody', melodies.NAMES)
def test_all_numbers_of_tones_are_read(melody):
  for number in range(4, 8):
    # The last of seven tones may be cut.
    for length in (4_400, 4_160):
      sound = make(melody, number, length)
      assert melody_reader.read(sound, RATE) == melody
      assert melody_reader.holds(sound, f'{melody} tones, a star', RATE)
  assert not melody_reader.holds(sound, 'tones', RATE)


def test_what_is_no_melody_is_read_as_none():
  rising = make('rising', 5)
  for sound in (
    np.zeros(4_400),
    np.random.default_rng(0).normal(0, 0.3, 4_400),
    np.where(np.arange(4_400) < 1_800, rising, 0),  # Three tones.
    np.roll(rising, 600),  # Silence first.
    np.tile(rising[:600], 7),  # One pitch.
    rising[::600].repeat(600),  # No tones.
    np.concatenate([rising[1_200:1_800], rising[:1_200], rising[1_800:]]),
  ):
    assert melody_reader.read(sound, RATE) is None
