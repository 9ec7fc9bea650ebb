"""Sounds of any rate and length become samples of one."""

import numpy as np
import pytest

from mmjax.data import audio, features
from mmjax.errors import ConfigError


def make_tone(rate, seconds, hertz=50):
  time = np.arange(round(rate * seconds)) / rate
  return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_another_rate_keeps_a_tone():
  feature = features.Sound(name='x', rate=1000, seconds=1.0)
  data = audio.encode_wave(make_tone(8000, 0.5), 8000)
  example = feature.make_arrays(data, None, flips=True)
  assert example['x_mask'].sum() == 500
  spectrum = np.abs(np.fft.rfft(example['x'][:500]))
  assert spectrum.argmax() == 25  # 50 Hz in half a second.
  np.testing.assert_allclose(
    example['x'][50:450], make_tone(1000, 0.5)[50:450], atol=5e-3
  )


def test_longer_sounds_are_cut_at_random_in_training():
  feature = features.Sound(name='x', rate=1000, seconds=0.1)
  ramp = np.linspace(0, 1, 300, dtype=np.float32)
  data = audio.encode_wave(ramp, 1000)
  firsts = set()
  for seed in range(30):
    rng = np.random.default_rng(seed)
    example = feature.make_arrays(data, rng, flips=True)
    assert example['x_mask'].all()
    firsts.add(round(float(example['x'][0]), 3))
  assert len(firsts) > 10
  first = feature.make_arrays(data, None, flips=True)['x']
  np.testing.assert_allclose(first, ramp[:100], atol=1e-4)


def test_people_pass_samples():
  feature = features.Sound(name='x', rate=1000, seconds=0.1)
  tone = make_tone(1000, 0.05)
  example = feature.prepare(tone)
  np.testing.assert_array_equal(example['x'][:50], tone)
  assert example['x_mask'].sum() == 50
  for wrong in (tone.astype(np.int16), tone[None], tone * np.nan):
    with pytest.raises(ConfigError, match=r'x (is the path|has samples)'):
      feature.prepare(wrong)
