"""Published models that embed images and texts in one space."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import tokenizers as tokenizers_lib

from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.pretrained import base, tokenizer_settings
from mmjax.types import Array


class PublishedDualEncoder(base.Pretrained):
  """CLIP and similar models."""

  def encode_image(self, images) -> Array:
    """Encodes images, as for `preprocess`, to unit vectors [B, E]."""
    return self.jit_method('encode_image')(self.params, self.preprocess(images))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Encodes texts to unit vectors [B, E]."""
    return self.jit_method('encode_text')(self.params, *self.tokenize(texts))

  @functools.cached_property
  def tokenizer(self) -> tokenizers_lib.Tokenizer:
    """The published tokenizer, which truncates to the model's longest text.

    Raises:
      ConfigError: if a file is missing or broken, two files contradict each
        other, or texts are padded on the left.
    """
    tokenizer = super().tokenizer
    settings = self.tokenizer_config
    if tokenizer_settings.read_side(settings, 'padding_side') == 'left':
      raise ConfigError(
        f"{tokenizer_settings.FILE}: padding_side is 'left', but mmjax pads "
        'texts on the right, where the first word has the first position; set '
        'it to right, if the model was trained so'
      )
    tokenizer.enable_truncation(
      self.module.text.max_length,
      direction=tokenizer_settings.read_side(settings, 'truncation_side'),
    )
    return tokenizer

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Tokenizes texts to ids [B, T] and a mask [B, T], T >= `padded_length`."""
    ids, mask = base.pad_rows(
      self.tokenize_rows(texts),
      self._pad_id,
      length=self.padded_length,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def padded_length(self) -> int:
    """Length that texts are padded to: that of the model's longest text."""
    return self.module.text.max_length

  @property
  def _pad_id(self) -> int:
    """The tokenizer's padding; config.json can have another one (SigLIP 2)."""
    token = tokenizers.find_named(self.tokenizer, self.tokenizer_config, 'pad')
    if token is not None:
      return self.tokenizer.token_to_id(token)
    return (self.config.get('text_config') or {}).get('pad_token_id', 1)
