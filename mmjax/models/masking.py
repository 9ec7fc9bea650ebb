"""What a model of masked features has beyond its encoders."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import encoders, ops
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.types import Array, FactoredLogits, Size, TokenVectors

_PATCHED = (encoders.ViT, encoders.SpectrogramTransformer)


class Reconstruction(NamedTuple):
  """Patches of inputs of which a part was hidden.

  Attributes:
    predicted: [B, P, E] float32, normalised as by
      `mmjax.objectives.normalise_patches`.
    target: true values [B, P, E], not normalised.
    hidden: bool [B, P], True for patches that were hidden, padding excepted.
    grid: number of rows and columns of the patches.
  """

  predicted: Array
  target: Array
  hidden: Array
  grid: tuple[int, int]


class TokenHead(nn.Module):
  """Predicts tokens of a text from the vectors of their positions.

  A dense layer, GELU and a norm lead to the transpose of the word embedding, as
  in BERT's published code.

  Attributes:
    width: number of features of a word vector D.
    vocab_size: size of the vocabulary V.
    mask_id: id of the tokenizer that stands for a hidden token; None for a
      learned vector.
    dtype: dtype of the computation.
  """

  width: Size
  vocab_size: Size
  mask_id: int | None = None
  dtype: Any = jnp.float32

  def setup(self):
    self.transform = mnn.Dense(
      self.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), ('embed', None)
      ),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      dtype=self.dtype,
    )
    self.transform_norm = mnn.make_norm('layernorm', 1e-6, self.dtype)
    self.bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('vocab',)),
      (self.vocab_size,),
      jnp.float32,
    )
    if self.mask_id is None:
      self.mask_vector = self.param(
        'mask_vector',
        nn.with_logical_partitioning(nn.initializers.normal(0.02), ('embed',)),
        (self.width,),
        jnp.float32,
      )

  def embed(
    self, ids: Array, hidden: Array, words: mnn.TokenEmbedding
  ) -> Array:
    """Word vectors [B, T, D] of ids [B, T], but where `hidden` [B, T]."""
    if self.mask_id is not None:
      return words.embed(jnp.where(hidden, self.mask_id, ids))
    vector = self.mask_vector.astype(self.dtype)[None, None]
    return jnp.where(hidden[:, :, None], vector, words.embed(ids))

  def __call__(self, x: Array, words: mnn.TokenEmbedding) -> FactoredLogits:
    """Logits of vectors [B, K, E], not materialised."""
    x = jax.nn.gelu(self.transform(x), approximate=False)
    return words.factor_logits(self.transform_norm(x), self.bias)


class PatchDecoder(nn.Module):
  """Predicts the values of all patches from the tokens of the visible ones.

  The decoder of a masked autoencoder (He et al. 2022, section 3): hidden
  patches are one learned vector with their positions.

  Attributes:
    width: number of features.
    depth: number of blocks.
    num_heads: number of heads.
    dtype: dtype of the computation; results are float32.
  """

  width: Size
  depth: int
  num_heads: Size
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    tokens: TokenVectors,
    order: Array,
    visible: int,
    grid: tuple[int, int],
    size: int,
    *,
    train: bool,
  ) -> Array:
    """Predicts patches.

    Args:
      tokens: tokens of an encoder of K visible patches, perhaps after learned
        tokens, values [B, F + K, D].
      order: [B, P], the patches' indices, visible ones first.
      visible: K.
      grid: rows and columns of the patches, whose product is P.
      size: number of values of a patch E.
      train: whether dropout is on.

    Returns:
      [B, P, E], in the patches' own order.
    """
    x = mnn.Linear(self.width, dtype=self.dtype, name='projection')(
      tokens.values, train=train
    )
    token = self.param(
      'mask_token',
      nn.with_logical_partitioning(nn.initializers.normal(0.02), ('embed',)),
      (self.width,),
      jnp.float32,
    ).astype(self.dtype)
    front = x.shape[1] - visible
    patches = restore_order(x[:, front:], order, token)  # [B, P, D]
    positions = ops.sincos_2d(*grid, self.width).astype(self.dtype)
    x = jnp.concatenate([x[:, :front], patches + positions[None]], axis=1)
    mask = jnp.broadcast_to(tokens.mask[:, :1], x.shape[:2])
    x, _ = mnn.Stack(
      self.depth,
      self.width,
      self.num_heads,
      4 * self.width,
      dtype=self.dtype,
      name='blocks',
    )(x, visible=mnn.Visible.of_keys(mask), train=train)
    x = mnn.make_norm('layernorm', 1e-6, self.dtype, name='last_norm')(x)
    head = mnn.Linear(size, dtype=self.dtype, name='head')
    return head(x[:, front:], train=train).astype(jnp.float32)  # [B, P, E]


def restore_order(visible: Array, order: Array, token: Array) -> Array:
  """Puts visible patches where they were, and a token in all others.

  Of 4 patches with the order 2, 0, 1, 3 and vectors x, y of the visible ones 2
  and 0, the result is y, token, x, token.

  Args:
    visible: [B, K, D].
    order: [B, P], the patches' indices, visible ones first.
    token: [D].
  """
  hidden = order.shape[1] - visible.shape[1]
  tokens = jnp.broadcast_to(token, (len(order), hidden, token.shape[0]))
  shuffled = jnp.concatenate([visible, tokens], axis=1)  # [B, P, D]
  back = jnp.argsort(order, axis=1)
  return jnp.take_along_axis(shuffled, back[:, :, None], axis=1)


def count_visible(patches: int, fraction: float) -> int:
  """Number of patches that stay visible where a fraction is hidden.

  Raises:
    ConfigError: if there are fewer than two patches.
  """
  if patches < 2:
    raise ConfigError(
      'an input of one patch has none to hide; use a smaller patch_size'
    )
  return min(patches - 1, max(1, patches - round(fraction * patches)))


def find_real(
  encoder: nn.Module, shape: tuple[int, ...], mask: Array | None
) -> Array:
  """Which patches are not only padding, bool [B, P].

  Args:
    encoder: the encoder that cuts the input.
    shape: shape of the input, an image [B, H, W, C] or a spectrogram [B, F, M].
    mask: [B, F] of the frames that are sound; a mask [B], or None, for inputs
      without padding.
  """
  frames = jnp.ones((), bool)
  if mask is not None and mask.ndim == 2:
    frames = mask[:, :, None]
  patches, _ = encoder.cut(jnp.broadcast_to(frames, shape))
  return patches.any(axis=-1)


def order_patches(
  scores: Array, real: Array, fraction: float
) -> tuple[Array, Array]:
  """Chooses which patches are hidden, at least one of each example.

  The first K patches of the order are those that stay visible, with K of
  `count_visible`. An example with padding has fewer patches to hide, so its
  visible ones are filled up with padding. Of 5 patches with the scores .4, .1,
  .9, .3, .5 of which the last two are padding, and the fraction 0.6, K is 2;
  two of three are hidden, and the order is 1, 3, 4, 0, 2.

  Args:
    scores: random numbers [B, P].
    real: bool [B, P], False for padding.
    fraction: fraction of the patches that aren't padding to hide.

  Returns:
    The patches' indices, visible ones first [B, P], and which are hidden,
    bool [B, P].
  """
  size = real.shape[1]
  visible = jnp.asarray(
    [0, 0, *(count_visible(n, fraction) for n in range(2, size + 1))]
  )[real.sum(axis=1)]  # [B]
  ranks = jnp.argsort(jnp.argsort(jnp.where(real, scores, jnp.inf), axis=1), 1)
  hidden = real & (ranks >= visible[:, None])
  group = jnp.where(hidden, 2, jnp.where(real, 0, 1))
  return jnp.lexsort((ranks, group), axis=1), hidden


def find_encoder(
  built: Mapping[str, nn.Module],
  encoder_inputs: Mapping[str, Sequence[str]] | None,
  feature: str,
) -> str:
  """Name of the encoder of a feature of which a part is hidden.

  Args:
    built: encoders by name.
    encoder_inputs: features that each reads, by its name.
    feature: the feature.

  Raises:
    ConfigError: if there is none, or it can't do without a part of its input.
  """
  encoder_inputs = encoder_inputs or {}
  for name, encoder in built.items():
    if tuple(encoder_inputs.get(name, (name,))) == (feature,):
      _check_encoder(name, encoder)
      return name
  raise ConfigError(
    f'tasks.masked.feature={feature!r} is read by no encoder of the model; add '
    f'model.encoders.{feature}'
  )


def check(
  model: nn.Module, masked_heads: Mapping[str, Mapping[str, Any]]
) -> None:
  """Refuses a model that can't predict hidden parts of these features.

  Raises:
    ConfigError: naming what to change.
  """
  if not hasattr(model, 'masked_heads'):
    raise ConfigError(
      f'{type(model).__name__} hides no parts of its inputs, as tasks.masked '
      "needs; use model.name='multimodal'"
    )
  for feature in masked_heads:
    name = find_encoder(model.encoders, model.encoder_inputs, feature)
    if model.fusion is not None and is_text(model.encoders[name]):
      locate(model.fusion, dict.fromkeys(model.encoders, 1), name)


def is_text(encoder: nn.Module) -> bool:
  """Whether hidden parts of an encoder's input are tokens, not patches."""
  return isinstance(encoder, encoders.Transformer)


def _check_encoder(name: str, encoder: nn.Module) -> None:
  path = f'model.encoders.{name}'
  if is_text(encoder):
    if encoder.causal:
      raise ConfigError(
        f'{path}.causal=True lets a token attend only to those before it; '
        'tasks.masked predicts tokens from both sides, so set it to False'
      )
    return
  if isinstance(encoder, encoders.FromSamples):
    encoder = encoder.encoder
  if not isinstance(encoder, _PATCHED):
    raise ConfigError(
      f'{path} is {type(encoder).__name__}, of which tasks.masked can hide '
      "nothing; use 'transformer' for a text, 'vit' for an image, "
      "'spectrogram_transformer' for a sound"
    )
  size = encoder.patch_size
  if isinstance(encoder, encoders.SpectrogramTransformer) and tuple(
    encoder.strides
  ) != (size, size):
    raise ConfigError(
      f'{path}.strides={tuple(encoder.strides)} makes patches of {size} '
      'overlap, so that visible ones show hidden ones; tasks.masked needs '
      f'strides=({size}, {size})'
    )


def make_head(
  encoder: nn.Module, settings: Mapping[str, Any], dtype: Any
) -> nn.Module:
  """The head of a feature, by the encoder of it and a task's settings."""
  if is_text(encoder):
    return TokenHead(
      encoder.width, encoder.vocab_size, settings.get('mask_id'), dtype=dtype
    )
  return PatchDecoder(
    settings['width'], settings['depth'], settings['num_heads'], dtype=dtype
  )


def slice_fused(
  fused: TokenVectors,
  module: nn.Module,
  tokens: Mapping[str, TokenVectors],
  name: str,
) -> Array:
  """One encoder's tokens [B, N, D] among fused ones.

  Args:
    fused: what a fusion made of `tokens`.
    module: the fusion.
    tokens: by encoder.
    name: the encoder.

  Raises:
    ConfigError: if the fusion doesn't keep its tokens.
  """
  start = locate(module, {n: t.mask.shape[1] for n, t in tokens.items()}, name)
  return fused.values[:, start : start + tokens[name].mask.shape[1]]


def locate(module: nn.Module, lengths: Mapping[str, int], name: str) -> int:
  """Where one encoder's tokens begin among fused ones.

  Args:
    module: the fusion.
    lengths: number of tokens by encoder.
    name: the encoder.

  Raises:
    ConfigError: if the fusion doesn't keep its tokens.
  """
  start = module.locate(lengths, name) if hasattr(module, 'locate') else None
  if start is None:
    raise ConfigError(
      f'model.fusion, {type(module).__name__}, does not mix the tokens of '
      f"{name!r}, which tasks.masked predicts; use name='concat', or "
      f"name='cross_attention' with query={name!r}"
    )
  return start
