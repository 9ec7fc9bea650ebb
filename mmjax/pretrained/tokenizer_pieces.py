"""Tokenizers of a SentencePiece model.

Each function makes what a class of transformers makes of spiece.model or
tokenizer.model. Its arguments are a folder's small files by name, what
tokenizer_config.json holds, and the special tokens.
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


def generic(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """What the model itself says, of either kind."""
  model = sentence_pieces.parsed(files[PAIRS], PAIRS)
  legacy = tokenizer_settings.switch(
    {'legacy': True, **settings}, 'legacy', None
  )
  tokens = _completed(model, settings, tokens)
  names = _names(model, tokens)
  user = [
    name
    for name, one in zip(names, model.pieces, strict=True)
    if one.kind == sentence_pieces.USER
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
  back = [decoders.ByteFallback()] if model.falls_back else []
  tokenizer.decoder = decoders.Sequence(
    [decoders.Replace(_SPACE, ' '), *back, *ends, *fuse]
  )
  control = [one for one in _added(model) if one.special]
  special_tokens.add(tokenizer, tokens, PAIRS, control)
  special_tokens.surround(tokenizer, settings, tokens)
  return tokenizer


def _completed(
  model: sentence_pieces.Model,
  settings: Settings,
  tokens: special_tokens.SpecialTokens,
) -> special_tokens.SpecialTokens:
  """The special tokens with those that the model names itself."""
  ids = (model.unknown, model.begin, model.end)
  own = {
    f'{role}_token': tokenizers.AddedToken(name, special=True)
    for role, number, name in zip(
      ('unk', 'bos', 'eos'), ids, model.names, strict=True
    )
    if number >= 0 and f'{role}_token' not in settings
  }
  numbered = dict(tokens.numbered)
  if model.prefixes:
    # Each part of a text between two tokens begins with a space of its own.
    for number, one in numbered.items():
      numbered[number] = special_tokens.changed(one, normalized=False)
  return dataclasses.replace(
    tokens, numbered=numbered, named={**own, **tokens.named}
  )


def _names(
  model: sentence_pieces.Model, tokens: special_tokens.SpecialTokens
) -> list[str]:
  """What the pieces are called: by other files, where these number them."""
  names = [one.text for one in model.pieces]
  if model.kind == sentence_pieces.UNIGRAM:
    return names
  given = {number: one.content for number, one in tokens.numbered.items()}
  kept = {name for i, name in enumerate(names) if i not in given}
  return [
    given[i] if i in given and given[i] not in kept else name
    for i, name in enumerate(names)
  ]


def _generic_model(
  model: sentence_pieces.Model, names: Sequence[str], user: bool
) -> models.Model:
  if model.kind == sentence_pieces.UNIGRAM:
    return models.Unigram(
      [(one.text, one.score) for one in model.pieces],
      unk_id=model.unknown,
      byte_fallback=model.falls_back,
    )
  normal = {
    name: (-one.score, i)
    for i, (name, one) in enumerate(zip(names, model.pieces, strict=True))
    if one.kind == sentence_pieces.NORMAL
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
    ends, repeated = (tokenizers.Regex(one) for one in (r'\A +| +\z', ' {2,}'))
    steps.append(normalizers.Replace(ends, ''))
    steps.append(normalizers.Replace(repeated, ' '))
  if model.escapes:
    steps.append(normalizers.Replace(' ', _SPACE))
  if model.prefixes and legacy:
    # The space before a text is one more than those that it begins with.
    begins = tokenizers.Regex(rf'\A{_SPACE}')
    steps.append(normalizers.Replace(begins, 2 * _SPACE))
  return steps


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
