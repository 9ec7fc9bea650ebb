"""Tokenizers of a SentencePiece model.

Each function makes what a class of transformers makes of spiece.model or
tokenizer.model. Its arguments are a folder's small files by name, what
tokenizer_config.json holds, and the special tokens.
"""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

from mmjax.errors import ConfigError
from mmjax.pretrained import (
  sentence_pieces,
  special_tokens,
  tokenizer_settings,
)

UNIGRAM = 'spiece.model'
PAIRS = 'tokenizer.model'

# What stands for a space.
_SPACE = '▁'
# Of T5, what stands for the gaps in a text.
_GAP = '<extra_id_'
_GAPS = 100
_MOST_GAPS = 10_000

Files = Mapping[str, bytes]
Settings = Mapping[str, Any]


def t5(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """A unigram model, whose vocabulary ends with one token a gap."""
  model = _model(files, UNIGRAM, sentence_pieces.UNIGRAM)
  number = settings.get('extra_ids', _GAPS)
  if type(number) is not int or not 0 <= number <= _MOST_GAPS:
    raise ConfigError(
      f'{tokenizer_settings.FILE}: extra_ids is {number!r:.60}, not a whole '
      f'number from 0 to {_MOST_GAPS}'
    )
  own = [one.text for one in model.pieces if _GAP in one.text]
  if own:
    raise ConfigError(
      f'{UNIGRAM} has {own[0]} among its pieces, which mmjax does not read; '
      'put a tokenizer.json there'
    )
  if len(model.pieces) <= 2:
    raise ConfigError(
      f'{UNIGRAM} has {len(model.pieces)} pieces, of which the third is for '
      'unknown text; download it again'
    )
  gaps = [f'{_GAP}{i}>' for i in range(number)]
  pieces = [(one.text, one.score) for one in model.pieces]
  tokenizer = tokenizers.Tokenizer(
    models.Unigram(
      [*pieces, *((gap, 0.0) for gap in reversed(gaps))],
      unk_id=2,
      byte_fallback=False,
    )
  )
  if model.charsmap:
    tokenizer.normalizer = normalizers.Precompiled(model.charsmap)
  space = {'replacement': _SPACE, 'prepend_scheme': 'always', 'split': True}
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
  )
  tokenizer.decoder = decoders.Metaspace(**space)
  further = [tokenizers.AddedToken(gap, special=True) for gap in gaps]
  special_tokens.add(tokenizer, tokens, UNIGRAM, [*_added(model), *further])
  end = tokens.needed('eos_token')
  tokenizer.post_processor = processors.TemplateProcessing(
    single=['$A:0', f'{end}:0'],
    pair=['$A:0', f'{end}:0', '$B:1', f'{end}:1'],
    special_tokens=[(end, tokenizer.token_to_id(end))],
  )
  return tokenizer


def llama(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Pairs of pieces; what has no piece becomes bytes."""
  model = _model(files, PAIRS, sentence_pieces.PAIRS)
  tokenizer = tokenizers.Tokenizer(
    models.BPE(*_pairs(model), fuse_unk=True, byte_fallback=True)
  )
  begins = tokenizer_settings.switch(settings, 'add_prefix_space', None)
  legacy = tokenizer_settings.switch(settings, 'legacy', False)
  scheme = 'always' if legacy else 'first'
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
    replacement=_SPACE,
    prepend_scheme='never' if begins is False else scheme,
    split=False,
  )
  strip = [] if begins is False else [decoders.Strip(content=' ', left=1)]
  tokenizer.decoder = decoders.Sequence([*_bytes(), *strip])
  special_tokens.add(tokenizer, tokens, PAIRS, _added(model))
  special_tokens.surround(tokenizer, settings, tokens)
  return tokenizer


def gemma(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """The same, but a text does not begin with a space."""
  model = _model(files, PAIRS, sentence_pieces.PAIRS)
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_pairs(model),
      fuse_unk=True,
      unk_token=tokens.needed('unk_token'),
      byte_fallback=True,
    )
  )
  tokenizer.normalizer = normalizers.Replace(' ', _SPACE)
  tokenizer.pre_tokenizer = pre_tokenizers.Split(
    pattern=' ', behavior='merged_with_previous'
  )
  tokenizer.decoder = decoders.Sequence(_bytes())
  special_tokens.add(tokenizer, tokens, PAIRS, _added(model))
  special_tokens.surround(tokenizer, settings, tokens)
  return tokenizer


def siglip2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """The same of texts in lower case."""
  tokenizer = gemma(files, settings, tokens)
  tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Lowercase(), tokenizer.normalizer]
  )
  return tokenizer


def _model(files: Files, name: str, kind: int) -> sentence_pieces.Model:
  model = sentence_pieces.parsed(files[name], name)
  if model.kind != kind:
    raise ConfigError(
      f'{name} is a SentencePiece model of kind {model.kind}, where this '
      f'tokenizer has kind {kind} (1 is unigram, 2 is BPE); take the file of '
      'this model, or put a tokenizer.json there'
    )
  return model


def _pairs(
  model: sentence_pieces.Model,
) -> tuple[dict[str, int], list[tuple[str, str]]]:
  """Ids of the pieces, and the merges that lead to them, the first ones first.

  A piece is a merge of every two others that it can be cut into.
  """
  ids = {one.text: i for i, one in enumerate(model.pieces)}
  merges = [
    (text[:i], text[i:])
    for text in ids
    for i in range(1, len(text))
    if text[:i] in ids and text[i:] in ids
  ]
  return ids, merges


def _bytes() -> list[Any]:
  """From pieces to the text."""
  return [
    decoders.Replace(_SPACE, ' '),
    decoders.ByteFallback(),
    decoders.Fuse(),
  ]


def _added(model: sentence_pieces.Model) -> list[tokenizers.AddedToken]:
  return [
    tokenizers.AddedToken(
      one.text, normalized=False, special=one.kind == sentence_pieces.CONTROL
    )
    for one in model.added()
  ]
