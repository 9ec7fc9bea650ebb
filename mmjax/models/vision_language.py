"""Language models with images: the parts, and one with images among words."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import decoders
from mmjax.errors import ConfigError
from mmjax.models import generation, token_generation
from mmjax.models import interleaved_inputs as inputs
from mmjax.types import Array, Batch, Outputs, TokenVectors


class VisionLanguage(token_generation.TokenGenerator):
  """The parts of a language model that gets images as if they were words.

  An image encoder, and where needed a projector, turn images into vectors of
  the decoder's width. Without an `encoder`, the decoder has them in its text;
  with one, the encoder has them, and the decoder attends to its output.

  Attributes:
    vision: an image encoder, `ViT` or `PackedViT`.
    decoder: a `TextDecoder`, with cross-attention if there is an encoder.
    projector: module from the image encoder's tokens to the decoder's width;
      None if they have it already.
    encoder: a `Transformer` over images and texts, for a decoder that writes
      about both; None for a decoder over all of them.
    skipped: number of tokens that are left out of each image, from its first
      on: 1 for a class token.
    prefix_lm: whether tokens before what is written attend to each other in
      both directions.
    bos_id: the token that starts a text that is written.
    eos_id: the token that ends a text.
    pad_id: the token that fills up after the end.
    image_codes: an `TokenCodes`, for a causal decoder that writes images too;
      None for one that does not.
    autoencoder: a trained `ImageAutoencoder`, with `image_codes`.
    sound_codes: a `TokenCodes`, for a causal decoder that writes sounds too.
    sound_autoencoder: a trained `SoundAutoencoder`, with `sound_codes`.
  """

  vision: nn.Module
  decoder: nn.Module
  projector: nn.Module | None = None
  encoder: nn.Module | None = None
  skipped: int = 0
  prefix_lm: bool = False
  bos_id: int = 1
  eos_id: int = 2
  pad_id: int = 0
  image_codes: nn.Module | None = None
  autoencoder: nn.Module | None = None
  sound_codes: nn.Module | None = None
  sound_autoencoder: nn.Module | None = None

  def setup(self):
    encodes = self.encoder is not None
    if self.decoder.cross_attention != encodes:
      raise ConfigError(
        f'model.decoder.cross_attention is {not encodes}, but images stand '
        f'among the words of the {"en" if encodes else "de"}coder; set it to '
        f'{encodes}'
      )
    if encodes and self.encoder.width != self.decoder.width:
      raise ConfigError(
        f'model.encoder.width is {self.encoder.width}, but its words are '
        f'embedded by the decoder, whose width is {self.decoder.width}'
      )

  def _encode(self, images: Array, *, train: bool) -> TokenVectors:
    """Encodes n images an example, [B, n, H, W, C], as [B, n * N, D]."""
    batch = len(images)
    images = images.reshape(-1, *images.shape[2:])  # [B * n, H, W, C]
    encoded = self.vision(images, train=train)
    values = encoded.values[:, self.skipped :]  # [B * n, N, E]
    values = self._project(values, train=train)  # [B * n, N, D]
    # All tokens of an image are real, or none.
    mask = jnp.broadcast_to(encoded.mask[:, :1], values.shape[:2])
    values = values.reshape(batch, -1, values.shape[-1])  # [B, n * N, D]
    return TokenVectors(values, mask.reshape(batch, -1), values[:, 0])

  def _project(self, values: Array, *, train: bool) -> Array:
    if self.projector is None:
      return values
    return self.projector(values, train=train)


class InterleavedVisionLanguage(VisionLanguage, kw_only=True):
  """Writes on from texts that have images among their words.

  A text has a placeholder for each token of its images: the first placeholder
  becomes the first token, and so on. With the placeholder 9 and two tokens an
  image:

    text     1  9  9  5        words of 1 and 5, and the tokens a and b of
    vectors  w1 a  b  w5       the image

  LLaVA (Liu et al. 2023, figure 1) with a ViT and a projector; PaliGemma (Beyer
  et al. 2024) with `prefix_lm` besides; Qwen2-VL (Wang et al. 2024) with a
  `PackedViT`, which needs no projector; BLIP-2 (Li et al. 2023) with a
  `QueryTransformer` and, where its language model is a T5, an `encoder`; Gemma
  3 (Gemma Team 2025) with `image_blocks`; LLaVA-OneVision (Li et al. 2024) with
  `image_newline`.

  Attributes:
    placeholders: ids of the tokens that images replace; of two, the second are
      videos.
    image_blocks: whether the tokens of an image attend to each other in both
      directions, and all others to those before them alone (Gemma 3).
    image_newline: whether a learned token ends each row of an image of tiles,
      whose tokens have the order of `mmjax.ops.anyres`; without an order, one
      stands behind the tokens of each image.
    target_feature: the feature of conversations that it is trained on; '' for
      the batch's `text`.
    input_images: the features of their images, in the order in which a
      conversation counts them.
    input_videos: the feature of their videos.
    image_tokens: number of placeholders of an image in these; 0 if they differ.
  """

  placeholders: Sequence[int]
  image_blocks: bool = False
  image_newline: bool = False
  target_feature: str = ''
  input_images: Sequence[str] = ()
  input_videos: Sequence[str] = ()
  image_tokens: int = 0

  text_kinds: ClassVar[tuple[str, ...]] = ('continue',)

  def setup(self):
    super().setup()
    if getattr(self.vision, 'level_layers', ()) and (
      self.encoder is not None or self.projector is not None
    ):
      raise ConfigError(
        'model.vision.level_layers are added in the decoder as they are, with '
        'neither an encoder nor a projector; leave these out'
      )
    if self.target_feature and (self.encoder is not None or self.prefix_lm):
      raise ConfigError(
        'this model is not trained on conversations: only a causal decoder of '
        'images and words is; use another'
      )
    if self.image_newline:
      self.newline = self.param(
        'newline',
        nn.with_logical_partitioning(
          nn.initializers.normal(self.decoder.width**-0.5), ('embed',)
        ),
        (self.decoder.width,),
        jnp.float32,
      )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Predicts the token after each one of a text or an answer.

    Args:
      batch: `text` [B, T] with `text_mask` [B, T] and its images. Padding comes
        last here, as positions count from the first slot; in `generate` it may
        stand anywhere, as it takes no position there. The images are `image`
        [B, n, H, W, C], n images a text, those that a text lacks last; or
        `patches`, arguments of `PackedViT.encode_patches` by name, of images
        and videos in the order of their placeholders; or, where these differ,
        `patches` of images and `videos`, the same of videos. All may be
        missing. With `image_newline`, `image_layout` may have the arrays [B, N,
        4] of `mmjax.ops.anyres.Layout` by name, of all tokens of a text's
        images. `text_positions` [B, T, A] are rotary positions that don't
        simply count, and `prefix_mask` [B, T] is True for the tokens that
        attend to each other in both directions; without it, they are all or
        none, as the field `prefix_lm` says. With an encoder, also `answer` [B,
        A], beginning with `bos_id`, and its mask. With `target_feature`, the
        arrays are those of `mmjax.data.features.Turns` and of the features of
        its images.
      train: whether dropout is on.

    Returns:
      One output, float32 logits; in training their two factors, which are not
      materialised:

      - `text_logits` [B, T, V], of the token after each of `text`;
      - with `target_feature` as NAME: `NAME_logits` [B, T - 1, V], of all
        tokens of `NAME` [B, T] but the first, as for every objective that
        generates;
      - with an encoder: `answer_token_logits` [B, A - 1, V], likewise of
        `answer` [B, A].
    """
    self.initialize_codes(batch)
    if self.target_feature:
      batch = self._select(batch)
      batch |= {
        key: batch[key][:, :-1] for key in batch if key.startswith('text')
      }
    if self.encoder is not None:
      x, mask = self.embed_words(batch, train=train), _get_text_mask(batch)
      answer_mask = batch.get('answer_mask')
      logits = self.decoder(
        batch['answer'][:, :-1],
        None if answer_mask is None else answer_mask[:, :-1],
        self.encoder(x, mask, train=train),
        train=train,
      )
      return {'answer_token_logits': logits}
    x, _ = self.transform(batch, train=train)
    name = self.target_feature or 'text'
    return {f'{name}_logits': self.decoder.compute_logits(x, train=train)}

  def transform(self, batch: Batch, *, train: bool) -> tuple[Array, Array]:
    """Features [B, T, D] of texts with their images, and their mask [B, T]."""
    x, levels = self._embed_levels(batch, train=train)  # [B, T, D]
    mask = _get_text_mask(batch)
    positions = batch.get('text_positions')
    counts = positions is not None and positions.ndim == 2
    text = self.decoder.encode_text(
      x, mask, table_positions=positions if counts else None, train=train
    )
    x = self.decoder.compute_hidden_states(
      text.replace(levels=levels),
      positions=positions,
      prefix_mask=self._find_prefix(batch, mask),
      segments=batch.get('text_segments'),
      train=train,
    )
    return x, mask

  def encode_images(
    self, batch: Batch, *, train: bool = False
  ) -> TokenVectors | None:
    """The tokens of all images of a text, [B, N, D]; None without any.

    Those of `videos` come last.
    """
    media = self._encode_seen(batch, train=train)
    return inputs.join_tokens(media) if media else None

  @property
  def _image_placeholders(self) -> tuple[int, ...]:
    """Those of `placeholders` that are not of sounds."""
    return tuple(self.placeholders)

  def _encode_seen(self, batch: Batch, *, train: bool) -> list[inputs.Media]:
    """Images and videos, each kind with the placeholders that it replaces."""
    ids = self._image_placeholders
    apart = {'patches': ids[:1], 'videos': ids[-1:]}
    chosen = apart if 'videos' in batch else {'patches': ids}
    media = [
      inputs.Media(own, self._encode_patches(batch[key], train=train))
      for key, own in chosen.items()
      if key in batch
    ]
    if 'image' in batch:
      media.append(inputs.Media(ids, self._encode_tiles(batch, train=train)))
    return media

  def _encode_tiles(self, batch: Batch, *, train: bool) -> TokenVectors:
    """Images, or tiles of images, of one size."""
    tokens = self._encode(batch['image'], train=train)
    number, layout = batch['image'].shape[1], batch.get('image_layout')
    if self.image_newline and layout is None:
      tokens = self._end_images(tokens, number)
    self._check_tokens(tokens.values.shape[1] // number)
    if layout is None:
      return tokens
    if not self.image_newline:
      raise ConfigError(
        'tokens of images are laid out in rows, but model.image_newline is '
        'False, so no token ends a row; set it to True, or cut images by '
        "another scheme than 'padded'"
      )
    return self._lay_out(tokens, **layout)

  def _encode_patches(
    self, patches: Mapping[str, Array], *, train: bool
  ) -> TokenVectors:
    encoded = self.vision.encode_patches(**patches, train=train)
    values = self._project(encoded.values, train=train)
    return TokenVectors(values, encoded.mask, values[:, 0], encoded.levels)

  def _check_tokens(self, number: int) -> None:
    if self.image_tokens and number != self.image_tokens:
      raise ConfigError(
        f'data.features.{self.target_feature}.image_tokens is '
        f'{self.image_tokens}, but the model makes {number} tokens of an '
        f'image; set it to {number}'
      )

  def _encode_media(self, batch: Batch, *, train: bool) -> list[inputs.Media]:
    """All that replaces placeholders."""
    return self._encode_seen(batch, train=train)

  def _lay_out(
    self, tokens: TokenVectors, sources: Array, weights: Array
  ) -> TokenVectors:
    """Weighted means [B, N, D] of tokens [B, S, D], by `anyres.Layout`."""
    ends = self._make_newlines(tokens.values)
    tiles = jnp.concatenate([ends, tokens.values], axis=1)  # [B, 1 + S, D]
    values = sum(
      jnp.take_along_axis(tiles, sources[:, :, i, None], axis=1)
      * weights[:, :, i, None].astype(tiles.dtype)
      for i in range(sources.shape[2])
    )  # [B, N, D]
    return TokenVectors(values, (weights > 0).any(axis=2), values[:, 0])

  def _end_images(self, tokens: TokenVectors, number: int) -> TokenVectors:
    """Puts the newline behind each of n images: [B, n * (N + 1), D]."""
    batch, _, width = tokens.values.shape
    values = tokens.values.reshape(batch, number, -1, width)
    ends = self._make_newlines(values)
    values = jnp.concatenate([values, ends], axis=2).reshape(batch, -1, width)
    mask = tokens.mask.reshape(batch, number, -1)
    mask = jnp.concatenate([mask, mask[:, :, :1]], axis=2)
    return TokenVectors(values, mask.reshape(batch, -1), values[:, 0])

  def _make_newlines(self, values: Array) -> Array:
    """One for each row of tokens [..., N, D]: [..., 1, D]."""
    shape = (*values.shape[:-2], 1, values.shape[-1])
    return jnp.broadcast_to(self.newline.astype(values.dtype), shape)

  def embed_words(self, batch: Batch, *, train: bool = False) -> Array:
    """Vectors [B, T, D] of texts, images in the place of placeholders."""
    return self._embed_levels(batch, train=train)[0]

  def _embed_levels(
    self, batch: Batch, *, train: bool = False
  ) -> tuple[Array, Array | None]:
    """The same, and levels [n, B, T, D] of the images, 0 elsewhere."""
    ids = batch['text']
    replaced = inputs.find_placeholders(ids, self.placeholders)  # [B, T]
    # A placeholder need not have a word vector.
    words = self.decoder.embed(jnp.where(replaced, 0, ids))  # [B, T, D]
    return inputs.insert(words, ids, self._encode_media(batch, train=train))

  def prefill(
    self, batch: Batch, text_kind: str, max_new_tokens: int
  ) -> tuple[Array, decoders.DecoderCache, tuple[Array, Array]]:
    """Fills a cache with the prompt and its images, with room for the text."""
    if self.encoder is not None:
      return super().prefill(batch, text_kind, max_new_tokens)
    if self.target_feature:
      batch = self._select(batch)
    mask, positions = _get_text_mask(batch), batch.get('text_positions')
    if positions is not None and positions.ndim == 2:
      positions = None  # Not M-RoPE's: they count from 0 in the only text.
    self.check_positions(mask.shape[1], max_new_tokens)
    cache = self.decoder.init_cache(
      mask.shape[0], mask.shape[1] + max_new_tokens
    )
    vectors, levels = self._embed_levels(batch)
    x, cache = self.decoder.compute_hidden_states_cached(
      vectors,
      cache,
      mask,
      positions=positions,
      prefix_mask=self._find_prefix(batch, mask),
      levels=levels,
    )
    return self.next_logits(x, mask), cache, (batch['text'], mask)

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The encoder's tokens of a text with images, and an answer's start."""
    del text_kind  # There is one.
    context = self.encoder(
      self.embed_words(batch), _get_text_mask(batch), train=False
    )
    start = generation.read_decoder_prompt(
      batch, context.mask.shape[0], self.bos_id
    )
    return context, *start

  def _select(self, batch: Batch, name: str = '') -> dict[str, Array]:
    """Selects a feature without images; for '', `target_feature` with its."""
    rope = (self.decoder.block or {}).get('rope') or {}
    return inputs.select(
      batch,
      name or self.target_feature,
      () if name else self.input_images,
      () if name else self.input_videos,
      has_axes=bool(rope.get('sections')),
    )

  def _find_prefix(self, batch: Batch, mask: Array) -> Array | None:
    """What attends both ways [B, T]: `prefix_mask`, all tokens, or images."""
    if 'prefix_mask' in batch or not self.image_blocks:
      return batch.get('prefix_mask', mask if self.prefix_lm else None)
    # Numbers of the images that tokens are of, 0 for words.
    images = inputs.find_placeholders(batch['text'], self._image_placeholders)
    before = jnp.pad(images, ((0, 0), (1, 0)))[:, :-1]
    return jnp.cumsum(images & ~before, axis=1) * images


def _get_text_mask(batch: Batch) -> Array:
  mask = batch.get('text_mask')
  return jnp.ones(batch['text'].shape, bool) if mask is None else mask
