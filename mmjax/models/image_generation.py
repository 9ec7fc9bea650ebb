"""Language models that write images too, one token after another."""

from collections.abc import Callable
from typing import ClassVar

import einops
import jax
import jax.numpy as jnp

from mmjax import decoders, ops
from mmjax.errors import ConfigError
from mmjax.models import generation
from mmjax.types import Array, Batch


class ImageGenerator(generation.TextGenerator):
  """Adds images to what a model with a causal `decoder` writes.

  The prompt is a text; the first token of the image follows its last one, and
  each token the one before it, rows first, all with the decoder of the words.
  A subclass has `decoder`, `pad_id`, `image_codes`, the vectors of tokens of
  images, and the `autoencoder` that makes them, which this does not train:
  freeze its parameters. Both are None in a model that writes no images.

  For guidance (Ho and Salimans 2022), a prompt is made void: all of its tokens
  but the first and the last become padding that is attended to, as in Janus.
  """

  # Its tokens mean nothing before it is trained.
  pretrained_parts: ClassVar[tuple[str, ...]] = ('autoencoder',)

  def encode_tokens(self, images: Array) -> Array:
    """Token ids [B, h, w] int32 of images [B, H, W, C], without gradient."""
    self.check_codes()
    return self.autoencoder.encode_tokens(jax.lax.stop_gradient(images))

  def decode_tokens(self, ids: Array) -> Array:
    """Images [B, H, W, C] of token ids [B, h, w]."""
    self.check_codes()
    return self.autoencoder.decode_tokens(ids)

  def predict_image_tokens(
    self,
    ids: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """Predicts, by teacher forcing, all tokens of images after their texts.

    Args:
      ids: [B, h, w].
      batch: `text` [B, T] with its mask; padding may stand anywhere.
      conditioned: [B], False where the text is void; None for nowhere.
      train: whether dropout is on.

    Returns:
      Logits [B, h, w, V] float32.

    Raises:
      ConfigError: for a model without `image_codes`, or with an encoder.
    """
    self.check_codes()
    text, mask = _find_text(batch)
    if conditioned is not None:
      text = jnp.where(
        conditioned[:, None], text, _void(text, mask, self.pad_id)
      )
    flat = einops.rearrange(ids, 'b h w -> b (h w)')
    words = self.decoder.embed(text)  # [B, T, D]
    images = self.image_codes.embed(flat[:, :-1], train=train)
    whole = jnp.concatenate([words, images.astype(words.dtype)], axis=1)
    seen = jnp.pad(mask, ((0, 0), (0, images.shape[1])), constant_values=True)
    # Padding takes a slot, but no position.
    positions = jnp.maximum(jnp.cumsum(seen, axis=1) - 1, 0)
    encoded = self.decoder.encode_text(
      whole, seen, table_positions=positions, train=train
    )
    x = self.decoder.compute_hidden_states(
      encoded, positions=positions, train=train
    )
    length = text.shape[1]
    first = ops.last_token(x[:, :length], mask)[:, None]
    x = jnp.concatenate([first, x[:, length:]], axis=1)  # [B, h * w, D]
    logits = self.image_codes.logits(x, train=train)
    return einops.rearrange(logits, 'b (h w) v -> b h w v', h=ids.shape[1])

  def draw_tokens(
    self,
    batch: Batch,
    *,
    number: int,
    guidance: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: Array | None = None,
    pad_id: int | None = None,
  ) -> Array:
    """Writes the tokens of images after texts, with a cache.

    Args:
      batch: `text` [B, T] with its mask; padding may stand anywhere.
      number: number of tokens of an image N.
      guidance: factor g of classifier-free guidance, u + g (c - u) of the
        logits after void texts and the texts; 1 needs the latter alone, 0 the
        former.
      temperature: 0 for the likeliest tokens.
      top_k: number of likeliest tokens to sample from; 0 for all.
      top_p: least probability that the tokens to sample from have together.
      rng: a key, or keys [B], as of `mmjax.decoders.sample`.
      pad_id: what void texts have; None: the model's.

    Returns:
      Ids [B, N].

    Raises:
      ConfigError: for a model without `image_codes`, or with an encoder; or for
        more tokens than the decoder has positions for.
    """
    self.check_codes()
    pad_id = self.pad_id if pad_id is None else pad_id
    text, mask = _read_prompt(batch, guidance, pad_id)
    self.check_positions(text.shape[1], number)
    cache = self.decoder.init_cache(len(text), text.shape[1] + number)
    x, cache = self.decoder.compute_hidden_states_cached(
      self.decoder.embed(text), cache, mask
    )
    logits = self.image_codes.logits(ops.last_token(x, mask)[:, None])
    return decoders.sample(
      self._make_step(guidance),
      _guide(logits, guidance)[:, 0],
      cache,
      max_new_tokens=number,
      rng=rng,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      eos_id=(),
    ).tokens

  def _make_step(
    self, guidance: float
  ) -> Callable[..., tuple[Array, decoders.DecoderCache]]:
    """The step function of `mmjax.decoders.sample`, of guided logits."""
    # Inside a compiled loop a module must not touch its own variables.
    module, variables = self.unbind()

    def step(tokens: Array, cache: decoders.DecoderCache, mask: Array):
      del mask  # No image ends early.
      tokens = _repeat(tokens, guidance)
      logits, cache = module.apply(
        variables, tokens, cache, method='decode_image_step'
      )
      return _guide(logits, guidance), cache

    return step

  def decode_image_step(
    self, tokens: Array, cache: decoders.DecoderCache
  ) -> tuple[Array, decoders.DecoderCache]:
    """Decodes tokens of images [B, N]: logits [B, N, V] and cache."""
    vectors = self.image_codes.embed(tokens, train=False)
    x, cache = self.decoder.compute_hidden_states_cached(vectors, cache)
    return self.image_codes.logits(x), cache

  def initialize_codes(self) -> None:
    """Makes the parameters of writing images, while all others are made."""
    if not self.is_initializing() or self.image_codes is None:
      return
    self.check_codes()
    coder = self.autoencoder
    # They do not depend on the size of images.
    shape = (1, 2 * coder.factor, 2 * coder.factor, coder.channels)
    coder.reconstruct({coder.feature: jnp.zeros(shape)})
    self.image_codes.logits(self.image_codes.embed(jnp.zeros((1, 1), int)))

  def check_codes(self) -> None:
    """Refuses models that write no images.

    Raises:
      ConfigError: naming what is missing, or does not fit.
    """
    if self.image_codes is None or self.autoencoder is None:
      raise ConfigError(
        'the model writes no images: set model.image_codes, and '
        'model.autoencoder to what makes their tokens'
      )
    if self.decoder.cross_attention:
      raise ConfigError(
        'a decoder with cross-attention writes no images; use one over images '
        'and words, without model.encoder'
      )
    self.autoencoder.check_single_tokens()
    size = self.autoencoder.codebook.size
    if self.image_codes.size != size:
      raise ConfigError(
        f'model.image_codes.size is {self.image_codes.size}, but the codebook '
        f'of model.autoencoder has {size or "no"} tokens; make them equal'
        + ('' if size else ", with its name 'vq', 'fsq' or 'lfq'")
      )


def _read_prompt(
  batch: Batch, guidance: float, pad_id: int
) -> tuple[Array, Array]:
  """Texts, void ones behind them, or these alone, by the guidance; and a mask.

  Args:
    batch: `text` [B, T] with its mask.
    guidance: factor of guidance, for `_guide`.
    pad_id: what void texts have.

  Returns:
    Ids and mask [B, T] or [2 B, T].
  """
  text, mask = _find_text(batch)
  void = _void(text, mask, pad_id)
  if guidance in (0.0, 1.0):
    return (text if guidance else void), mask
  return jnp.concatenate([text, void]), _repeat(mask, guidance)


def _repeat(x: Array, guidance: float) -> Array:
  """Rows for the texts, and again for void ones if there is guidance."""
  return x if guidance in (0.0, 1.0) else jnp.concatenate([x, x])


def _guide(logits: Array, guidance: float) -> Array:
  """Guided logits [B, ...] of those of texts and of void ones [2 B, ...]."""
  if guidance in (0.0, 1.0):
    return logits
  with_it, without = jnp.split(logits, 2)
  return without + guidance * (with_it - without)


def _find_text(batch: Batch) -> tuple[Array, Array]:
  """Texts [B, T], and their mask [B, T]."""
  mask = batch.get('text_mask')
  text = batch['text']
  return text, jnp.ones(text.shape, bool) if mask is None else mask


def _void(text: Array, mask: Array, pad_id: int) -> Array:
  """Texts [B, T] of padding between their first and last tokens."""
  number = jnp.cumsum(mask, axis=1)  # From 1.
  last = number[:, -1:]
  kept = mask & ((number == 1) | (number == last))
  return jnp.where(kept, text, pad_id)
