"""Encoders of spectrograms, applied to samples."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, choose
from mmjax.types import Array, Size, TokenVectors

_SPECTROGRAMS: dict[str, Callable[..., Array]] = {
  'log_mel': ops.log_mel,
  'log_fbank': ops.log_fbank,
}


class FromSamples(nn.Module):
  """Computes the spectrogram of a sound, and encodes that.

  Attributes:
    encoder: an encoder of spectrograms [B, F, M].
    sample_rate: samples a second.
    kind: 'log_mel' (`mmjax.ops.log_mel`, as Whisper) or 'log_fbank'
      (`mmjax.ops.log_fbank`, as Kaldi and AST).
    num_mels: M, number of bands.
    n_fft: length of the Fourier transform in samples.
    hop: number of samples from one frame to the next.
    mean: mean that is subtracted.
    scale: divisor of the result.
    fills_silence: whether the encoder gets padding as silence, and not masked,
      as Whisper was trained.
    padding: value, before the mean is subtracted, of frames that padding
      reaches into, which the encoder then gets unmasked, as AST was trained
      (0); None to mask them.
  """

  encoder: nn.Module
  sample_rate: Size = 16_000
  kind: str = 'log_mel'
  num_mels: Size = 80
  n_fft: Size = 400
  hop: Size = 160
  mean: float = 0.0
  scale: float = 1.0
  fills_silence: bool = False
  padding: float | None = None

  def __call__(
    self, samples: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Encodes sounds.

    Args:
      samples: [B, S] in -1..1.
      mask: [B, S], True where there is sound, before padding; None means
        everywhere. Samples where it is False change nothing.
      train: whether dropout is on.

    Returns:
      TokenVectors of the encoder.

    Raises:
      ConfigError: if `kind` is unknown, or there are too few samples.
    """
    return self.encoder(*self.compute(samples, mask), train=train)

  def compute(
    self, samples: Array, mask: Array | None = None
  ) -> tuple[Array, Array]:
    """The spectrogram [B, F, M] of samples [B, S], and its mask [B, F]."""
    if self.fills_silence and self.padding is not None:
      raise ConfigError(
        'spectrogram.fills_silence=True and spectrogram.padding='
        f'{self.padding} both say what padding is; remove one'
      )
    compute = choose(self.kind, _SPECTROGRAMS, 'spectrogram.kind')
    ops.check_mask(mask, samples, 'samples', 'B S')
    if mask is None:
      mask = jnp.ones(samples.shape, bool)
    spectrogram = compute(
      jnp.where(mask, samples, 0.0),
      num_mels=self.num_mels,
      n_fft=self.n_fft,
      hop=self.hop,
      sample_rate=self.sample_rate,
    )
    frames = self.mask_frames(mask, spectrogram.shape[1])
    if self.padding is not None:
      size = ops.FBANK_FRAME if self.kind == 'log_fbank' else self.hop
      whole = mask[:, size - 1 :: self.hop][:, : frames.shape[1]]  # [B, F]
      spectrogram = jnp.where(whole[:, :, None], spectrogram, self.padding)
    spectrogram = (spectrogram - self.mean) / self.scale  # [B, F, M]
    if self.fills_silence or self.padding is not None:
      frames = jnp.broadcast_to(mask.any(axis=1, keepdims=True), frames.shape)
    return spectrogram, frames

  def mask_frames(self, mask: Array, number: int) -> Array:
    """Which of F frames are of sound and not of padding, bool [B, F].

    Args:
      mask: [B, S], True where there is sound.
      number: F.
    """
    return mask[:, :: self.hop][:, :number]
