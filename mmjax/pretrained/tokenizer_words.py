"""Tokenizers from a vocabulary of words, or of byte pairs.

Each function builds the tokenizer of a class of transformers from vocab.txt, or
from vocab.json and merges.txt. Its arguments are a folder's small files by
name, the contents of tokenizer_config.json, and the special tokens.
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
from mmjax.pretrained import configs, special_tokens, tokenizer_settings

VOCABULARY = 'vocab.json'
MERGES = 'merges.txt'
WORDS = 'vocab.txt'

# Patterns of words of CLIP and Qwen2.
_CLIP_WORDS = (
  r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
  r'|[^\s\p{L}\p{N}]+'
)
QWEN_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# Stripped from the lines of vocab.txt: White_Space of Unicode; `str.rstrip`
# would strip more.
_SPACES = (
  '\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
  '\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
)

Files = Mapping[str, bytes]
Settings = Mapping[str, Any]


def bert(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """Builds a WordPiece tokenizer; vocab.txt has one piece per line."""
  lines = files[WORDS].decode().split('\n')
  lines = lines if lines[-1] else lines[:-1]
  vocabulary = {line.rstrip(_SPACES): i for i, line in enumerate(lines)}
  unknown, first, last = (
    tokens.require(f'{role}_token') for role in ('unk', 'cls', 'sep')
  )
  missing = [
    token for token in (unknown, first, last) if token not in vocabulary
  ]
  if missing:
    raise ConfigError(
      f'{WORDS} lacks {", ".join(missing)}: it is broken or cut off, or '
      f'{tokenizer_settings.FILE} is of another model; download both again'
    )
  tokenizer = tokenizers.Tokenizer(
    models.WordPiece(vocabulary, unk_token=unknown)
  )
  tokenizer.normalizer = normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=tokenizer_settings.read_switch(
      settings, 'tokenize_chinese_chars', True
    ),
    strip_accents=tokenizer_settings.read_switch(
      settings, 'strip_accents', None
    ),
    lowercase=tokenizer_settings.read_switch(settings, 'do_lower_case', True),
  )
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  tokenizer.decoder = decoders.WordPiece(prefix='##')
  special_tokens.add(tokenizer, tokens, WORDS)
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[f'{first}:0', '$A:0', f'{last}:0'],
    pair=[f'{first}:0', '$A:0', f'{last}:0', '$B:1', f'{last}:1'],
    special_tokens=[(token, vocabulary[token]) for token in {first, last}],
  )
  return tokenizer


def clip(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  del settings
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_read_pairs(files),
      continuing_subword_prefix='',
      end_of_word_suffix='</w>',
      fuse_unk=False,
      unk_token=tokens.require('unk_token'),
    )
  )
  tokenizer.normalizer = normalizers.Sequence(
    [
      normalizers.NFC(),
      normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
      normalizers.Lowercase(),
    ]
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(
        tokenizers.Regex(_CLIP_WORDS), behavior='removed', invert=True
      ),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  last, first = (tokens.require(key) for key in ('eos_token', 'bos_token'))
  tokenizer.post_processor = processors.RobertaProcessing(
    (last, tokenizer.token_to_id(last)),
    (first, tokenizer.token_to_id(first)),
    trim_offsets=False,
    add_prefix_space=False,
  )
  return tokenizer


def gpt2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _make_byte_level(files)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=bool(
      tokenizer_settings.read_switch(settings, 'add_prefix_space', False)
    )
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  special_tokens.add_edge_tokens(tokenizer, settings, tokens)
  return tokenizer


def qwen2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _make_byte_level(files)
  tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(QWEN_WORDS), behavior='isolated'),
      pre_tokenizers.ByteLevel(
        add_prefix_space=bool(
          tokenizer_settings.read_switch(settings, 'add_prefix_space', False)
        ),
        use_regex=False,
      ),
    ]
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  special_tokens.add_edge_tokens(tokenizer, settings, tokens)
  return tokenizer


def whisper(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _make_byte_level(files)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=bool(
      tokenizer_settings.read_switch(settings, 'add_prefix_space', False)
    )
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  for key in ('language', 'task'):
    if settings.get(key) is not None:
      raise ConfigError(
        f'{tokenizer_settings.FILE}: {key} is {settings[key]!r:.60}; without a '
        'tokenizer.json, mmjax reads only null; remove it, and name the '
        f'{key} where the model writes'
      )
  before = ['<|startoftranscript|>']
  if not tokenizer_settings.read_switch(settings, 'predict_timestamps', False):
    before.append('<|notimestamps|>')
  after = tokens.require('eos_token')
  ids = {token: tokenizer.token_to_id(token) for token in (*before, after)}
  missing = [token for token, number in ids.items() if number is None]
  if missing:
    raise ConfigError(
      f'{special_tokens.ADDED}, {tokenizer_settings.FILE} and {VOCABULARY} '
      f'lack {", ".join(missing)}, which Whisper begins texts with; put the '
      'published files there'
    )
  start = [f'{token}:0' for token in before]
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[*start, '$A:0', f'{after}:0'],
    pair=[*start, '$A:0', '$B:1', f'{after}:1'],
    special_tokens=list(ids.items()),
  )
  return tokenizer


def _make_byte_level(files: Files) -> tokenizers.Tokenizer:
  """Builds a byte-level BPE tokenizer, without its first steps."""
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_read_pairs(files),
      continuing_subword_prefix='',
      end_of_word_suffix='',
      fuse_unk=False,
    )
  )
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _read_pairs(files: Files) -> tuple[dict[str, int], list[tuple[str, str]]]:
  """Reads the ids of vocab.json, and the merges, one per line."""
  vocabulary = configs.parse(files[VOCABULARY], VOCABULARY)
  for piece, number in vocabulary.items():
    if type(number) is not int or not 0 <= number < 2**31:
      raise ConfigError(
        f'{VOCABULARY}: {piece!r:.60} has the id {number!r:.60}, not a whole '
        'number from 0; download it again'
      )
  lines = files[MERGES].decode().split('\n')
  lines = lines if lines[-1] else lines[:-1]
  merges = []
  for i, line in enumerate(lines, 1):
    pair = line.removesuffix('\r').split(' ')
    if line.startswith('#version'):
      continue
    if len(pair) != 2:
      raise ConfigError(
        f'{MERGES}: line {i} is {line[:60]!r}, not two pieces; download it '
        'again'
      )
    merges.append((pair[0], pair[1]))
  return vocabulary, merges
