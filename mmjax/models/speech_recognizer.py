"""Sound in, text out."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.models import generation
from mmjax.types import Array, Batch, Outputs, TokenVectors


class SpeechRecognizer(generation.TextGenerator):
  """Transcribes or translates speech.

  Whisper (Radford et al. 2022) and other attention-based recognisers (Chan et
  al. 2016): a decoder attends to the tokens of a spectrogram. The tokens that a
  text begins with say what it writes: the language and the task.

  Attributes:
    audio: an encoder of spectrograms, such as `AudioTransformer`.
    decoder: a `TextDecoder` with cross-attention.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
  """

  audio: nn.Module
  decoder: nn.Module
  eos_id: int = 2
  pad_id: int = 0

  text_kinds: ClassVar[tuple[str, ...]] = ('transcript',)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts each token of a text from those before it.

    Args:
      batch: `spectrogram` [B, F, M], `text` [B, T] with what it begins with
        and, where there is padding, `spectrogram_mask` [B, F] and `text_mask`
        [B, T].
      train: whether dropout is on.

    Returns:
      `transcript_logits` [B, T - 1, V] float32, position t for token t + 1; in
      training not materialised.
    """
    tokens = self.encode_audio(
      batch['spectrogram'], batch.get('spectrogram_mask'), train=train
    )
    mask = batch.get('text_mask')
    logits = self.decoder(
      batch['text'][:, :-1],
      None if mask is None else mask[:, :-1],
      tokens,
      train=train,
    )
    return {'transcript_logits': logits}

  def encode_audio(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool = False
  ) -> TokenVectors:
    """Tokens [B, N, D] of spectrograms [B, F, M] and their masks [B, F]."""
    return self.audio(spectrogram, mask, train=train)

  def logits_after(self, text: Array, audio: TokenVectors) -> Array:
    """Logits [B, V] of the token after a text [B, T] without padding."""
    return self.decoder(text, None, audio, train=False)[:, -1]

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The sound's tokens, and what the text begins with.

    Args:
      batch: `prompt` [B, P] without padding; `spectrogram` as above, or
        `audio`, what `encode_audio` gave.
      text_kind: 'transcript'.
    """
    del text_kind
    tokens = batch.get('audio')
    if tokens is None:
      tokens = self.encode_audio(
        batch['spectrogram'], batch.get('spectrogram_mask')
      )
    start = batch['decoder_prompt']
    return tokens, start, jnp.ones(start.shape, bool)
