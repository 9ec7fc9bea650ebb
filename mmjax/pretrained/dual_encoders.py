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
  """CLIP and its kin."""

  def encode_image(self, pictures) -> Array:
    """Unit vectors [B, E] of pictures, see `pixels`."""
    return self.compiled('encode_image')(self.params, self.pixels(pictures))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Unit vectors [B, E] of texts."""
    return self.compiled('encode_text')(self.params, *self.tokenize(texts))

  @functools.cached_property
  def tokenizer(self) -> tokenizers_lib.Tokenizer:
    """As published, but cutting texts at what the model reads.

    Raises:
      ConfigError: as of `base.Pretrained`, and where texts are padded on the
        left.
    """
    tokenizer = super().tokenizer
    settings = self.tokenizer_config
    if tokenizer_settings.side(settings, 'padding_side') == 'left':
      raise ConfigError(
        f"{tokenizer_settings.FILE}: padding_side is 'left', but mmjax pads "
        'texts on the right, where the first word has the first position; set '
        'it to right, if the model was trained so'
      )
    tokenizer.enable_truncation(
      self.module.text.max_length,
      direction=tokenizer_settings.side(settings, 'truncation_side'),
    )
    return tokenizer

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], T being at least `padded_length`."""
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    ids, mask = base.padded(
      [one.ids for one in encoded],
      self._pad_id,
      length=self.padded_length,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def padded_length(self) -> int:
    """What texts are padded to: the most that the model reads."""
    return self.module.text.max_length

  @property
  def _pad_id(self) -> int:
    """The tokenizer's, which config.json does not always know (SigLIP 2)."""
    token = tokenizers.find_pad(self.tokenizer, self.tokenizer_config)
    if token is not None:
      return self.tokenizer.token_to_id(token)
    return (self.config.get('text_config') or {}).get('pad_token_id', 1)
