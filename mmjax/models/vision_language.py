"""A language model that reads pictures among its words."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import decoders, encoders
from mmjax.models import questions, writing
from mmjax.ops import packing
from mmjax.types import Array, Batch, Outputs, Tokens


class VisionLanguage(writing.Writer):
  """Puts what it sees in the place of words, and goes on from there.

  LLaVA (Liu et al. 2023, figure 1) with a ViT and a projector; PaliGemma (Beyer
  et al. 2024) with `prefix` besides; Qwen2-VL (Wang et al. 2024) with a
  `PackedViT`, which needs none; BLIP-2 (Li et al. 2023) with a
  `QueryTransformer` and, where its language model is a T5, an `encoder`.

  Published models have placeholders: a text holds as many as there are tokens
  of its pictures; the first placeholder becomes the first token, and so on.

  Without placeholders it captions and answers, and can be trained to: one
  picture comes first, then the question, if there is one, then what is written
  (PaliGemma, figure 2); an encoder reads the former two. A batch may ask
  several questions about a picture, which is seen once.

  Attributes:
    vision: an image encoder, `ViT` or `PackedViT`.
    decoder: a `TextDecoder`, with cross-attention if there is an encoder.
    placeholders: ids of the tokens in whose place pictures are put; () to
      caption and answer.
    projector: from the encoder's tokens to the decoder's width; None if it is
      that already.
    encoder: a `Transformer` that reads texts and pictures before the decoder
      writes; None for a decoder that reads them itself.
    skipped: how many tokens of each picture are left out, from its first on:
      1 for a class token.
    prefix: whether all tokens of a text (without placeholders: those of the
      picture and the question) see each other in both directions, unless the
      batch says which of them do.
    bos_id: the token that starts a text that is written.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
  """

  vision: nn.Module
  decoder: nn.Module
  placeholders: Sequence[int] = ()
  projector: nn.Module | None = None
  encoder: nn.Module | None = None
  skipped: int = 0
  prefix: bool = False
  bos_id: int = 1
  eos_id: int = 2
  pad_id: int = 0

  tasks: ClassVar[tuple[str, ...]] = ('continue', 'caption', 'answer')

  def setup(self):
    reads = self.encoder is not None
    if self.decoder.cross_attention != reads:
      raise ValueError(
        f'model.decoder.cross_attention is {not reads}, but pictures stand '
        f'among the words that the {"en" if reads else "de"}coder reads; set '
        f'it to {reads}'
      )
    if reads and self.encoder.width != self.decoder.width:
      raise ValueError(
        f'model.encoder.width is {self.encoder.width}, but it reads the words '
        f'of the decoder, whose width is {self.decoder.width}'
      )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Reads whole texts with their pictures, or captions and answers.

    Without placeholders the batch is that of the other models, see
    `mmjax.types`, and the outputs are `caption_logits` [B, T - 1, V] and
    `answer_token_logits` [B, A - 1, V] or [B, n, A - 1, V], as far as the batch
    has what they are about.

    Args:
      batch: `text` [B, T] with `text_mask` [B, T], padding last, and what is
        seen: `image` [B, n, H, W, C], n pictures a text, those that a text
        lacks last; or `patches`, arguments of `PackedViT.read` by name. Without
        either, the texts are read alone. `text_positions` [B, T, A] are rotary
        positions that don't simply count, and `prefix` [B, T] is True for the
        tokens that see each other in both directions. With an encoder, also
        `answer` [B, A], beginning with `bos_id`, and its mask.
      train: whether dropout is on.

    Returns:
      `text_logits` [B, T, V] float32, of the token after each given one; with
      an encoder `answer_token_logits` [B, A - 1, V].
    """
    if not self.placeholders:
      return self._tasks(batch, train=train)
    if self.encoder is not None:
      return self._answer(batch, train=train)
    mask = _mask(batch)
    text = self.decoder.encode(
      self.embed(batch, train=train), mask, train=train
    )
    x = self.decoder.decode(
      text,
      positions=batch.get('text_positions'),
      prefix=self._prefix(batch, mask),
      train=train,
    )
    return {'text_logits': self.decoder.logits(x)}

  def see(self, batch: Batch, *, train: bool = False) -> Tokens | None:
    """The tokens of all pictures of a text, [B, N, D]; None without any."""
    if 'patches' in batch:
      seen = self.vision.read(**batch['patches'], train=train)
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
    return self.projector(values, train=train)

  def embed(self, batch: Batch, *, train: bool = False) -> Array:
    """Vectors [B, T, D] of texts, pictures in their places."""
    ids = batch['text']
    there = jnp.isin(ids, jnp.asarray(tuple(self.placeholders)))
    # A placeholder need not have a word vector.
    words = self.decoder.embed(jnp.where(there, 0, ids))
    seen = self.see(batch, train=train)
    if seen is None:
      return words
    which = jnp.cumsum(there, axis=1) - 1
    which = jnp.clip(which, 0, seen.values.shape[1] - 1)
    pictures = jnp.take_along_axis(seen.values, which[:, :, None], axis=1)
    return jnp.where(there[:, :, None], pictures.astype(words.dtype), words)

  def read(
    self, batch: Batch, task: str, length: int
  ) -> tuple[Array, decoders.DecoderCache, tuple[Array, Array]]:
    """Reads the prompt with its pictures, see `Writer.read`."""
    if (task == 'continue') != bool(self.placeholders):
      can = "'continue'" if self.placeholders else "'caption' or 'answer'"
      raise ValueError(
        f'with placeholders {tuple(self.placeholders)} the model can not '
        f'{task!r}; it can {can}'
      )
    if self.encoder is not None:
      return super().read(batch, task, length)
    if task != 'continue':
      return self._read_task(batch, task, length)
    mask = _mask(batch)
    self.check_reach(mask.shape[1], length)
    cache = self.decoder.init_cache(mask.shape[0], mask.shape[1] + length)
    x, cache = self.decoder.prefill(
      self.embed(batch),
      cache,
      mask,
      positions=batch.get('text_positions'),
      prefix=self._prefix(batch, mask),
    )
    return self.next_logits(x, mask), cache, (batch['text'], mask)

  def prompt(self, batch: Batch, task: str) -> tuple[Tokens, Array, Array]:
    """What the encoder makes of a prompt, and the start of an answer."""
    if self.placeholders:
      values, mask = self.embed(batch), _mask(batch)
    else:
      before = self._asked(batch, task, self._picture(batch))
      values, mask = before.values, before.mask
    context = self.encoder(values, mask, train=False)
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

  def _tasks(self, batch: Batch, *, train: bool) -> Outputs:
    """What is trained without placeholders, see `__call__`."""
    out = {}
    image = self._picture(batch, train=train)
    if 'text' in batch and image is not None:
      out['caption_logits'] = self._teach(
        self._before(image),
        self._grid(batch, image),
        batch['text'],
        batch['text_mask'],
        train=train,
      )
    if 'question' in batch and 'answer' in batch:
      logits = self._teach(
        self._before(image, batch),
        self._grid(batch, image),
        questions.rows(batch['answer']),
        questions.rows(batch['answer_mask']),
        train=train,
      )
      out['answer_token_logits'] = questions.unrows(logits, batch['question'])
    return out

  def _picture(self, batch: Batch, *, train: bool = False) -> Tokens | None:
    """The tokens of one picture an example; None if the batch has none."""
    if 'image' not in batch:
      return None
    image = batch['image']
    mask = batch.get('image_mask')
    seen = self.see({'image': image[:, None]}, train=train)
    width = seen.values.shape[-1]
    if width != self.decoder.width:
      raise ValueError(
        f'pictures come as vectors of {width} numbers, but words have '
        f'{self.decoder.width}; set model.projector to a layer of that width'
      )
    if mask is None:
      return seen
    there = seen.mask & mask[:, None]
    # What an example doesn't have may be anything.
    values = jnp.where(there[:, :, None], seen.values, 0)
    return Tokens(values, there, seen.pooled)

  def _before(self, image: Tokens | None, batch: Batch | None = None) -> Tokens:
    """What stands before a text: the picture, and the question if asked one.

    An encoder reads a text behind the picture: without a question an empty one,
    of which there is the end.
    """
    if batch is None and self.encoder is None:
      return image
    if batch is None:
      end = jnp.full((len(image.mask), 1), self.eos_id)
      return _joined(image, self.decoder.embed(end), end == self.eos_id)
    ids = questions.rows(batch['question'])
    mask = questions.rows(batch['question_mask'])
    words = self.decoder.embed(jnp.where(mask, ids, 0))
    if image is None:
      return Tokens(words, mask, words[:, 0])
    image = questions.beside(image, batch['question'])
    return _joined(image, words, mask)

  def _grid(self, batch: Batch, image: Tokens | None) -> packing.Grid | None:
    """Of the picture, if its tokens stand in rows and columns for the words."""
    rope = (self.decoder.block or {}).get('rope') or {}
    packed = isinstance(self.vision, encoders.PackedViT)
    if not packed or image is None or not rope.get('sections'):
      return None
    grid = self.vision.grid(*batch['image'].shape[1:3])
    # A projector may have made other tokens of them.
    return grid if grid.tokens == image.mask.shape[1] else None

  def _teach(
    self,
    before: Tokens,
    grid: packing.Grid | None,
    ids: Array,
    mask: Array,
    *,
    train: bool,
  ) -> Array:
    """Logits [B, T - 1, V] of each token of a text from those before it."""
    if self.encoder is not None:
      context = self.encoder(before.values, before.mask, train=train)
      return self.decoder(ids[:, :-1], mask[:, :-1], context, train=train)
    words = self.decoder.embed(ids[:, :-1])
    whole = _joined(before, words, mask[:, :-1])
    start = before.mask.shape[1]
    # Padding in the middle takes a place, but no position.
    positions = _positions(whole.mask, grid)
    text = self.decoder.encode(
      whole.values,
      whole.mask,
      positions=_positions(whole.mask, None),
      train=train,
    )
    x = self.decoder.decode(
      text,
      positions=positions,
      prefix=self._first(whole.mask, start),
      train=train,
    )
    return self.decoder.logits(x[:, start:])

  def _read_task(
    self, batch: Batch, task: str, length: int
  ) -> tuple[Array, decoders.DecoderCache, tuple[Array, Array]]:
    image = self._picture(batch)
    before, grid = self._asked(batch, task, image), self._grid(batch, image)
    start, mask = writing.start(batch, before.mask.shape[0], self.bos_id)
    whole = _joined(before, self.decoder.embed(start), mask)
    number = whole.mask.shape[1]
    cache = self.decoder.init_cache(whole.mask.shape[0], number + length)
    x, cache = self.decoder.prefill(
      whole.values,
      cache,
      whole.mask,
      positions=None if grid is None else _positions(whole.mask, grid),
      prefix=self._first(whole.mask, before.mask.shape[1]),
    )
    return self.next_logits(x, whole.mask), cache, (start, mask)

  def _asked(self, batch: Batch, task: str, image: Tokens | None) -> Tokens:
    """What stands before a caption or an answer that is to be written."""
    if task == 'caption' and image is None:
      raise ValueError('a caption needs an image; the batch has none')
    if task == 'answer' and 'question' not in batch:
      raise ValueError('an answer needs a question; the batch has none')
    return self._before(image, batch if task == 'answer' else None)

  def _first(self, mask: Array, number: int) -> Array | None:
    """The tokens of a prefix: the first so many, as far as they are there."""
    return (
      mask & (jnp.arange(mask.shape[1])[None] < number) if self.prefix else None
    )

  def _prefix(self, batch: Batch, mask: Array) -> Array | None:
    return batch.get('prefix', mask if self.prefix else None)


def _joined(before: Tokens, words: Array, mask: Array) -> Tokens:
  """Tokens with words [B, T, D] behind."""
  values = jnp.concatenate([before.values.astype(words.dtype), words], axis=1)
  return Tokens(
    values, jnp.concatenate([before.mask, mask], axis=1), before.pooled
  )


def _positions(mask: Array, grid: packing.Grid | None) -> Array:
  """How many real tokens [B, T] stand before each.

  Of a picture with a grid, which is first, [B, T, 3]: time, row and column.
  """
  counted = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
  if grid is None:
    return counted
  seen = packing.rotary_positions([0] * grid.tokens, [grid], placeholders=[0])
  saved = jnp.where(mask[:, :1], grid.tokens - 1 - seen.max(), 0)
  words = (counted - saved)[:, grid.tokens :, None]
  return jnp.concatenate(
    [
      jnp.broadcast_to(seen, (len(mask), *seen.shape)),
      jnp.broadcast_to(words, (*words.shape[:2], seen.shape[1])),
    ],
    axis=1,
  )


def _mask(batch: Batch) -> Array:
  mask = batch.get('text_mask')
  return jnp.ones(batch['text'].shape, bool) if mask is None else mask
