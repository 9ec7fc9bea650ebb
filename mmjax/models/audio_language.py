"""A language model with sounds among its words."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import encoders
from mmjax.errors import ConfigError
from mmjax.models import interleaved_inputs as inputs
from mmjax.models import vision_language
from mmjax.types import Array, Batch, Outputs, Size, TokenVectors


class InterleavedAudioLanguage(
  vision_language.InterleavedVisionLanguage, kw_only=True
):
  """Writes on from texts that have sounds among their words.

  As `InterleavedVisionLanguage` with images: a text has a placeholder for each
  token of its sounds (Qwen2-Audio, Chu et al. 2024, figure 2). With `vision` a
  text may have images and videos too (Qwen2.5-Omni, Xu et al. 2025, section 2).

  Attributes:
    audio: an encoder of spectrograms, `AudioTransformer`.
    vision: an image encoder; None for sounds alone.
    image_projector: module from the tokens of images to the decoder's width;
      None if they have it already, as those of `PackedViT`.
    projector: the same for the tokens of sounds.
    placeholders: ids of the tokens that media replace: those of images and
      videos as in `InterleavedVisionLanguage`, and that of sounds last.
    spectrogram: settings of `mmjax.encoders.FromSamples`, for models that are
      trained on samples. An encoder that gets padding as silence encodes all of
      it, but the decoder gets the tokens of the sound alone.
    sample_rate: samples a second of these.
    input_sounds: the feature of the sounds of the conversations that it is
      trained on.
  """

  audio: nn.Module
  vision: nn.Module | None = None
  image_projector: nn.Module | None = None
  spectrogram: Mapping[str, Any] | None = None
  sample_rate: Size = 16_000
  input_sounds: Sequence[str] = ()

  def setup(self):
    super().setup()
    width = getattr(self.vision, 'out_width', None)
    is_projected = self.vision is None or self.image_projector is not None
    if not is_projected and width != self.decoder.width:
      raise ConfigError(
        f'model.vision.out_width is {width}, but model.decoder.width '
        f'{self.decoder.width}, and model.projector is of sounds alone; set '
        'model.image_projector, or out_width to that'
      )
    self.samples = encoders.FromSamples(
      self.audio, sample_rate=self.sample_rate, **(self.spectrogram or {})
    )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts the token after each one of a text.

    Args:
      batch: `text` [B, T] with `text_mask` [B, T], and the arguments of
        `encode_sounds`, which may be missing, as may the images and videos of
        `InterleavedVisionLanguage`. With `target_feature`, the arrays are those
        of `mmjax.data.features.Turns`, `Sounds` and the features of its images.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32, with `target_feature` `NAME_logits` [B, T
      - 1, V]; in training they are not materialised.
    """
    return super().__call__(batch, train=train)

  def encode_sounds(
    self, spectrogram: Array, spectrogram_mask: Array, *, train: bool = False
  ) -> TokenVectors:
    """The tokens of all sounds of a text, those of padding last.

    Args:
      spectrogram: [B, n, F, M], n sounds a text.
      spectrogram_mask: [B, n, F], True where there is sound.
      train: whether dropout is on.

    Returns:
      TokenVectors: values [B, n * N, D], of which those that `mask` says are
      real.
    """
    batch, number = spectrogram.shape[:2]
    frames = spectrogram_mask.reshape(batch * number, -1)
    spectrogram = spectrogram.reshape(batch * number, *spectrogram.shape[2:])
    return self._encode_frames(spectrogram, frames, frames, batch, train=train)

  def encode_samples(
    self, samples: Array, mask: Array, *, train: bool = False
  ) -> TokenVectors:
    """The same of samples.

    Args:
      samples: [B, n, S] in -1..1, n sounds a text.
      mask: [B, n, S], True where there is sound.
      train: whether dropout is on.
    """
    batch = len(samples)
    mask = mask.reshape(-1, mask.shape[2])  # [B * n, S]
    spectrogram, read = self.samples.compute(samples.reshape(mask.shape), mask)
    frames = self.samples.mask_frames(mask, spectrogram.shape[1])
    return self._encode_frames(spectrogram, read, frames, batch, train=train)

  def _encode_frames(
    self,
    spectrogram: Array,
    read: Array,
    frames: Array,
    batch: int,
    *,
    train: bool,
  ) -> TokenVectors:
    """Encodes spectrograms [B * n, F, M] as tokens [B, n * N, D].

    Args:
      spectrogram: the spectrograms.
      read: [B * n, F], True for frames that the encoder gets as sound.
      frames: [B * n, F], True for those of sound.
      batch: B.
      train: whether dropout is on.
    """
    encoded = self.audio(spectrogram, read, train=train)
    values = encoded.values  # [B * n, N, E]
    if self.projector is not None:
      values = self.projector(values, train=train)  # [B * n, N, D]
    mask = self.audio.mask_tokens(frames)  # [B * n, N]
    if values.shape[1] != mask.shape[1]:
      raise ConfigError(
        f'model.projector makes {values.shape[1]} tokens of the '
        f'{mask.shape[1]} of a sound; use one that keeps their number, and '
        'model.audio.merged for fewer'
      )
    values = values.reshape(batch, -1, values.shape[-1])
    mask = mask.reshape(batch, -1)
    # Sounds have as many tokens as they are long, and padding between them.
    order = jnp.argsort(~mask, axis=1, stable=True)
    values = jnp.take_along_axis(values, order[:, :, None], axis=1)
    mask = jnp.take_along_axis(mask, order, axis=1)
    return TokenVectors(values, mask, values[:, 0])

  def _select(self, batch: Batch, name: str = '') -> dict[str, Any]:
    chosen = super()._select(batch, name)
    sounds = () if name else self.input_sounds
    return chosen | inputs.select_sounds(batch, sounds)

  @property
  def _image_placeholders(self) -> tuple[int, ...]:
    return tuple(self.placeholders[:-1])

  def _project(self, values: Array, *, train: bool) -> Array:
    """From the tokens of images to the decoder's width."""
    if self.image_projector is None:
      return values
    return self.image_projector(values, train=train)

  def _encode_media(self, batch: Batch, *, train: bool) -> list[inputs.Media]:
    media = super()._encode_media(batch, train=train)
    for encode, *names in (
      (self.encode_samples, 'samples', 'samples_mask'),
      (self.encode_sounds, 'spectrogram', 'spectrogram_mask'),
    ):
      if names[0] in batch:
        tokens = encode(*(batch[name] for name in names), train=train)
        media.append(inputs.Media(self.placeholders[-1:], tokens))
    return media
