"""Published models that read texts."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import tokenizers as tokenizers_lib

from mmjax.data import tokenizers
from mmjax.pretrained import base, sentences, tokenizer_settings
from mmjax.types import Array, Tokens

# Texts are padded to a multiple of this, so that few lengths are compiled.
_STEP = 16


class PublishedTextEncoder(base.Pretrained):
  """BERT, T5's first half, and the sentence encoders made of them."""

  def encode_text(
    self,
    texts: str | Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
  ) -> Array:
    """Vectors [B, D] of texts.

    Of a sentence encoder (a folder with modules.json) they are pooled, and
    brought to unit length, as it says, see `sentences`; of another model they
    are what its module pools: BERT its first token, T5 the mean of all.

    Args:
      texts: one or several.
      prompt: what is put in front of each, '' for nothing; None for that of
        `prompt_name`.
      prompt_name: of one of the prompts that the folder of a sentence encoder
        has; None for its default, if it has one.

    Raises:
      ConfigError: if there is no such prompt, or the folder asks for what mmjax
        does not do.
    """
    before = sentences.prompt(self.files, prompt, prompt_name)
    tokens = self.encode_tokens([before + one for one in base.listed(texts)])
    if not sentences.is_encoder(self.files):
      return tokens.pooled
    return self._pooling(
      tokens.values, tokens.mask, self._prompt_tokens(before)
    )

  def encode_tokens(self, texts: str | Sequence[str]) -> Tokens:
    """The encoder's `Tokens`: a vector for each token of texts."""
    encode = (
      self.compiled('encode_text')
      if hasattr(self.module, 'encode_text')
      else self.compiled('__call__', train=False)
    )
    return encode(self.params, *self.tokenize(texts))

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T]; texts longer than `reach` are cut."""
    most = self.reach
    if most is not None:
      settings = self.tokenizer_config
      side = tokenizer_settings.side(settings, 'truncation_side')
      self.tokenizer.enable_truncation(most, direction=side)
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    ids, mask = base.padded(
      [one.ids for one in encoded],
      self.config.get('pad_token_id') or 0,
      step=_STEP,
      most=most,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @functools.cached_property
  def tokenizer(self) -> tokenizers_lib.Tokenizer:
    """As published, in lower case where a sentence encoder's folder says so."""
    tokenizer = super().tokenizer
    if sentences.lowers(self.files):
      return tokenizers.add_lower_case(tokenizer)
    return tokenizer

  @property
  def reach(self) -> int | None:
    """How many tokens of a text are read; None for all.

    What a sentence encoder reads at most is in sentence_bert_config.json.
    """
    return self._sentence_reach(self.config.get('max_position_embeddings', 512))

  def _sentence_reach(self, most: int | None) -> int | None:
    given = sentences.reach(self.files)
    return min(filter(None, (given, most)), default=None)

  @functools.cached_property
  def _pooling(self) -> sentences.Pooling:
    return sentences.pooling(self.files)

  def _prompt_tokens(self, prompt: str) -> int:
    """How many tokens a text begins with where a prompt is in front."""
    if not prompt:
      return 0
    encoded = self.tokenizer.encode(prompt)
    # The end is the text's.
    return len(encoded.ids) - encoded.special_tokens_mask[-1]
