"""Published models that read texts."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp

from mmjax import ops
from mmjax.pretrained import base
from mmjax.types import Array, Tokens

# Files of sentence encoders, as the library sentence-transformers writes them.
MODULES = 'modules.json'
SENTENCES = 'sentence_bert_config.json'
# Texts are padded to a multiple of this, so that few lengths are compiled.
_STEP = 16
_POOLS = {
  'pooling_mode_cls_token': lambda values, mask: values[:, 0],
  'pooling_mode_mean_tokens': ops.mean_tokens,
}


class TextEncoder(base.Pretrained):
  """BERT, T5's first half, and the sentence encoders made of them."""

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Vectors [B, D] of texts.

    Of a sentence encoder (a folder with modules.json) they are pooled, and
    brought to unit length, as it says (Reimers and Gurevych 2019, section 3);
    of another model they are what its module pools: BERT its first token, T5
    the mean of all.
    """
    tokens = self.encode_tokens(texts)
    if MODULES not in self.files:
      return tokens.pooled
    pool, normalises = self._sentence
    vectors = pool(tokens.values, tokens.mask)
    return ops.unit_norm(vectors) if normalises else vectors

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
      self.tokenizer.enable_truncation(most)
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    ids, mask = base.padded(
      [one.ids for one in encoded],
      self.config.get('pad_token_id') or 0,
      step=_STEP,
      most=most,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def reach(self) -> int | None:
    """How many tokens of a text are read; None for all.

    What a sentence encoder reads at most is in sentence_bert_config.json.
    """
    return self._sentence_reach(self.config.get('max_position_embeddings', 512))

  def _sentence_reach(self, most: int | None) -> int | None:
    given = self.settings(SENTENCES) if SENTENCES in self.files else {}
    return min(filter(None, (given.get('max_seq_length'), most)), default=None)

  @functools.cached_property
  def _sentence(self):
    """How the tokens' vectors become one: a pool, and whether of length 1."""
    pool, normalises = None, False
    for entry in self.settings(MODULES, list):
      kind = entry['type'].rpartition('.')[2]
      if kind == 'Pooling':
        file = f'{entry["path"]}/config.json'
        pool = _pool(self.settings(file), file)
      elif kind == 'Normalize':
        normalises = True
      elif kind != 'Transformer':
        raise ValueError(
          f'{MODULES}: the step {kind} is unknown; mmjax knows Transformer, '
          'Pooling and Normalize'
        )
    if pool is None:
      raise ValueError(f'{MODULES}: there is no step Pooling')
    return pool, normalises


def _pool(config: dict, file: str):
  modes = [
    name
    for name, value in config.items()
    if name.startswith('pooling_mode_') and value
  ]
  if len(modes) != 1 or modes[0] not in _POOLS:
    raise ValueError(
      f'{file}: mmjax knows one of {", ".join(_POOLS)}, not {modes}'
    )
  return _POOLS[modes[0]]
