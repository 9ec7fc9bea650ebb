"""Tokenizers from a SentencePiece model.

Each function builds the tokenizer of a class of transformers from spiece.model
or tokenizer.model. Its arguments are a folder's small files by name, the
contents of tokenizer_config.json, and the special tokens.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
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

# Replacement of a space.
_SPACE = '▁'
# Tokens of T5 for gaps in a text.
_GAP = '<extra_id_'
_GAPS = 100
_MOST_GAPS = 10_000

Files = Mapping[str, bytes]
Settings = Mapping[str, Any]


def t5(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds a unigram tokenizer with a token for each gap."""
  model = read_model(files, UNIGRAM, sentence_pieces.UNIGRAM)
  number = settings.get('extra_ids', _GAPS)
  if type(number) is not int or not 0 <= number <= _MOST_GAPS:
    raise ConfigError(
      f'{tokenizer_settings.FILE}: extra_ids is {number!r:.60}, not a whole '
      f'number from 0 to {_MOST_GAPS}'
    )
  gap_pieces = [piece.text for piece in model.pieces if _GAP in piece.text]
  if gap_pieces:
    raise ConfigError(
      f'{UNIGRAM} has {gap_pieces[0]} among its pieces, which mmjax does not '
      'read; put a tokenizer.json there'
    )
  if len(model.pieces) <= 2:
    raise ConfigError(
      f'{UNIGRAM} has {len(model.pieces)} pieces, of which the third is for '
      'unknown text; download it again'
    )
  gaps = [f'{_GAP}{i}>' for i in range(number)]
  pieces = [(piece.text, piece.score) for piece in model.pieces]
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
  special_tokens.add(
    tokenizer, tokens, UNIGRAM, [*_added_tokens(model), *further]
  )
  end = tokens.require('eos_token')
  tokenizer.post_processor = processors.TemplateProcessing(
    single=['$A:0', f'{end}:0'],
    pair=['$A:0', f'{end}:0', '$B:1', f'{end}:1'],
    special_tokens=[(end, tokenizer.token_to_id(end))],
  )
  return tokenizer


def llama(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds a BPE tokenizer; text without a piece becomes bytes."""
  model = read_model(files, PAIRS, sentence_pieces.PAIRS)
  begins = tokenizer_settings.read_switch(settings, 'add_prefix_space', None)
  legacy = tokenizer_settings.read_switch(settings, 'legacy', False)
  scheme = 'always' if legacy else 'first'
  tokenizer = build_pairs(
    model.pieces, prepend='never' if begins is False else scheme
  )
  special_tokens.add(tokenizer, tokens, PAIRS, _added_tokens(model))
  special_tokens.add_edge_tokens(tokenizer, settings, tokens)
  return tokenizer


def build_pairs(
  pieces: Sequence[sentence_pieces.Piece], *, prepend: str
) -> tokenizers.Tokenizer:
  """Builds a BPE tokenizer of pieces, without special tokens.

  Args:
    pieces: the vocabulary, in the order of ids.
    prepend: 'first', 'always' or 'never': where a text gets a space in front.
  """
  tokenizer = tokenizers.Tokenizer(
    models.BPE(*_pairs(pieces), fuse_unk=True, byte_fallback=True)
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
    replacement=_SPACE, prepend_scheme=prepend, split=False
  )
  strip = [] if prepend == 'never' else [decoders.Strip(content=' ', left=1)]
  tokenizer.decoder = decoders.Sequence([*_byte_decoders(), *strip])
  return tokenizer


def gemma(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds a BPE tokenizer that adds no space before a text."""
  model = read_model(files, PAIRS, sentence_pieces.PAIRS)
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_pairs(model.pieces),
      fuse_unk=True,
      unk_token=tokens.require('unk_token'),
      byte_fallback=True,
    )
  )
  tokenizer.normalizer = normalizers.Replace(' ', _SPACE)
  tokenizer.pre_tokenizer = pre_tokenizers.Split(
    pattern=' ', behavior='merged_with_previous'
  )
  tokenizer.decoder = decoders.Sequence(_byte_decoders())
  special_tokens.add(tokenizer, tokens, PAIRS, _added_tokens(model))
  special_tokens.add_edge_tokens(tokenizer, settings, tokens)
  return tokenizer


def siglip2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds the tokenizer of Gemma for texts in lower case."""
  tokenizer = gemma(files, settings, tokens)
  tokenizer.normalizer = normalizers.Sequence(
    [normalizers.Lowercase(), tokenizer.normalizer]
  )
  return tokenizer


def generic(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds the tokenizer, unigram or BPE, by the settings in the file."""
  model = sentence_pieces.parse(files[PAIRS], PAIRS)
  legacy = tokenizer_settings.read_switch(
    {'legacy': True, **settings}, 'legacy', None
  )
  tokens = _add_model_tokens(model, settings, tokens)
  names = _name_pieces(model, tokens)
  user = [
    name
    for name, piece in zip(names, model.pieces, strict=True)
    if piece.kind == sentence_pieces.USER
  ]
  tokenizer = tokenizers.Tokenizer(_generic_model(model, names, bool(user)))
  tokenizer.normalizer = normalizers.Sequence(
    _generic_normalizers(model, legacy)
  )
  steps = []
  if model.prefixes:
    scheme = 'always' if legacy else 'first'
    steps.append(
      pre_tokenizers.Metaspace(
        replacement=_SPACE, prepend_scheme=scheme, split=False
      )
    )
  if user:
    longest = sorted(user, key=len, reverse=True)
    pattern = tokenizers.Regex('|'.join(map(re.escape, longest)))
    steps.append(pre_tokenizers.Split(pattern, behavior='isolated'))
  if steps:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
  strip = decoders.Strip(content=' ', left=1)
  ends = [decoders.Fuse(), strip] if model.prefixes else []
  fuse = [decoders.Fuse()] if model.falls_back and not ends else []
  fallback = [decoders.ByteFallback()] if model.falls_back else []
  tokenizer.decoder = decoders.Sequence(
    [decoders.Replace(_SPACE, ' '), *fallback, *ends, *fuse]
  )
  control = [token for token in _added_tokens(model) if token.special]
  special_tokens.add(tokenizer, tokens, PAIRS, control)
  special_tokens.add_edge_tokens(tokenizer, settings, tokens)
  return tokenizer


def _add_model_tokens(
  model: sentence_pieces.Model,
  settings: Settings,
  tokens: special_tokens.SpecialTokens,
) -> special_tokens.SpecialTokens:
  """Adds the special tokens that the SentencePiece model names."""
  ids = (model.unknown, model.begin, model.end)
  model_tokens = {
    f'{role}_token': tokenizers.AddedToken(name, special=True)
    for role, number, name in zip(
      ('unk', 'bos', 'eos'), ids, model.names, strict=True
    )
    if number >= 0 and f'{role}_token' not in settings
  }
  numbered = dict(tokens.numbered)
  if model.prefixes:
    # Each part of a text between two tokens gets a space in front.
    for number, token in numbered.items():
      numbered[number] = special_tokens.set_flags(token, normalized=False)
  return dataclasses.replace(
    tokens, numbered=numbered, named={**model_tokens, **tokens.named}
  )


def _name_pieces(
  model: sentence_pieces.Model, tokens: special_tokens.SpecialTokens
) -> list[str]:
  """Names of the pieces, by the other files if these give their ids."""
  names = [piece.text for piece in model.pieces]
  if model.kind == sentence_pieces.UNIGRAM:
    return names
  numbered_names = {
    number: token.content for number, token in tokens.numbered.items()
  }
  other_names = {
    name for i, name in enumerate(names) if i not in numbered_names
  }
  return [
    numbered_names[i]
    if i in numbered_names and numbered_names[i] not in other_names
    else name
    for i, name in enumerate(names)
  ]


def _generic_model(
  model: sentence_pieces.Model, names: Sequence[str], user: bool
) -> models.Model:
  if model.kind == sentence_pieces.UNIGRAM:
    return models.Unigram(
      [(piece.text, piece.score) for piece in model.pieces],
      unk_id=model.unknown,
      byte_fallback=model.falls_back,
    )
  normal = {
    name: (-piece.score, i)
    for i, (name, piece) in enumerate(zip(names, model.pieces, strict=True))
    if piece.kind == sentence_pieces.NORMAL
  }
  ranked = sorted(
    (*rank, name[:i], name[i:])
    for name, rank in normal.items()
    for i in range(1, len(name))
    if name[:i] in normal and name[i:] in normal
  )
  return models.BPE(
    {name: i for i, name in enumerate(names)},
    [(left, right) for _, _, left, right in ranked],
    unk_token=model.names[0],
    fuse_unk=True,
    byte_fallback=model.falls_back,
    ignore_merges=user,
  )


def _generic_normalizers(
  model: sentence_pieces.Model, legacy: bool
) -> list[normalizers.Normalizer]:
  steps = []
  if model.charsmap:
    steps.append(normalizers.Precompiled(model.charsmap))
  if model.trims:
    ends, repeated = (
      tokenizers.Regex(pattern) for pattern in (r'\A +| +\z', ' {2,}')
    )
    steps.append(normalizers.Replace(ends, ''))
    steps.append(normalizers.Replace(repeated, ' '))
  if model.escapes:
    steps.append(normalizers.Replace(' ', _SPACE))
  if model.prefixes and legacy:
    # A text that begins with spaces gets one more.
    begins = tokenizers.Regex(rf'\A{_SPACE}')
    steps.append(normalizers.Replace(begins, 2 * _SPACE))
  return steps


def read_model(files: Files, name: str, kind: int) -> sentence_pieces.Model:
  """Reads the SentencePiece model of a folder.

  Args:
    files: the folder's small files by name.
    name: name of the file.
    kind: kind that it must have.

  Raises:
    ConfigError: if it is broken, or of another kind.
  """
  model = sentence_pieces.parse(files[name], name)
  if model.kind != kind:
    raise ConfigError(
      f'{name} is a SentencePiece model of kind {model.kind}, where this '
      f'tokenizer has kind {kind} (1 is unigram, 2 is BPE); take the file of '
      'this model, or put a tokenizer.json there'
    )
  return model


def _pairs(
  pieces: Sequence[sentence_pieces.Piece],
) -> tuple[dict[str, int], list[tuple[str, str]]]:
  """Ids of the pieces, and their merges in the order of the pieces.

  A piece is a merge of any two other pieces that make it up.
  """
  ids = {piece.text: i for i, piece in enumerate(pieces)}
  merges = [
    (text[:i], text[i:])
    for text in ids
    for i in range(1, len(text))
    if text[:i] in ids and text[i:] in ids
  ]
  return ids, merges


def _byte_decoders() -> list[Any]:
  """Decoders from pieces to the text."""
  return [
    decoders.Replace(_SPACE, ' '),
    decoders.ByteFallback(),
    decoders.Fuse(),
  ]


def _added_tokens(model: sentence_pieces.Model) -> list[tokenizers.AddedToken]:
  return [
    tokenizers.AddedToken(
      piece.text,
      normalized=False,
      special=piece.kind == sentence_pieces.CONTROL,
    )
    for piece in model.added_pieces()
  ]
