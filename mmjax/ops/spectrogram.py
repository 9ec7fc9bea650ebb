"""Log-mel spectrograms of audio, and the distance of spectra."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmjax.errors import ConfigError

# Slaney's mel scale: 3 mels for 200 Hz up to 1 kHz, then logarithmic, 27 mels
# for a factor of 6.4.
_LINEAR = 200 / 3
_BREAK_HERTZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27
# Samples of a frame of Kaldi's filter banks: 25 ms at 16 kHz.
FBANK_FRAME = 400


def log_mel(
  audio: Float[Array, 'B S'],
  *,
  num_mels: int = 80,
  n_fft: int = 400,
  hop: int = 160,
  sample_rate: int = 16_000,
) -> Float[Array, 'B F M']:
  """Log-mel spectrograms, as Whisper computes them.

  Power spectra of overlapping Hann windows, with the signal mirrored at its
  ends, are summed in Slaney's mel bands up to 8 kHz, or to half the sample
  rate if that is less. Their logarithms to base 10 are
  clipped to at most 8 below the example's largest, then scaled by (x + 4) / 4
  (Radford et al. 2022, section 2.2, and its code).

  Args:
    audio: samples [B, S] in -1..1. Padding counts as audio.
    num_mels: number of mel bands, M.
    n_fft: length of a window in samples.
    hop: number of samples from one window to the next.
    sample_rate: samples per second.

  Returns:
    Spectrograms [B, F, M] in float32, F = S // hop.

  Raises:
    ConfigError: if there are too few samples to mirror.
  """
  samples = audio.shape[1]
  if samples <= n_fft // 2:
    raise ConfigError(
      f'{samples} samples are too few for windows of {n_fft}, which need more '
      f'than {n_fft // 2}; use more seconds, or a smaller n_fft'
    )
  audio = audio.astype(jnp.float32)
  padded = jnp.pad(audio, ((0, 0), (n_fft // 2, n_fft // 2)), mode='reflect')
  frames = _frames(padded, samples // hop, hop, n_fft)
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
  highest = min(8000.0, sample_rate / 2)
  bands = mel_filters(num_mels, n_fft, sample_rate, highest)
  logs = jnp.log10(jnp.maximum(_bands(frames, window, n_fft, bands), 1e-10))
  logs = jnp.maximum(logs, logs.max(axis=(1, 2), keepdims=True) - 8.0)
  return (logs + 4.0) / 4.0


def log_fbank(
  audio: Float[Array, 'B S'],
  *,
  num_mels: int = 128,
  frame: int = FBANK_FRAME,
  n_fft: int = 512,
  hop: int = 160,
  sample_rate: int = 16_000,
  lowest: float = 20.0,
) -> Float[Array, 'B F M']:
  """Log-mel filter banks as Kaldi computes them.

  The mean of each frame is subtracted, and 0.97 of each sample from the next
  one. Then come a Hann window that ends at 0, power spectra, triangular bands
  on the mel scale 1127 ln(1 + f / 700), and the natural logarithm (Kaldi's
  compute-fbank with window-type=hanning and without dithering; torchaudio's
  `compliance.kaldi.fbank`).

  Args:
    audio: samples [B, S] in -1..1.
    num_mels: number of mel bands, M.
    frame: number of samples in a frame; an incomplete last one is dropped.
    n_fft: length of the Fourier transform, to which frames are padded.
    hop: number of samples from one frame to the next.
    sample_rate: samples per second.
    lowest: frequency in hertz at which the first band begins; the last ends at
      half the sample rate.

  Returns:
    Filter banks [B, F, M] in float32, F = (S - frame) // hop + 1.

  Raises:
    ConfigError: if there are fewer samples than a frame has.
  """
  samples = audio.shape[1]
  if samples < frame:
    raise ConfigError(
      f'{samples} samples are fewer than a frame of {frame}; pad the audio'
    )
  number = (samples - frame) // hop + 1
  frames = _frames(audio.astype(jnp.float32), number, hop, frame)
  frames = frames - frames.mean(axis=-1, keepdims=True)
  before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
  bands = _kaldi_filters(num_mels, n_fft, sample_rate, lowest)
  power = _bands(frames - 0.97 * before, np.hanning(frame), n_fft, bands)
  return jnp.log(jnp.maximum(power, jnp.finfo(jnp.float32).eps))


def spectral_distance(
  one: Float[Array, 'B S'],
  other: Float[Array, 'B S'],
  windows: Sequence[int] = (64, 128, 256, 512),
) -> Float[Array, ' B']:
  """Distance of the magnitudes of two batches of sounds, and of their logs.

  The mean absolute difference of short-time Fourier magnitudes and that of
  their natural logarithms, in Hann windows of several lengths, each a quarter
  of its length from the next (the terms of Yamamoto et al. 2020, equations 4 to
  6, with absolute differences in the first, as in EnCodec, Défossez et al.
  2022, equation 2). Magnitudes are divided by the root of the window's energy,
  and silence counts as 0.01.

  Args:
    one: samples [B, S].
    other: samples [B, S].
    windows: numbers of samples of the windows; sounds are padded to the longest
      with zeros.
  """
  parts = []
  for size in windows:
    window = np.hanning(size + 1)[:-1]
    hop = size // 4
    missing = max(size - one.shape[1], -(one.shape[1] - size) % hop)
    pair = jnp.pad(jnp.stack([one, other]), ((0, 0), (0, 0), (0, missing)))
    flat = pair.reshape(-1, pair.shape[-1]).astype(jnp.float32)
    number = (flat.shape[1] - size) // hop + 1
    frames = _frames(flat, number, hop, size)
    frames = frames * jnp.asarray(window, jnp.float32)[None, None]
    waves = jnp.fft.rfft(frames)
    power = (jnp.square(waves.real) + jnp.square(waves.imag)) / np.sum(
      np.square(window)
    )
    # Of a root, the gradient at 0 is not finite.
    magnitudes = jnp.sqrt(power + 1e-4).reshape(*pair.shape[:2], number, -1)
    gap = lambda x: jnp.abs(x[0] - x[1]).mean(axis=(1, 2))
    parts.append(gap(magnitudes) + gap(jnp.log(magnitudes)))
  return sum(parts) / len(parts)


def _frames(audio: Array, number: int, hop: int, size: int) -> Array:
  """Cuts [B, S] into [B, number, size], `hop` apart."""
  starts = np.arange(number) * hop
  return audio[:, starts[:, None] + np.arange(size)[None]]


def _bands(
  frames: Array, window: np.ndarray, n_fft: int, filters: np.ndarray
) -> Array:
  """Power of frames [B, F, size] in mel bands, [B, F, M]."""
  windowed = frames * jnp.asarray(window, jnp.float32)[None, None]
  power = jnp.square(jnp.abs(jnp.fft.rfft(windowed, n_fft)))
  filters = jnp.asarray(filters, jnp.float32)
  return jnp.einsum('bfn,nm->bfm', power, filters)


@functools.cache
def _kaldi_filters(
  num_mels: int, n_fft: int, sample_rate: int, lowest: float
) -> np.ndarray:
  """Triangles [n_fft // 2 + 1, M], evenly spaced on Kaldi's mel scale."""
  mel = lambda hertz: 1127 * np.log1p(hertz / 700)
  edges = np.linspace(mel(lowest), mel(sample_rate / 2), num_mels + 2)
  bins = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)
  return _triangles(edges, bins)


@functools.cache
def mel_filters(
  num_mels: int, n_fft: int, sample_rate: int, highest: float = 8000.0
) -> Float[np.ndarray, 'N M']:
  """Overlapping triangles, evenly spaced on Slaney's mel scale, of equal area.

  As in Slaney's Auditory Toolbox (1998) and `librosa.filters.mel`.

  Args:
    num_mels: number of mel bands, M.
    n_fft: length of the Fourier transform.
    sample_rate: samples per second.
    highest: frequency in hertz at which the last band ends.

  Returns:
    Weights [n_fft // 2 + 1, M] in float64.
  """
  mels = np.linspace(0.0, _mel(highest), num_mels + 2)
  edges = np.where(
    mels < _BREAK_MEL,
    _LINEAR * mels,
    _BREAK_HERTZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL)),
  )
  frequencies = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
  return _triangles(edges, frequencies) * (2 / (edges[2:] - edges[:-2]))


def _triangles(edges: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Triangles [N, M] at N points; each begins, peaks and ends at an edge."""
  low, middle, high = edges[:-2], edges[1:-1], edges[2:]
  rising = (points[:, None] - low) / (middle - low)
  falling = (high - points[:, None]) / (high - middle)
  return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz: float) -> float:
  if hertz < _BREAK_HERTZ:
    return hertz / _LINEAR
  return _BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP
