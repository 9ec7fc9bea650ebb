"""Sound files."""

import wave

import numpy as np
import pytest

from mmjax.data import audio


def _write_wav(path, samples, width, rate=16_000, channels=1):
  scale = 2 ** (8 * width - 1)
  whole = np.round(samples * scale).clip(-scale, scale - 1).astype('<i8')
  if width == 1:
    whole = whole + 128
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(channels)
    file.setsampwidth(width)
    file.setframerate(rate)
    raw = whole.reshape(-1).astype('<i8').view(np.uint8).reshape(-1, 8)
    file.writeframes(raw[:, :width].tobytes())
  return path


@pytest.mark.parametrize('width', [1, 2, 3, 4])
def test_every_width_is_read(width, tmp_path):
  samples = np.asarray([0.0, 0.5, -0.5, -1.0, 0.25, -0.75])
  got = audio.read(_write_wav(tmp_path / 'a.wav', samples, width), 16_000)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, samples)


def test_channels_are_averaged(tmp_path):
  samples = np.asarray([[0.5, 0.25], [-0.5, 0.0], [0.0, 0.75]])
  path = _write_wav(tmp_path / 'a.wav', samples, 2, channels=2)
  np.testing.assert_array_equal(audio.read(path, 16_000), [0.375, -0.25, 0.375])


@pytest.mark.parametrize('rate', [8000, 22_050, 44_100])
def test_another_rate_keeps_a_tone(rate, tmp_path):
  tone = lambda rate: 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
  got = audio.read(_write_wav(tmp_path / 'a.wav', tone(rate), 2, rate), 16_000)
  assert got.shape == (16_000,)
  # Away from the ends; the filter keeps 440 Hz to half a percent.
  np.testing.assert_allclose(got[500:-500], tone(16_000)[500:-500], atol=2.5e-3)


def test_frequencies_above_the_new_rate_are_removed():
  high = np.sin(2 * np.pi * 11_000 * np.arange(44_100) / 44_100)
  got = audio.resample(high, 44_100, 16_000)
  assert np.abs(got[500:-500]).max() < 5e-3
