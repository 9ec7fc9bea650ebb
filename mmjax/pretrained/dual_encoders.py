"""Published models that embed images and texts in one space."""

import functools
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import tokenizers

from mmjax.pretrained import base
from mmjax.types import Array


class DualEncoder(base.Pretrained):
  """CLIP and its kin.

  Attributes:
    reads_padding: whether padding is read like words, as in SigLIP's training,
      and texts are pooled at the last place, whatever stands there.
  """

  reads_padding: ClassVar[bool] = False

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
    pad = 0
    if self.reads_padding:
      pad = (self.config.get('text_config') or {}).get('pad_token_id', 1)
    shape = (len(encoded), self.module.text.max_length)
    ids = np.full(shape, pad, np.int32)
    mask = np.full(shape, self.reads_padding)
    for row, one in enumerate(encoded):
      ids[row, : len(one.ids)] = one.ids
      mask[row, : len(one.ids)] = True
    return jnp.asarray(ids), jnp.asarray(mask)
