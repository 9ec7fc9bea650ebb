"""A language model with images, as an encoder of texts and images."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.models import dual_encoder, token_generation, vision_language
from mmjax.types import Array, Batch, Outputs, Positive

POOLINGS = ('last', 'tokens')


class VisionLanguageEmbedder(
  vision_language.InterleavedVisionLanguage, kw_only=True
):
  """Embeds texts, conversations and images in one space.

  All go through one language model, an image as its tokens alone. Its last
  token's features become the vector (E5-V, Jiang et al. 2024; VLM2Vec, Jiang et
  al. 2024), or each token's features a vector of its own (ColPali, Faysse et
  al. 2024, section 4.1, with an `embed_dim` of 128). No vocabulary is needed
  for that, but the parameters are those of the language model.

  Attributes:
    pooling: 'last', or 'tokens' for several vectors an example.
    embed_dim: E, width of a projection that all features share; 0 for none.
    embedded: the features that tasks compare. None has images among its words:
      images are features of their own.
    logit_scale_init: inverse temperature at the start.
    logit_scale_max: upper limit of the inverse temperature.
    logit_bias_init: the sigmoid loss's bias at the start; None for no bias.
  """

  placeholders: Sequence[int] = ()
  pooling: str = 'last'
  embed_dim: int = 0
  embedded: Sequence[str] = ()
  logit_scale_init: Positive = 50.0
  logit_scale_max: Positive = 100.0
  logit_bias_init: float | None = None

  text_kinds: ClassVar[tuple[str, ...]] = ()

  def setup(self):
    super().setup()
    check_choice(self.pooling, POOLINGS, 'model.pooling')
    written = itertools.chain(*token_generation.PARTS.values())
    for name in ('encoder', *written):
      if getattr(self, name) is not None:
        raise ConfigError(
          f'model.{name} is not for embedding, which takes only vision, '
          'projector and decoder; leave it out, and start from those parts '
          'alone: init_from=vision=FOLDER,projector=FOLDER,decoder=FOLDER'
        )
    kind = 'linear' if self.embed_dim else None
    self.projection = dual_encoder.Projection(
      self.embed_dim or self.decoder.width, kind
    )
    self.scale = dual_encoder.Scale(
      self.logit_scale_init, self.logit_scale_max, self.logit_bias_init
    )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Embeds the features of `embedded`, as far as a batch has them.

    Args:
      batch: for each, ids [B, T] with their mask, of n texts [B, n, T]; or
        images [B, H, W, C] with a mask [B].
      train: whether dropout is on.

    Returns:
      `NAME_embedding`, unit vectors [B, E]; with `pooling='tokens'` [B, N, E],
      those of padding being 0. Of n texts they have an axis n behind B.
      `logit_scale` [] and, with a bias, `logit_bias` [].
    """
    out = dict(self.scale())
    for name in self.embedded:
      if name in batch:
        out[f'{name}_embedding'] = self.embed(batch, name, train=train)
    return out

  def embed(self, batch: Batch, name: str, *, train: bool = False) -> Array:
    """Vectors of one feature, as `NAME_embedding` of the call."""
    array, mask = batch[name], batch.get(f'{name}_mask')
    if jnp.issubdtype(array.dtype, jnp.integer) and array.ndim == 3:
      rows = {name: array.reshape(-1, array.shape[-1])}  # [B * n, T]
      if mask is not None:
        rows[f'{name}_mask'] = mask.reshape(rows[name].shape)
      vectors = self.embed(rows, name, train=train)
      return vectors.reshape(*array.shape[:2], *vectors.shape[1:])
    if jnp.issubdtype(array.dtype, jnp.integer):
      batch = self._select(batch, name)
      values, mask = self.transform(batch, train=train)
    else:
      image = array if mask is None else ops.zero_masked(array, mask)
      tokens = self.encode_images({'image': image[:, None]}, train=train)
      exists = True if mask is None else mask[:, None]
      text = self.decoder.encode_text(
        tokens.values, tokens.mask & exists, train=train
      )
      prefix = tokens.mask if self.prefix_lm or self.image_blocks else None
      values = self.decoder.compute_hidden_states(
        text.replace(levels=tokens.levels), prefix_mask=prefix, train=train
      )
      mask = text.mask
    if self.is_initializing():
      # No loss needs logits, but their parameters are the language model's.
      self.decoder.compute_logits(values, train=True)
    if self.pooling == 'last':
      return self.projection(ops.last_token(values, mask))
    return ops.zero_masked(self.projection(values), mask)
