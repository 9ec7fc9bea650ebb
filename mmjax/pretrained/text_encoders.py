"""Published models that encode texts."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import tokenizers as tokenizers_lib

from mmjax.data import tokenizers
from mmjax.pretrained import base, sentences, tokenizer_settings
from mmjax.types import Array, TokenVectors

# Texts are padded to a multiple of this, so that few lengths are compiled.
_PAD_MULTIPLE = 16


class PublishedTextEncoder(base.Pretrained):
  """BERT, the encoder of T5, and sentence encoders made of them."""

  def encode_text(
    self,
    texts: str | Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
  ) -> Array:
    """Encodes texts to vectors [B, D].

    The modules.json of a sentence encoder says how they are pooled and
    normalised, see `sentences`; other models have the pooling of their module:
    BERT that of the first token, T5 the mean.

    Args:
      texts: one text or several.
      prompt: text in front of each, '' for none; None for that of
        `prompt_name`.
      prompt_name: name of a prompt in the folder of a sentence encoder; None
        for its default, if it has one.

    Raises:
      ConfigError: if the prompt is unknown, or the folder has a setting that
        mmjax does not support.
    """
    before = sentences.find_prompt(self.files, prompt, prompt_name)
    tokens = self.encode_tokens([before + text for text in base.as_list(texts)])
    if not sentences.is_encoder(self.files):
      return tokens.pooled
    return self._pooling(
      tokens.values, tokens.mask, self._prompt_tokens(before)
    )

  def encode_tokens(self, texts: str | Sequence[str]) -> TokenVectors:
    """Encodes texts to `TokenVectors`: a vector for each token."""
    encode = (
      self.jit_method('encode_text')
      if hasattr(self.module, 'encode_text')
      else self.jit_method('__call__', train=False)
    )
    return encode(self.params, *self.tokenize(texts))

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Tokenizes texts to ids and mask [B, T], T <= `max_text_tokens`."""
    most = self.max_text_tokens
    if most is not None:
      settings = self.tokenizer_config
      side = tokenizer_settings.read_side(settings, 'truncation_side')
      self.tokenizer.enable_truncation(most, direction=side)
    ids, mask = base.pad_rows(
      self.tokenize_rows(texts),
      self.config.get('pad_token_id') or 0,
      multiple_of=_PAD_MULTIPLE,
      most=most,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @functools.cached_property
  def tokenizer(self) -> tokenizers_lib.Tokenizer:
    """The published tokenizer, in lower case if the folder says so."""
    tokenizer = super().tokenizer
    if sentences.uses_lower_case(self.files):
      return tokenizers.add_lower_case(tokenizer)
    return tokenizer

  @property
  def max_text_tokens(self) -> int | None:
    """Largest number of tokens of a text; None for no limit.

    Sentence encoders have it in sentence_bert_config.json.
    """
    return self._limit_text_tokens(
      self.config.get('max_position_embeddings', 512)
    )

  def _limit_text_tokens(self, most: int | None) -> int | None:
    limit = sentences.max_text_tokens(self.files)
    return min(filter(None, (limit, most)), default=None)

  @functools.cached_property
  def _pooling(self) -> sentences.Pooling:
    return sentences.read_pooling(self.files)

  def _prompt_tokens(self, prompt: str) -> int:
    """Number of tokens of a prompt in front of a text."""
    if not prompt:
      return 0
    encoding = self.tokenizer.encode(prompt)
    # The end token belongs to the text.
    return len(encoding.ids) - encoding.special_tokens_mask[-1]
