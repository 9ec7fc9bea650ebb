"""A text in, another out."""

from typing import ClassVar

import flax.linen as nn

from mmjax.models import generation
from mmjax.types import Array, Batch, Outputs, TokenVectors


class TextToText(generation.TextGenerator):
  """Encodes a text in both directions and writes another about it.

  The encoder-decoder of T5 (Raffel et al. 2020); both halves share the word
  vectors of the decoder.

  Attributes:
    encoder: a `Transformer`.
    decoder: a `TextDecoder` with cross-attention.
    bos_id: the token that a text begins with.
    eos_id: the token that ends it.
    pad_id: the token that fills up after the end.
  """

  encoder: nn.Module
  decoder: nn.Module
  bos_id: int = 0
  eos_id: int = 1
  pad_id: int = 0

  text_kinds: ClassVar[tuple[str, ...]] = ('answer',)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts each token of an answer from those before it.

    Args:
      batch: `question` [B, Q], the text in, and `answer` [B, A], the text out,
        beginning with `bos_id`; with padding, their masks.
      train: whether dropout is on.

    Returns:
      `answer_token_logits` [B, A - 1, V] float32, position t for token t + 1;
      in training not materialised.
    """
    mask = batch.get('answer_mask')
    logits = self.decoder(
      batch['answer'][:, :-1],
      None if mask is None else mask[:, :-1],
      self.encode_text(
        batch['question'], batch.get('question_mask'), train=train
      ),
      train=train,
    )
    return {'answer_token_logits': logits}

  def encode_text(
    self, tokens: Array, mask: Array | None = None, *, train: bool = False
  ) -> TokenVectors:
    """The encoder's tokens [B, Q, D] of ids [B, Q]."""
    return self.encoder(self.decoder.embed(tokens), mask, train=train)

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The encoder's tokens, and the start of an answer.

    The start is the batch's `prompt`, or where it has none, `bos_id`.
    """
    del text_kind
    context = self.encode_text(batch['question'], batch.get('question_mask'))
    start = generation.read_decoder_prompt(
      batch, context.mask.shape[0], self.bos_id
    )
    return context, *start
