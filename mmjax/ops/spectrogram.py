"""Sound to a log-mel spectrogram."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Slaney's mel scale: 3 mels for 200 Hz up to 1 kHz, then logarithmic, 27 mels
# for a factor of 6.4.
_LINEAR = 200 / 3
_BREAK_HERTZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def log_mel(
  audio: Float[Array, 'B S'],
  *,
  num_mels: int = 80,
  n_fft: int = 400,
  hop: int = 160,
  sample_rate: int = 16_000,
) -> Float[Array, 'B F M']:
  """How loud each band of frequencies is over time, as Whisper hears it.

  Power spectra of overlapping Hann windows, the signal mirrored at its ends,
  summed in mel bands of Slaney's kind; their logarithm to base 10, no more than
  8 below the example's largest, shifted and scaled by (x + 4) / 4 (Radford et
  al. 2022, section 2.2, and its code).

  Args:
    audio: [B, samples], in -1..1. What an example is padded with is heard too.
    num_mels: M.
    n_fft: length of a window in samples.
    hop: samples from one window to the next.
    sample_rate: samples a second.

  Returns:
    [B, F, M] float32, F = samples // hop.

  Raises:
    ValueError: if there are too few samples to mirror.
  """
  samples = audio.shape[1]
  if samples <= n_fft // 2:
    raise ValueError(
      f'{samples} samples are too few for windows of {n_fft}, which need more '
      f'than {n_fft // 2}; pad the audio with zeros'
    )
  audio = audio.astype(jnp.float32)
  padded = jnp.pad(audio, ((0, 0), (n_fft // 2, n_fft // 2)), mode='reflect')
  starts = np.arange(samples // hop) * hop
  frames = padded[:, starts[:, None] + np.arange(n_fft)[None]]
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
  window = jnp.asarray(window, jnp.float32)[None, None]
  power = jnp.square(jnp.abs(jnp.fft.rfft(frames * window)))
  bands = jnp.asarray(mel_filters(num_mels, n_fft, sample_rate), jnp.float32)
  mels = jnp.einsum('bfn,nm->bfm', power, bands)
  logs = jnp.log10(jnp.maximum(mels, 1e-10))
  logs = jnp.maximum(logs, logs.max(axis=(1, 2), keepdims=True) - 8.0)
  return (logs + 4.0) / 4.0


@functools.cache
def mel_filters(
  num_mels: int, n_fft: int, sample_rate: int, highest: float = 8000.0
) -> Float[np.ndarray, 'N M']:
  """Overlapping triangles, evenly spaced on Slaney's mel scale, of equal area.

  As in Slaney's Auditory Toolbox (1998) and `librosa.filters.mel`.

  Args:
    num_mels: M.
    n_fft: length of the Fourier transform.
    sample_rate: samples a second.
    highest: frequency in hertz where the last band ends.

  Returns:
    float64 [n_fft // 2 + 1, M].
  """
  mels = np.linspace(0.0, _mel(highest), num_mels + 2)
  edges = np.where(
    mels < _BREAK_MEL,
    _LINEAR * mels,
    _BREAK_HERTZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL)),
  )
  frequencies = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None]
  low, middle, high = edges[:-2], edges[1:-1], edges[2:]
  rising = (frequencies - low) / (middle - low)
  falling = (high - frequencies) / (high - middle)
  return np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))


def _mel(hertz: float) -> float:
  if hertz < _BREAK_HERTZ:
    return hertz / _LINEAR
  return _BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP
