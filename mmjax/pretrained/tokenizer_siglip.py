"""SigLIP's tokenizer from a SentencePiece model: texts without punctuation.

transformers runs SentencePiece itself here. Equal ids need the settings with
which SigLIP's pieces were trained; a model with other ones is refused. Texts
that hold a special token are the exception: one that ends with the end token
gets another one, and a mark behind one becomes a space.
"""

import dataclasses
import string
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
  tokenizer_pieces,
  tokenizer_settings,
)

FILE = tokenizer_pieces.UNIGRAM
TOKENS = {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '</s>'}

_SPACE = '▁'
# What Python's str.isspace accepts.
_BLANKS = r'\s\x1c-\x1f'


def build(
  files: Mapping[str, bytes],
  settings: Mapping[str, Any],
  tokens: special_tokens.SpecialTokens,
) -> tokenizers.Tokenizer:
  """Builds the unigram tokenizer of texts without punctuation.

  Args:
    files: the folder's small files by name.
    settings: contents of tokenizer_config.json.
    tokens: the special tokens.

  Raises:
    ConfigError: if the SentencePiece model is broken or has settings of another
      kind of model, or the folder names further special tokens.
  """
  model = tokenizer_pieces.read_model(files, FILE, sentence_pieces.UNIGRAM)
  _check(model, tokens)
  tokenizer = tokenizers.Tokenizer(
    models.Unigram(
      [(piece.text, piece.score) for piece in model.pieces],
      unk_id=model.unknown,
      byte_fallback=False,
    )
  )
  lowers = tokenizer_settings.read_switch(settings, 'do_lower_case', True)
  tokenizer.normalizer = normalizers.Sequence(_normalizers(model, lowers))
  # Only the first part of a text, before any special token, gets a space.
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
    replacement=_SPACE, prepend_scheme='first', split=False
  )
  tokenizer.decoder = decoders.Metaspace(
    replacement=_SPACE, prepend_scheme='always', split=False
  )
  special_tokens.add(tokenizer, _strip_around(tokens), FILE)
  end = tokens.require('eos_token')
  tokenizer.post_processor = processors.TemplateProcessing(
    single=['$A:0', f'{end}:0'],
    pair=['$A:0', f'{end}:0', '$B:0', f'{end}:0'],
    special_tokens=[(end, tokenizer.token_to_id(end))],
  )
  return tokenizer


def _check(
  model: sentence_pieces.Model, tokens: special_tokens.SpecialTokens
) -> None:
  faults = {
    'keeps repeated spaces': not model.trims,
    'does not escape spaces': not model.escapes,
    'falls back to bytes': model.falls_back,
    'has pieces that are never split': any(
      piece.kind == sentence_pieces.USER for piece in model.pieces
    ),
  }
  for fault, is_so in faults.items():
    if is_so:
      raise ConfigError(
        f'{FILE} {fault}, which no published SigLIP does; put a tokenizer.json '
        'there'
      )
  known = {tokens.name(role) for role in TOKENS}
  others = [*tokens.numbered.values(), *tokens.named.values()]
  others = {token.content for token in (*others, *(tokens.further or ()))}
  if others - known:
    raise ConfigError(
      f'{special_tokens.SETTINGS} names {", ".join(sorted(others - known))}; '
      f'mmjax reads only the {", ".join(TOKENS)} of a SiglipTokenizer; put a '
      'tokenizer.json there'
    )


def _normalizers(
  model: sentence_pieces.Model, lowers: bool | None
) -> list[normalizers.Normalizer]:
  marks = ''.join(f'\\{char}' for char in string.punctuation)
  steps = [normalizers.Replace(_SPACE, ' ')]
  if lowers:
    # Python's lower case of a sigma depends on its position in a word.
    last = tokenizers.Regex(r'(?<=\p{L})Σ(?!\p{L})')
    steps += [normalizers.Replace(last, 'ς'), normalizers.Lowercase()]
  patterns = {
    # Every text begins with a space of its own. Where characters before the
    # first word are removed, it must be put here: the pre-tokenizer does so
    # only if a text's first character is left.
    rf'\A[{marks}]*[{_BLANKS}][{_BLANKS}{marks}]*': f'{_SPACE} ',
    rf'\A[{marks}]+': _SPACE,
    rf'[{marks}]': '',
    rf'[{_BLANKS}]+': ' ',
    r' \z': '',
  }
  steps += _replacements(patterns)
  ends = {rf'[ {_SPACE}]+\z': '', ' {2,}': ' '}
  if model.charsmap:
    charsmap = normalizers.Precompiled(model.charsmap)
    steps.append(charsmap)
    if charsmap.normalize_str(_SPACE) == _SPACE:
      # The space before a text stays, besides one that the map makes of '¨'.
      ends[r'\A '] = f'{_SPACE} '
  return steps + _replacements(ends)


def _replacements(patterns: Mapping[str, str]) -> list[normalizers.Normalizer]:
  return [
    normalizers.Replace(tokenizers.Regex(pattern), text)
    for pattern, text in patterns.items()
  ]


def _strip_around(
  tokens: special_tokens.SpecialTokens,
) -> special_tokens.SpecialTokens:
  """Has the tokens absorb the spaces beside them, as their class does."""
  return dataclasses.replace(
    tokens,
    named={
      key: special_tokens.set_flags(
        token, lstrip=True, rstrip=True, normalized=False
      )
      for key, token in tokens.named.items()
    },
  )
