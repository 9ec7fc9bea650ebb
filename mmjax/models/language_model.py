"""A decoder alone: a language model."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.models import writing
from mmjax.types import Array, Batch, Outputs


class LanguageModel(writing.Writer):
  """Predicts each next token, and continues prompts (Radford et al. 2019).

  Attributes:
    decoder: a `TextDecoder` without cross-attention.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
  """

  decoder: nn.Module
  eos_id: int = 2
  pad_id: int = 0

  outputs: ClassVar[tuple[str, ...]] = ('continue',)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts the token after each one of whole texts.

    Args:
      batch: `text` [B, T] and, unless all of it is there, `text_mask` [B, T].
        Padding comes last.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32, position t for token t + 1; in
      training not multiplied out.
    """
    logits = self.decoder(batch['text'], batch.get('text_mask'), train=train)
    return {'text_logits': logits}

  def encode_prompt(
    self, batch: Batch, output: str
  ) -> tuple[None, Array, Array]:
    """The text to continue; its padding may stand anywhere."""
    mask = batch.get('text_mask')
    if mask is None:
      mask = jnp.ones(batch['text'].shape, bool)
    return None, batch['text'], mask
