"""A language model that reads pictures among its words."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import decoders
from mmjax.models import writing
from mmjax.types import Array, Batch, Outputs, Tokens


class VisionLanguage(writing.Writer):
  """Puts what it sees in the place of words, and goes on from there.

  LLaVA (Liu et al. 2023, figure 1) with a ViT and a projector; PaliGemma (Beyer
  et al. 2024) with `prefix` besides; Qwen2-VL (Wang et al. 2024) with a
  `PackedViT`, which needs none; BLIP-2 (Li et al. 2023) with a
  `QueryTransformer` and, where its language model is a T5, an `encoder`.

  A text holds as many placeholders as there are tokens of its pictures; the
  first placeholder becomes the first token, and so on.

  Attributes:
    vision: an image encoder, `ViT` or `PackedViT`.
    decoder: a `TextDecoder`; with cross-attention if there is an encoder.
    placeholders: ids of the tokens in whose place pictures are put.
    projector: from the encoder's tokens to the decoder's width; None if it is
      that already.
    encoder: a `Transformer` that reads texts and pictures before the decoder
      writes an answer; None for a decoder that reads them itself.
    skipped: how many tokens of each picture are left out, from its first on:
      1 for a class token.
    prefix: whether all tokens of a text see each other in both directions,
      unless the batch says which of them do.
    bos_id: the token that an answer begins with, with an encoder.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
  """

  vision: nn.Module
  decoder: nn.Module
  placeholders: Sequence[int]
  projector: nn.Module | None = None
  encoder: nn.Module | None = None
  skipped: int = 0
  prefix: bool = False
  bos_id: int = 0
  eos_id: int = 2
  pad_id: int = 0

  tasks: ClassVar[tuple[str, ...]] = ('continue',)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Reads whole texts with their pictures.

    Args:
      batch: `text` [B, T] with `text_mask` [B, T], padding last, and what is
        seen: `image` [B, n, H, W, C], n pictures a text, those that a text
        lacks last; or `patches`, arguments of a `PackedViT` by name. Without
        either, the texts are read alone. `text_positions` [B, T, A] are rotary
        positions that don't simply count, and `prefix` [B, T] is True for the
        tokens that see each other in both directions. With an encoder, also
        `answer` [B, A], beginning with `bos_id`, and its mask.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32, of the token after each given one; with
      an encoder `answer_token_logits` [B, A - 1, V].
    """
    if self.encoder is not None:
      return self._answer(batch, train=train)
    mask = _mask(batch)
    text = self.decoder.encode(
      self.embed(batch, train=train), mask, train=train
    )
    x = self.decoder.attend(
      text,
      positions=batch.get('text_positions'),
      prefix=self._prefix(batch, mask),
      train=train,
    )
    return {'text_logits': self.decoder.logits(x)}

  def see(self, batch: Batch, *, train: bool = False) -> Tokens | None:
    """The tokens of all pictures of a text, [B, N, D]; None without any."""
    if 'patches' in batch:
      seen = self.vision(**batch['patches'], train=train)
      values, mask = seen.values, seen.mask
    elif 'image' in batch:
      images = batch['image']
      shape = images.shape[:2]
      seen = self.vision(images.reshape(-1, *images.shape[2:]), train=train)
      values = self._projected(seen.values[:, self.skipped :], train)
      # All of a picture is there, or nothing.
      mask = jnp.broadcast_to(seen.mask[:, :1], values.shape[:2])
      values = values.reshape(shape[0], -1, values.shape[-1])
      return Tokens(values, mask.reshape(shape[0], -1), values[:, 0])
    else:
      return None
    values = self._projected(values, train)
    return Tokens(values, mask, values[:, 0])

  def _projected(self, values: Array, train: bool) -> Array:
    if self.projector is None:
      return values
    if isinstance(self.projector, nn.Dense):
      return self.projector(values)
    return self.projector(values, train=train)

  def embed(self, batch: Batch, *, train: bool = False) -> Array:
    """Vectors [B, T, D] of texts, pictures in their places."""
    ids = batch['text']
    there = jnp.isin(ids, jnp.asarray(tuple(self.placeholders)))
    # A placeholder need not have a word vector.
    words = self.decoder.look_up(jnp.where(there, 0, ids))
    seen = self.see(batch, train=train)
    if seen is None:
      return words
    which = jnp.cumsum(there, axis=1) - 1
    which = jnp.clip(which, 0, seen.values.shape[1] - 1)
    pictures = jnp.take_along_axis(seen.values, which[:, :, None], axis=1)
    return jnp.where(there[:, :, None], pictures.astype(words.dtype), words)

  def read(
    self, batch: Batch, task: str, length: int
  ) -> tuple[Array, decoders.DecoderCache]:
    """Reads the prompt with its pictures, see `Writer.read`."""
    if self.encoder is not None:
      return super().read(batch, task, length)
    mask = _mask(batch)
    self.check_reach(mask.shape[1], length)
    cache = self.decoder.init_cache(mask.shape[0], mask.shape[1] + length)
    x, cache = self.decoder.advance(
      self.embed(batch),
      cache,
      mask,
      positions=batch.get('text_positions'),
      prefix=self._prefix(batch, mask),
    )
    return self.next_logits(x, mask), cache

  def prompt(self, batch: Batch, task: str) -> tuple[Tokens, Array, Array]:
    """What the encoder makes of a prompt, and the start of an answer."""
    del task
    context = self.encoder(self.embed(batch), _mask(batch), train=False)
    start = writing.start(batch, context.mask.shape[0], self.bos_id)
    return context, *start

  def _answer(self, batch: Batch, *, train: bool) -> Outputs:
    mask = batch.get('answer_mask')
    logits = self.decoder(
      batch['answer'][:, :-1],
      None if mask is None else mask[:, :-1],
      self.encoder(self.embed(batch, train=train), _mask(batch), train=train),
      train=train,
    )
    return {'answer_token_logits': logits}

  def _prefix(self, batch: Batch, mask: Array) -> Array | None:
    return batch.get('prefix', mask if self.prefix else None)


def _mask(batch: Batch) -> Array:
  mask = batch.get('text_mask')
  return jnp.ones(batch['text'].shape, bool) if mask is None else mask
