"""A decoder alone: a language model."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax.models import generation
from mmjax.types import Array, Batch, Outputs


class LanguageModel(generation.TextGenerator):
  """Predicts each next token, and continues prompts (Radford et al. 2019).

  Attributes:
    decoder: a `TextDecoder` without cross-attention.
    target_feature: the feature of texts or conversations that it is trained on;
      '' for the batch's `text`.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
  """

  decoder: nn.Module
  target_feature: str = ''
  eos_id: int = 2
  pad_id: int = 0

  text_kinds: ClassVar[tuple[str, ...]] = ('continue',)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts the token after each one of whole texts.

    Args:
      batch: `text` [B, T] and, unless all of it is there, `text_mask` [B, T].
        Padding comes last. With `target_feature` these are NAME and NAME_mask;
        where several conversations share a row, `NAME_segments` [B, T] numbers
        them from 1 on and `NAME_positions` [B, T] counts their tokens.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32, position t for token t + 1; with
      `target_feature`, `NAME_logits` [B, T - 1, V]. In training they are not
      materialised.
    """
    if self.target_feature:
      return self._predict_feature(batch, train=train)
    logits = self.decoder(batch['text'], batch.get('text_mask'), train=train)
    return {'text_logits': logits}

  def _predict_feature(self, batch: Batch, *, train: bool) -> Outputs:
    name = self.target_feature

    def get(suffix: str) -> Array | None:
      array = batch.get(f'{name}{suffix}')
      return None if array is None else array[:, :-1]

    positions = get('_positions')
    text = self.decoder.encode_text(
      get(''), get('_mask'), table_positions=positions, train=train
    )
    x = self.decoder.compute_hidden_states(
      text, positions=positions, segments=get('_segments'), train=train
    )
    return {f'{name}_logits': self.decoder.compute_logits(x, train=train)}

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[None, Array, Array]:
    """The text to continue; its padding may stand anywhere."""
    name = self.target_feature or 'text'
    mask = batch.get(f'{name}_mask')
    if mask is None:
      mask = jnp.ones(batch[name].shape, bool)
    return None, batch[name], mask
