"""Language models that write images and sounds too, token after token."""

from collections.abc import Callable
from typing import ClassVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import decoders, ops
from mmjax.errors import ConfigError
from mmjax.models import generation
from mmjax.types import Array, Batch

# Kind of what is written -> the parts of a model for it: the vectors of its
# tokens, and the autoencoder that makes them.
PARTS = {
  'image': ('image_codes', 'autoencoder'),
  'sound': ('sound_codes', 'sound_autoencoder'),
}


class TokenGenerator(generation.TextGenerator):
  """Adds images and sounds to what a model with a causal `decoder` writes.

  The prompt is a text; the first token of the image or sound follows its last
  one, and each token the one before it, rows of an image first, all with the
  decoder of the words. A subclass has `decoder`, `pad_id`, `image_codes`, the
  vectors of tokens of images, and the `autoencoder` that makes them, which this
  does not train: freeze its parameters. Both are None in a model that writes no
  images. `sound_codes` and `sound_autoencoder` are the same of sounds, whose
  tokens are one row.

  For guidance (Ho and Salimans 2022), a prompt is made void: all of its tokens
  but the first and the last become padding that is attended to, as in Janus.
  """

  # Their tokens mean nothing before they are trained.
  pretrained_parts: ClassVar[tuple[str, ...]] = (
    'autoencoder',
    'sound_autoencoder',
  )

  def encode_tokens(self, values: Array, *, kind: str = 'image') -> Array:
    """Token ids [B, h, w] int32, without gradient.

    Args:
      values: images [B, H, W, C], or samples of sounds [B, S], whose h is 1.
      kind: 'image' or 'sound'.
    """
    _, coder = self.find_writer(kind)
    return coder.encode_tokens(jax.lax.stop_gradient(values))

  def decode_tokens(self, ids: Array, *, kind: str = 'image') -> Array:
    """Images [B, H, W, C] or samples [B, S] of token ids [B, h, w]."""
    _, coder = self.find_writer(kind)
    return coder.decode_tokens(ids)

  def predict_written_tokens(
    self,
    ids: Array,
    batch: Batch,
    conditioned: Array | None = None,
    *,
    kind: str = 'image',
    train: bool = False,
  ) -> Array:
    """Predicts, by teacher forcing, all tokens that follow texts.

    Args:
      ids: [B, h, w].
      batch: `text` [B, T] with its mask; padding may stand anywhere.
      conditioned: [B], False where the text is void; None for nowhere.
      kind: 'image' or 'sound'.
      train: whether dropout is on.

    Returns:
      Logits [B, h, w, V] float32.

    Raises:
      ConfigError: for a model without the parts of this kind, or with an
        encoder.
    """
    codes, _ = self.find_writer(kind)
    text, mask = _find_text(batch)
    if conditioned is not None:
      text = jnp.where(
        conditioned[:, None], text, _void(text, mask, self.pad_id)
      )
    flat = einops.rearrange(ids, 'b h w -> b (h w)')
    words = self.decoder.embed(text)  # [B, T, D]
    written = codes.embed(flat[:, :-1], train=train)
    whole = jnp.concatenate([words, written.astype(words.dtype)], axis=1)
    seen = jnp.pad(mask, ((0, 0), (0, written.shape[1])), constant_values=True)
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
    logits = codes.logits(x, train=train)
    return einops.rearrange(logits, 'b (h w) v -> b h w v', h=ids.shape[1])

  def write_tokens(
    self,
    batch: Batch,
    *,
    number: int,
    kind: str = 'image',
    guidance: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: Array | None = None,
    pad_id: int | None = None,
  ) -> Array:
    """Writes the tokens of images or sounds after texts, with a cache.

    Args:
      batch: `text` [B, T] with its mask; padding may stand anywhere.
      number: number of tokens of an image or sound N.
      kind: 'image' or 'sound'.
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
      ConfigError: for a model without the parts of this kind, or with an
        encoder; or for more tokens than the decoder has positions for.
    """
    codes, _ = self.find_writer(kind)
    pad_id = self.pad_id if pad_id is None else pad_id
    text, mask = _read_prompt(batch, guidance, pad_id)
    self.check_positions(text.shape[1], number)
    cache = self.decoder.init_cache(len(text), text.shape[1] + number)
    x, cache = self.decoder.compute_hidden_states_cached(
      self.decoder.embed(text), cache, mask
    )
    logits = codes.logits(ops.last_token(x, mask)[:, None])
    return decoders.sample(
      self._make_step(guidance, kind),
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
    self, guidance: float, kind: str
  ) -> Callable[..., tuple[Array, decoders.DecoderCache]]:
    """The step function of `mmjax.decoders.sample`, of guided logits."""
    # Inside a compiled loop a module must not touch its own variables.
    module, variables = self.unbind()

    def step(tokens: Array, cache: decoders.DecoderCache, mask: Array):
      del mask  # None ends early.
      tokens = _repeat(tokens, guidance)
      logits, cache = module.apply(
        variables, tokens, cache, kind, method='decode_written_step'
      )
      return _guide(logits, guidance), cache

    return step

  def decode_written_step(
    self, tokens: Array, cache: decoders.DecoderCache, kind: str
  ) -> tuple[Array, decoders.DecoderCache]:
    """Decodes tokens of a kind [B, N]: logits [B, N, V] and cache."""
    codes, _ = self.find_writer(kind)
    vectors = codes.embed(tokens, train=False)
    x, cache = self.decoder.compute_hidden_states_cached(vectors, cache)
    return codes.logits(x), cache

  def initialize_codes(self, batch: Batch) -> None:
    """Makes the parameters of writing, while all others are made.

    Args:
      batch: with `text` also the decoder's, as a batch without images may need
        them for this alone.
    """
    if not self.is_initializing():
      return
    for kind, (name, _) in PARTS.items():
      if getattr(self, name) is not None:
        codes, coder = self.find_writer(kind)
        # They do not depend on the size of images, nor the length of sounds.
        coder.reconstruct({coder.feature: jnp.zeros(coder.smallest_shape)})
        codes.logits(codes.embed(jnp.zeros((1, 1), int)))
        if 'text' in batch:
          ids = jnp.zeros((len(batch['text']), 1, 2), int)
          self.predict_written_tokens(ids, batch, kind=kind)

  def find_writer(self, kind: str) -> tuple[nn.Module, nn.Module]:
    """The parts that write a kind: its codes, and its autoencoder.

    Raises:
      ConfigError: naming what is missing, or does not fit.
    """
    names = PARTS[kind]
    codes, coder = (getattr(self, name) for name in names)
    if codes is None or coder is None:
      raise ConfigError(
        f'the model writes no {kind}s: set model.{names[0]}, and '
        f'model.{names[1]} to what makes their tokens'
      )
    if self.decoder.cross_attention:
      raise ConfigError(
        f'a decoder with cross-attention writes no {kind}s; use one over '
        'images and words, without model.encoder'
      )
    coder.check_single_tokens()
    size = coder.codebook.size
    if codes.size != size:
      raise ConfigError(
        f'model.{names[0]}.size is {codes.size}, but the codebook of '
        f'model.{names[1]} has {size or "no"} tokens; make them equal'
        + ('' if size else ", with its name 'vq', 'fsq' or 'lfq'")
      )
    return codes, coder


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
