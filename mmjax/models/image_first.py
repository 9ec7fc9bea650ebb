"""A language model with one image before its words, to be trained."""

import dataclasses
from typing import ClassVar, Self

import jax.numpy as jnp

from mmjax import decoders, encoders
from mmjax.errors import ConfigError
from mmjax.models import generation, questions, vision_language
from mmjax.ops import packing
from mmjax.types import Array, Batch, FactoredLogits, Outputs, TokenVectors


class ImageFirstVisionLanguage(vision_language.VisionLanguage):
  """Captions images and answers questions about them, and is trained to.

  One image comes first, then the question, if there is one, then what is
  written (PaliGemma, Beyer et al. 2024, figure 2); an encoder gets the former
  two. A batch may ask several questions about an image, which is encoded once.
  """

  text_kinds: ClassVar[tuple[str, ...]] = ('caption', 'answer')

  @classmethod
  def from_interleaved(
    cls, model: vision_language.InterleavedVisionLanguage
  ) -> Self:
    """The model of the same parts, whose parameters fit.

    Raises:
      ConfigError: for images whose tokens attend to each other in both
        directions although words do not, that end rows, or whose levels are
        added in the decoder.
    """
    if model.image_newline or getattr(model.vision, 'level_layers', ()):
      raise ConfigError(
        'the images of this model have more than one vector per token, or '
        'tokens between rows, which one image before captions or answers is '
        'not trained with here; train it on conversations, with '
        'model.name=interleaved'
      )
    if model.image_blocks:
      raise ConfigError(
        'the images of this model attend to themselves in both directions, '
        'which one image before captions or answers is not trained with here; '
        'train it on conversations, with model.name=interleaved'
      )
    shared = dataclasses.fields(vision_language.VisionLanguage)
    names = {field.name for field in shared} - {'parent', 'name'}
    return cls(**{name: getattr(model, name) for name in names})

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Runs every task that the batch has the parts for.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      `caption_logits` [B, T - 1, V] with `image` and `text`, and
      `answer_token_logits` [B, A - 1, V], or [B, n, A - 1, V] for n questions
      an image, with `question` and `answer`; all float32, and in training not
      materialised.
    """
    out = {}
    self.initialize_codes(batch)
    image = self.encode_image(batch, train=train)
    if 'text' in batch and image is not None:
      out['caption_logits'] = self._predict(
        self._join_question(image),
        self._find_grid(batch, image),
        batch['text'],
        batch['text_mask'],
        train=train,
      )
    if 'question' in batch and 'answer' in batch:
      logits = self._predict(
        self._join_question(image, batch),
        self._find_grid(batch, image),
        questions.flatten(batch['answer']),
        questions.flatten(batch['answer_mask']),
        train=train,
      )
      out['answer_token_logits'] = questions.unflatten(
        logits, batch['question']
      )
    return out

  def encode_image(
    self, batch: Batch, *, train: bool = False
  ) -> TokenVectors | None:
    """The image's tokens [B, N, D]; None if the batch has no images."""
    if 'image' not in batch:
      return None
    mask = batch.get('image_mask')
    image = self._encode(batch['image'][:, None], train=train)
    width = image.values.shape[-1]
    if width != self.decoder.width:
      raise ConfigError(
        f'images are encoded as vectors of width {width}, but words have width '
        f'{self.decoder.width}; set model.projector to a layer of that width'
      )
    if mask is None:
      return image
    mask = image.mask & mask[:, None]  # [B, N]
    # The values of an absent image may be anything.
    values = jnp.where(mask[:, :, None], image.values, 0)
    return TokenVectors(values, mask, image.pooled)

  def prefill(
    self, batch: Batch, text_kind: str, max_new_tokens: int
  ) -> tuple[Array, decoders.DecoderCache, tuple[Array, Array]]:
    """Fills a cache with image, question and start, with room for the text."""
    if self.encoder is not None:
      return super().prefill(batch, text_kind, max_new_tokens)
    image = self.encode_image(batch)
    before = self._embed_prompt(batch, text_kind, image)
    grid = self._find_grid(batch, image)
    start, mask = generation.read_decoder_prompt(
      batch, before.mask.shape[0], self.bos_id
    )
    whole = _join(before, self.decoder.embed(start), mask)
    batch_size, prompt_length = whole.mask.shape
    self.check_positions(prompt_length, max_new_tokens)
    x, cache = self.decoder.compute_hidden_states_cached(
      whole.values,
      self.decoder.init_cache(batch_size, prompt_length + max_new_tokens),
      whole.mask,
      positions=None if grid is None else _count_positions(whole.mask, grid),
      prefix_mask=self._mask_prefix(whole.mask, before.mask.shape[1]),
    )
    return self.next_logits(x, whole.mask), cache, (start, mask)

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The encoder's tokens of image and question, and the start of a text."""
    before = self._embed_prompt(batch, text_kind, self.encode_image(batch))
    context = self.encoder(before.values, before.mask, train=False)
    start = generation.read_decoder_prompt(
      batch, context.mask.shape[0], self.bos_id
    )
    return context, *start

  def _embed_prompt(
    self, batch: Batch, text_kind: str, image: TokenVectors | None
  ) -> TokenVectors:
    """Embeds what stands before a caption or an answer."""
    if text_kind == 'caption' and image is None:
      raise ConfigError('a caption needs an image; the batch has none')
    if text_kind == 'answer' and 'question' not in batch:
      raise ConfigError('an answer needs a question; the batch has none')
    return self._join_question(image, batch if text_kind == 'answer' else None)

  def _join_question(
    self, image: TokenVectors | None, batch: Batch | None = None
  ) -> TokenVectors:
    """Joins an image and, from a batch with one, the question: [B, N + Q, D].

    An encoder always gets a text behind the image: without a question an empty
    one, which has only its end.
    """
    if batch is None and self.encoder is None:
      return image
    if batch is None:
      end = jnp.full((len(image.mask), 1), self.eos_id)
      return _join(image, self.decoder.embed(end), end == self.eos_id)
    ids = questions.flatten(batch['question'])  # [B * n, Q]
    mask = questions.flatten(batch['question_mask'])
    words = self.decoder.embed(jnp.where(mask, ids, 0))  # [B * n, Q, D]
    if image is None:
      return TokenVectors(words, mask, words[:, 0])
    image = questions.repeat_for(image, batch['question'])
    return _join(image, words, mask)

  def _find_grid(
    self, batch: Batch, image: TokenVectors | None
  ) -> packing.Grid | None:
    """The image's grid, if its tokens have rotary rows and columns."""
    rope = (self.decoder.block or {}).get('rope') or {}
    packed = isinstance(self.vision, encoders.PackedViT)
    if not packed or image is None or not rope.get('sections'):
      return None
    grid = self.vision.grid(*batch['image'].shape[1:3])
    # A projector may have changed the number of tokens.
    return grid if grid.tokens == image.mask.shape[1] else None

  def _predict(
    self,
    before: TokenVectors,
    grid: packing.Grid | None,
    ids: Array,
    mask: Array,
    *,
    train: bool,
  ) -> Array | FactoredLogits:
    """Predicts, by teacher forcing, a text: logits [B, T - 1, V].

    Args:
      before: values [B, N, D] of what stands before the text.
      grid: grid of the image that `before` starts with; None for none.
      ids: [B, T].
      mask: [B, T].
      train: whether dropout is on.
    """
    if self.encoder is not None:
      context = self.encoder(before.values, before.mask, train=train)
      return self.decoder(ids[:, :-1], mask[:, :-1], context, train=train)
    words = self.decoder.embed(ids[:, :-1])  # [B, T - 1, D]
    whole = _join(before, words, mask[:, :-1])  # [B, N + T - 1, D]
    start = before.mask.shape[1]
    # Padding in the middle takes a slot, but no position.
    positions = _count_positions(whole.mask, grid)
    text = self.decoder.encode_text(
      whole.values,
      whole.mask,
      table_positions=_count_positions(whole.mask, None),
      train=train,
    )
    x = self.decoder.compute_hidden_states(
      text,
      positions=positions,
      prefix_mask=self._mask_prefix(whole.mask, start),
      train=train,
    )
    return self.decoder.compute_logits(
      x[:, start:], train=train
    )  # [B, T - 1, V]

  def _mask_prefix(self, mask: Array, number: int) -> Array | None:
    """Masks [B, T] the real ones of the first tokens, if they are a prefix."""
    if not self.prefix_lm:
      return None
    return mask & (jnp.arange(mask.shape[1])[None] < number)


def _join(before: TokenVectors, words: Array, mask: Array) -> TokenVectors:
  """Joins tokens [B, N, D] and words [B, T, D] as [B, N + T, D]."""
  values = jnp.concatenate([before.values.astype(words.dtype), words], axis=1)
  return TokenVectors(
    values, jnp.concatenate([before.mask, mask], axis=1), before.pooled
  )


def _count_positions(mask: Array, grid: packing.Grid | None) -> Array:
  """How many real tokens [B, T] stand before each.

  With the grid of an image, which is first, [B, T, 3]: time, row and column.
  Words follow the largest of the image's. An image of two rows and columns and
  two words behind it:

    counted  0 1 2 3 4 5     time    0 0 0 0 2 3
                             row     0 0 1 1 2 3
                             column  0 1 0 1 2 3
  """
  counted = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)  # [B, T]
  if grid is None:
    return counted
  image = packing.rotary_positions([0] * grid.tokens, [grid], placeholders=[0])
  saved = jnp.where(mask[:, :1], grid.tokens - 1 - image.max(), 0)  # [B, 1]
  words = (counted - saved)[:, grid.tokens :, None]  # [B, T - N, 1]
  return jnp.concatenate(
    [
      jnp.broadcast_to(image, (len(mask), *image.shape)),  # [B, N, 3]
      jnp.broadcast_to(words, (*words.shape[:2], image.shape[1])),
    ],
    axis=1,
  )
