"""The tokenizer in the metadata of a GGUF file."""

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
  tokenizer_pieces,
  tokenizer_words,
)

# llama.cpp's types of tokens that texts are searched for before all else.
_CONTROL, _USER = 3, 4
_LLAMA3_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# tokenizer.ggml.pre -> how a text is split into words.
_WORDS = {
  'gpt-2': None,
  'llama-bpe': _LLAMA3_WORDS,
  'qwen2': tokenizer_words.QWEN_WORDS,
  'smollm': None,
}


def build(metadata: Mapping[str, Any]) -> tokenizers.Tokenizer:
  """Builds the tokenizer.

  Args:
    metadata: metadata of the file, by key.

  Raises:
    ConfigError: if a key is missing, or it is of a kind that mmjax can't build.
  """
  model = require(metadata, 'tokenizer.ggml.model')
  if model == 'gpt2':
    tokenizer = _build_byte_level(metadata)
  elif model == 'llama':
    tokenizer = _build_pieces(metadata)
  else:
    raise ConfigError(
      f"tokenizer.ggml.model is {model!r}; mmjax reads 'gpt2' and 'llama'"
    )
  tokens = require(metadata, 'tokenizer.ggml.tokens')
  kinds = require(metadata, 'tokenizer.ggml.token_type')
  tokenizer.add_tokens(
    [
      tokenizers.AddedToken(token, normalized=False, special=kind == _CONTROL)
      for token, kind in zip(tokens, kinds, strict=True)
      if kind in (_CONTROL, _USER)
    ]
  )
  begins = model == 'llama' or metadata.get('tokenizer.ggml.pre') == 'llama-bpe'
  if metadata.get('tokenizer.ggml.add_bos_token', begins):
    number = require(metadata, 'tokenizer.ggml.bos_token_id')
    first = tokens[number]
    tokenizer.post_processor = processors.TemplateProcessing(
      single=[f'{first}:0', '$A:0'],
      pair=[f'{first}:0', '$A:0', f'{first}:1', '$B:1'],
      special_tokens=[(first, number)],
    )
  return tokenizer


def require(metadata: Mapping[str, Any], key: str) -> Any:
  """The value of a key.

  Raises:
    ConfigError: if there is none.
  """
  if key not in metadata:
    raise ConfigError(
      f'the metadata has no {key}, which mmjax needs; take a file that '
      "llama.cpp's convert_hf_to_gguf.py wrote"
    )
  return metadata[key]


def _build_byte_level(metadata: Mapping[str, Any]) -> tokenizers.Tokenizer:
  """A BPE tokenizer of bytes, as GPT-2's."""
  pre = require(metadata, 'tokenizer.ggml.pre')
  if pre not in _WORDS:
    raise ConfigError(
      f'tokenizer.ggml.pre is {pre!r}, another way of splitting words than '
      f'those that mmjax knows, {", ".join(_WORDS)}; take the Hugging Face '
      'folder of the model'
    )
  merges = require(metadata, 'tokenizer.ggml.merges')
  tokenizer = tokenizers.Tokenizer(
    models.BPE(
      {
        token: number
        for number, token in enumerate(
          require(metadata, 'tokenizer.ggml.tokens')
        )
      },
      [tuple(merge.split(' ')) for merge in merges],
      fuse_unk=False,
      ignore_merges=pre == 'llama-bpe',
    )
  )
  if pre == 'qwen2':
    tokenizer.normalizer = normalizers.NFC()
  byte_level = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=_WORDS[pre] is None
  )
  before = []
  if pre == 'smollm':
    before = [pre_tokenizers.Digits(individual_digits=True)]
  elif _WORDS[pre]:
    words = tokenizers.Regex(_WORDS[pre])
    before = [pre_tokenizers.Split(words, behavior='isolated')]
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, byte_level])
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _build_pieces(metadata: Mapping[str, Any]) -> tokenizers.Tokenizer:
  """A BPE tokenizer of SentencePiece's, as Llama 2's."""
  tokens = require(metadata, 'tokenizer.ggml.tokens')
  pieces = tuple(
    sentence_pieces.Piece(*piece)
    for piece in zip(
      tokens,
      require(metadata, 'tokenizer.ggml.scores'),
      require(metadata, 'tokenizer.ggml.token_type'),
      strict=True,
    )
  )
  return tokenizer_pieces.build_pairs(
    pieces,
    prepend='first'
    if metadata.get('tokenizer.ggml.add_space_prefix', True)
    else 'never',
  )
