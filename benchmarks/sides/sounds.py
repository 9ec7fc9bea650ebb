"""Log-mel spectrograms of eight sounds of 30 seconds, as Whisper reads them."""

import numpy as np

from benchmarks.sides.work import Work

_RATE = 16_000
# Of the result, what is compared.
_SHOWN = 50


def make_mmjax(tiny: bool) -> Work:
  """mmjax's `log_mel`, compiled."""
  import jax

  from mmjax import ops

  sounds = _draw(tiny)
  compute = jax.jit(ops.log_mel)

  def run():
    return np.asarray(compute(sounds))  # [B, F, M]

  return Work(run, {'output': run()[0, :_SHOWN].tolist()})


def make_transformers(tiny: bool) -> Work:
  """transformers' feature extractor."""
  import transformers

  sounds = _draw(tiny)
  extract = transformers.WhisperFeatureExtractor(
    chunk_length=sounds.shape[1] // _RATE
  )

  def run():
    found = extract(list(sounds), sampling_rate=_RATE, return_tensors='np')
    return found['input_features']  # [B, M, F]

  return Work(run, {'output': run()[0].T[:_SHOWN].tolist()})


def _draw(tiny: bool) -> np.ndarray:
  """Noise [8, S] of 30 seconds, or of one."""
  seconds = 1 if tiny else 30
  drawn = np.random.default_rng(0).normal(size=(8, seconds * _RATE))
  return (0.1 * drawn).astype(np.float32)
