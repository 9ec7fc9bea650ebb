"""A language model with sounds among its words."""

import flax.linen as nn
import jax.numpy as jnp

from mmjax.models import vision_language
from mmjax.types import Array, Batch, Tokens


class InterleavedAudioLanguage(
  vision_language.InterleavedVisionLanguage, kw_only=True
):
  """Writes on from texts that have sounds among their words.

  As `InterleavedVisionLanguage` with images: a text has a placeholder for each
  token of its sounds (Qwen2-Audio, Chu et al. 2024, figure 2).

  Attributes:
    audio: an encoder of spectrograms, `AudioTransformer`.
    vision: None, as there are no images.
  """

  audio: nn.Module
  vision: nn.Module | None = None

  def __call__(self, batch: Batch, *, train: bool) -> dict[str, Array]:
    """Predicts the token after each one of a text.

    Args:
      batch: `text` [B, T] with `text_mask` [B, T], and the arguments of
        `encode_sounds`, which may be missing.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32; in training they are not multiplied out.
    """
    return super().__call__(batch, train=train)

  def encode_sounds(
    self, spectrogram: Array, spectrogram_mask: Array, *, train: bool = False
  ) -> Tokens:
    """The tokens of all sounds of a text, those of padding last.

    Args:
      spectrogram: [B, n, F, M], n sounds a text.
      spectrogram_mask: [B, n, F], True where there is sound.
      train: whether dropout is on.

    Returns:
      Tokens: values [B, n * N, D], of which those that `mask` says are real.
    """
    batch, number = spectrogram.shape[:2]
    encoded = self.audio(
      spectrogram.reshape(batch * number, *spectrogram.shape[2:]),
      spectrogram_mask.reshape(batch * number, -1),
      train=train,
    )
    values = self._project(encoded.values, train=train)  # [B * n, N, D]
    values = values.reshape(batch, -1, values.shape[-1])
    mask = encoded.mask.reshape(batch, -1)
    # Sounds have as many tokens as they are long, and padding between them.
    order = jnp.argsort(~mask, axis=1, stable=True)
    values = jnp.take_along_axis(values, order[:, :, None], axis=1)
    mask = jnp.take_along_axis(mask, order, axis=1)
    return Tokens(values, mask, values[:, 0])

  def _encode_inserted(self, batch: Batch, *, train: bool) -> Tokens | None:
    names = ('spectrogram', 'spectrogram_mask')
    if names[0] not in batch:
      return None
    return self.encode_sounds(*(batch[name] for name in names), train=train)
