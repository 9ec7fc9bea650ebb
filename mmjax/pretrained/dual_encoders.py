"""Published models that embed images and texts in one space."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import tokenizers

from mmjax.pretrained import base
from mmjax.types import Array


class DualEncoder(base.Pretrained):
  """CLIP and its kin."""

  def encode_image(self, pictures) -> Array:
    """Unit vectors [B, E] of pictures, see `pixels`."""
    return self.compiled('encode_image')(self.params, self.pixels(pictures))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Unit vectors [B, E] of texts."""
    return self.compiled('encode_text')(self.params, *self.tokenize(texts))

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """As published, but cutting texts at what the model reads."""
    tokenizer = super().tokenizer
    tokenizer.enable_truncation(self.module.text.max_length)
    return tokenizer

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], T being the most that the model reads."""
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    pad = (self.config.get('text_config') or {}).get('pad_token_id', 1)
    shape = (len(encoded), self.module.text.max_length)
    ids, mask = np.full(shape, pad, np.int32), np.zeros(shape, bool)
    for row, one in enumerate(encoded):
      ids[row, : len(one.ids)] = one.ids
      mask[row, : len(one.ids)] = True
    return jnp.asarray(ids), jnp.asarray(mask)
