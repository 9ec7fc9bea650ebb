"""Log-mel spectrograms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops


def test_a_tone_is_loudest_in_its_band():
  # 3 kHz lies at 15 + 27 ln(3) / ln(6.4) = 30.98 mels of 45.25 up to 8 kHz, so
  # between the edges 27 and 29 of the 41 steps of 40 bands.
  time = np.arange(8000) / 16_000
  tone = jnp.asarray(np.sin(2 * np.pi * 3000 * time), jnp.float32)[None]
  spectrogram = ops.log_mel(tone, num_mels=40)
  assert spectrogram.shape == (1, 50, 40)
  assert set(np.asarray(spectrogram[0, 3:-3].argmax(-1))) == {27}


def test_power_is_logarithmic_and_floored():
  rng = np.random.default_rng(0)
  noise = jnp.asarray(rng.normal(0, 0.01, (1, 1600)), jnp.float32)
  quiet, loud = ops.log_mel(noise), ops.log_mel(10 * noise)
  # Ten times the amplitude is two decades more power, and (2 + 4) / 4 - 4 / 4.
  np.testing.assert_allclose(loud - quiet, 0.5, atol=1e-5)
  silence = ops.log_mel(jnp.zeros((1, 1600)))
  np.testing.assert_array_equal(silence, (np.log10(1e-10) + 4) / 4)
  half = ops.log_mel(noise.at[:, 800:].set(0) * 100)
  # No more than 8 decades below the largest.
  np.testing.assert_allclose(half.max() - half.min(), 2.0, atol=1e-5)


def test_examples_do_not_change_each_other():
  rng = np.random.default_rng(0)
  audio = jnp.asarray(rng.normal(size=(2, 2000)), jnp.float32)
  audio = audio.at[1].mul(1e-3)
  both = jax.jit(ops.log_mel)(audio)
  np.testing.assert_allclose(both[1:], ops.log_mel(audio[1:]), atol=1e-5)


@pytest.mark.parametrize('num_mels', [80, 128])
def test_filters_are_triangles_of_equal_area(num_mels):
  filters = ops.mel_filters(num_mels, 4000, 16_000)  # Bins 4 Hz apart.
  assert filters.shape == (2001, num_mels)
  np.testing.assert_allclose(filters.sum(0) * 4, 1, atol=0.03)
  peaks = filters.argmax(0)
  assert (np.diff(peaks) > 0).all()
  # Neighbours meet: where one peaks, the next begins.
  assert filters[peaks[:-1] - 1, np.arange(1, num_mels)].max() < 1e-3


def test_too_short_audio_is_refused():
  with pytest.raises(ValueError, match='200 samples are too few'):
    ops.log_mel(jnp.zeros((1, 200)))


def test_kaldi_banks_by_hand():
  rng = np.random.default_rng(0)
  audio = rng.normal(0, 0.1, 1000) + 0.5
  got = ops.log_fbank(jnp.asarray(audio, jnp.float32)[None], num_mels=20)
  assert got.shape == (1, 4, 20)
  frame = audio[160:560] - audio[160:560].mean()
  frame = frame - 0.97 * np.r_[frame[0], frame[:-1]]
  power = np.abs(np.fft.rfft(frame * np.hanning(400), 512)) ** 2
  mels = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
  first, last = 1127 * np.log(1 + np.asarray([20, 8000]) / 700)
  step = (last - first) / 21
  want = [
    power @ np.maximum(0, 1 - np.abs(mels - first - (i + 1) * step) / step)
    for i in range(20)
  ]
  np.testing.assert_allclose(got[0, 1], np.log(want), atol=1e-4)
  silence = ops.log_fbank(jnp.full((1, 400), 0.5))
  np.testing.assert_allclose(silence, np.log(2.0**-23), rtol=1e-6)


def test_less_than_a_frame_is_refused():
  with pytest.raises(ValueError, match='399 samples are fewer than a frame of'):
    ops.log_fbank(jnp.zeros((1, 399)))
