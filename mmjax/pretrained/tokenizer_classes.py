"""What transformers' classes of tokenizers make of older files.

A class reads a vocabulary and sets what happens before and after it: how texts
are normalised and cut, and what they begin and end with.
"""

import dataclasses
from collections.abc import Callable, Mapping
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
from mmjax.pretrained import configs, special_tokens

VOCABULARY = 'vocab.json'
MERGES = 'merges.txt'
WORDS = 'vocab.txt'
PIECES: tuple[str, ...] = ()

_END = '<|endoftext|>'
# How CLIP and Qwen2 cut a text into words.
_CLIP_WORDS = (
  r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
  r'|[^\s\p{L}\p{N}]+'
)
_QWEN_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# What ends a line of vocab.txt: White_Space of Unicode, which `str.rstrip`
# alone would widen.
_SPACES = (
  '\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
  '\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
)

Files = Mapping[str, bytes]
Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Class:
  """A class of tokenizers.

  Attributes:
    files: what it reads.
    tokens: by key, the special tokens where no file names them.
    build: makes the tokenizer of a folder's files, what tokenizer_config.json
      holds, and the special tokens.
  """

  files: tuple[str, ...]
  tokens: Mapping[str, str]
  build: Callable[
    [Files, Settings, special_tokens.SpecialTokens], tokenizers.Tokenizer
  ]


def name(config: Mapping[str, Any], settings: Settings) -> str:
  """The class of a folder's tokenizer, without the ending 'Fast'.

  Args:
    config: all of config.json.
    settings: what tokenizer_config.json holds.

  Raises:
    ConfigError: if its name is not a text.
  """
  kind = config.get('model_type')
  own = _OWN.get(kind) if isinstance(kind, str) else None
  named = settings.get('tokenizer_class') or config.get('tokenizer_class')
  if named is not None and not isinstance(named, str):
    raise ConfigError(
      f'{special_tokens.SETTINGS}: tokenizer_class is {named!r:.60}, not the '
      'name of a class'
    )
  if named is None or kind in _FIXED:
    return own or _GENERIC
  return named.removesuffix('Fast')


def _bert(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  """WordPiece: a piece a line."""
  lines = files[WORDS].decode().split('\n')
  lines = lines if lines[-1] else lines[:-1]
  vocabulary = {line.rstrip(_SPACES): i for i, line in enumerate(lines)}
  unknown, first, last = (
    _needed(tokens, f'{role}_token') for role in ('unk', 'cls', 'sep')
  )
  absent = [one for one in (unknown, first, last) if one not in vocabulary]
  if absent:
    raise ConfigError(
      f'{WORDS} lacks {", ".join(absent)}: it is broken or cut off, or '
      f'{special_tokens.SETTINGS} is of another model; download both again'
    )
  tokenizer = tokenizers.Tokenizer(
    models.WordPiece(vocabulary, unk_token=unknown)
  )
  tokenizer.normalizer = normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=_switch(settings, 'tokenize_chinese_chars', True),
    strip_accents=_switch(settings, 'strip_accents', None),
    lowercase=_switch(settings, 'do_lower_case', True),
  )
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  tokenizer.decoder = decoders.WordPiece(prefix='##')
  special_tokens.add(tokenizer, tokens, WORDS)
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[f'{first}:0', '$A:0', f'{last}:0'],
    pair=[f'{first}:0', '$A:0', f'{last}:0', '$B:1', f'{last}:1'],
    special_tokens=[(one, vocabulary[one]) for one in {first, last}],
  )
  return tokenizer


def _clip(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  del settings
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_pairs(files),
      continuing_subword_prefix='',
      end_of_word_suffix='</w>',
      fuse_unk=False,
      unk_token=_needed(tokens, 'unk_token'),
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
  tokenizer.decoder = decoders.Sequence(
    [
      decoders.ByteLevel(),
      decoders.Replace('</w>', ' '),
      decoders.Replace(tokenizers.Regex(r'\A\s+|\s+\z'), ''),
    ]
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  last, first = (_needed(tokens, key) for key in ('eos_token', 'bos_token'))
  tokenizer.post_processor = processors.RobertaProcessing(
    (last, tokenizer.token_to_id(last)),
    (first, tokenizer.token_to_id(first)),
    trim_offsets=False,
    add_prefix_space=False,
  )
  return tokenizer


def _gpt2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _bytes(files)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=bool(_switch(settings, 'add_prefix_space', False))
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  surround(tokenizer, settings, tokens)
  return tokenizer


def _qwen2(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _bytes(files)
  tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_QWEN_WORDS), behavior='isolated'),
      pre_tokenizers.ByteLevel(
        add_prefix_space=bool(_switch(settings, 'add_prefix_space', False)),
        use_regex=False,
      ),
    ]
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  surround(tokenizer, settings, tokens)
  return tokenizer


def _whisper(
  files: Files, settings: Settings, tokens: special_tokens.SpecialTokens
) -> tokenizers.Tokenizer:
  tokenizer = _bytes(files)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=bool(_switch(settings, 'add_prefix_space', False))
  )
  special_tokens.add(tokenizer, tokens, VOCABULARY)
  for key in ('language', 'task'):
    if settings.get(key) is not None:
      raise ConfigError(
        f'{special_tokens.SETTINGS}: {key} is {settings[key]!r:.60}; without a '
        'tokenizer.json, mmjax reads only null; remove it, and name the '
        f'{key} where the model writes'
      )
  before = ['<|startoftranscript|>']
  if not _switch(settings, 'predict_timestamps', False):
    before.append('<|notimestamps|>')
  after = _needed(tokens, 'eos_token')
  ids = {one: tokenizer.token_to_id(one) for one in (*before, after)}
  absent = [one for one, number in ids.items() if number is None]
  if absent:
    raise ConfigError(
      f'{special_tokens.ADDED}, {special_tokens.SETTINGS} and {VOCABULARY} '
      f'lack {", ".join(absent)}, which Whisper begins texts with; put the '
      'published files there'
    )
  start = [f'{one}:0' for one in before]
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[*start, '$A:0', f'{after}:0'],
    pair=[*start, '$A:0', '$B:1', f'{after}:1'],
    special_tokens=list(ids.items()),
  )
  return tokenizer


def surround(
  tokenizer: tokenizers.Tokenizer,
  settings: Settings,
  tokens: special_tokens.SpecialTokens,
) -> None:
  """Puts around texts what `add_bos_token` and `add_eos_token` say."""
  first = _asked(settings, tokens, 'bos')
  last = _asked(settings, tokens, 'eos')
  ends = dict.fromkeys([*first, *last])
  if ends:
    before, after = ([f'{one}:0' for one in part] for part in (first, last))
    again = [f'{one}:1' for one in first], [f'{one}:1' for one in last]
    single = [*before, '$A:0', *after]
    tokenizer.post_processor = processors.TemplateProcessing(
      single=single,
      pair=[*single, *again[0], '$B:1', *again[1]],
      special_tokens=[(one, tokenizer.token_to_id(one)) for one in ends],
    )


def _asked(
  settings: Settings, tokens: special_tokens.SpecialTokens, role: str
) -> list[str]:
  token = tokens.name(f'{role}_token')
  wanted = _switch(settings, f'add_{role}_token', False)
  return [token] if wanted and token is not None else []


def _bytes(files: Files) -> tokenizers.Tokenizer:
  """A byte-level vocabulary with its merges."""
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      *_pairs(files),
      continuing_subword_prefix='',
      end_of_word_suffix='',
      fuse_unk=False,
    )
  )
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _pairs(files: Files) -> tuple[dict[str, int], list[tuple[str, str]]]:
  """The ids of vocab.json, and the merges, one a line."""
  vocabulary = configs.parsed(files[VOCABULARY], VOCABULARY)
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


def _needed(tokens: special_tokens.SpecialTokens, key: str) -> str:
  """How the token of a key is written, where there has to be one."""
  token = tokens.name(key)
  if token is None:
    raise ConfigError(
      f'{special_tokens.SETTINGS}: {key} is null, but this tokenizer needs it; '
      'take the published file'
    )
  return token


def _switch(settings: Settings, key: str, default: bool | None) -> bool | None:
  value = settings.get(key, default)
  if value is not None and not isinstance(value, bool):
    raise ConfigError(
      f'{special_tokens.SETTINGS}: {key} is {value!r:.60}, not true or false'
    )
  return value


_BERT_TOKENS = {
  'unk_token': '[UNK]',
  'sep_token': '[SEP]',
  'pad_token': '[PAD]',
  'cls_token': '[CLS]',
  'mask_token': '[MASK]',
}
_GPT2_TOKENS = {'bos_token': _END, 'eos_token': _END, 'unk_token': _END}
CLASSES = {
  'BertTokenizer': Class((WORDS,), _BERT_TOKENS, _bert),
  'CLIPTokenizer': Class(
    (VOCABULARY, MERGES),
    {
      'bos_token': '<|startoftext|>',
      'eos_token': _END,
      'unk_token': _END,
      'pad_token': _END,
    },
    _clip,
  ),
  'GPT2Tokenizer': Class((VOCABULARY, MERGES), _GPT2_TOKENS, _gpt2),
  'Qwen2Tokenizer': Class(
    (VOCABULARY, MERGES),
    {'eos_token': _END, 'unk_token': _END, 'pad_token': _END},
    _qwen2,
  ),
  'WhisperTokenizer': Class((VOCABULARY, MERGES), _GPT2_TOKENS, _whisper),
}
# Families that have a class of their own.
_OWN = {
  'align': 'BertTokenizer',
  'bert': 'BertTokenizer',
  'blip': 'BertTokenizer',
  'blip-2': 'GPT2Tokenizer',
  'clip': 'CLIPTokenizer',
  'gpt2': 'GPT2Tokenizer',
  'opt': 'GPT2Tokenizer',
  'qwen2': 'Qwen2Tokenizer',
  'qwen2_5_vl': 'Qwen2Tokenizer',
  'qwen2_vl': 'Qwen2Tokenizer',
  'qwen3': 'Qwen2Tokenizer',
  'siglip': 'SiglipTokenizer',
  'siglip2': 'Siglip2Tokenizer',
  't5': 'T5Tokenizer',
  'whisper': 'WhisperTokenizer',
}
# What transformers takes for the others.
_GENERIC = 'TokenizersBackend'
# Families whose folders name a class that is not theirs.
_FIXED = ('llava', 'qwen2', 'siglip2')
