"""Classes of transformers that build a tokenizer from older files."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tokenizers

from mmjax.errors import ConfigError
from mmjax.pretrained import (
  special_tokens,
  tokenizer_pieces,
  tokenizer_settings,
  tokenizer_siglip,
  tokenizer_words,
)


@dataclasses.dataclass(frozen=True)
class Class:
  """A class of tokenizers.

  Attributes:
    files: names of the files that it reads.
    tokens: key -> default special token.
    build: function that makes the tokenizer from a folder's files, the contents
      of tokenizer_config.json, and the special tokens.
  """

  files: tuple[str, ...]
  tokens: Mapping[str, str]
  build: Callable[
    [Mapping[str, bytes], Mapping[str, Any], special_tokens.SpecialTokens],
    tokenizers.Tokenizer,
  ]


def find_name(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
  """Finds the class of a folder's tokenizer, without the ending 'Fast'.

  Args:
    config: all of config.json.
    settings: contents of tokenizer_config.json.

  Raises:
    ConfigError: if the name is not a text.
  """
  kind = config.get('model_type')
  family_class = _OWN.get(kind) if isinstance(kind, str) else None
  class_name = settings.get('tokenizer_class') or config.get('tokenizer_class')
  if class_name is not None and not isinstance(class_name, str):
    raise ConfigError(
      f'{tokenizer_settings.FILE}: tokenizer_class is {class_name!r:.60}, not '
      'the name of a class'
    )
  if class_name is None or kind in _FIXED:
    return family_class or _GENERIC
  short = class_name.removesuffix('Fast')
  return _GENERIC if short in _UNSPECIFIC else short


_END = '<|endoftext|>'
_PAIRS = (tokenizer_words.VOCABULARY, tokenizer_words.MERGES)
_BERT_TOKENS = {
  'unk_token': '[UNK]',
  'sep_token': '[SEP]',
  'pad_token': '[PAD]',
  'cls_token': '[CLS]',
  'mask_token': '[MASK]',
}
_GPT2_TOKENS = {'bos_token': _END, 'eos_token': _END, 'unk_token': _END}
_GEMMA_TOKENS = {
  'bos_token': '<bos>',
  'eos_token': '<eos>',
  'unk_token': '<unk>',
  'pad_token': '<pad>',
  'mask_token': '<mask>',
}
CLASSES = {
  'BertTokenizer': Class(
    (tokenizer_words.WORDS,), _BERT_TOKENS, tokenizer_words.bert
  ),
  'CLIPTokenizer': Class(
    _PAIRS,
    {
      'bos_token': '<|startoftext|>',
      'eos_token': _END,
      'unk_token': _END,
      'pad_token': _END,
    },
    tokenizer_words.clip,
  ),
  'GPT2Tokenizer': Class(_PAIRS, _GPT2_TOKENS, tokenizer_words.gpt2),
  'Qwen2Tokenizer': Class(
    _PAIRS,
    {'eos_token': _END, 'unk_token': _END, 'pad_token': _END},
    tokenizer_words.qwen2,
  ),
  'WhisperTokenizer': Class(_PAIRS, _GPT2_TOKENS, tokenizer_words.whisper),
  'T5Tokenizer': Class(
    (tokenizer_pieces.UNIGRAM,),
    {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'},
    tokenizer_pieces.t5,
  ),
  'SiglipTokenizer': Class(
    (tokenizer_siglip.FILE,), tokenizer_siglip.TOKENS, tokenizer_siglip.build
  ),
  'LlamaTokenizer': Class(
    (tokenizer_pieces.PAIRS,),
    {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'},
    tokenizer_pieces.llama,
  ),
  'GemmaTokenizer': Class(
    (tokenizer_pieces.PAIRS,), _GEMMA_TOKENS, tokenizer_pieces.gemma
  ),
  'Siglip2Tokenizer': Class(
    (tokenizer_pieces.PAIRS,), _GEMMA_TOKENS, tokenizer_pieces.siglip2
  ),
}
# The class that transformers uses for models without one of their own.
_GENERIC = 'TokenizersBackend'
CLASSES[_GENERIC] = Class(
  (tokenizer_pieces.PAIRS,), {}, tokenizer_pieces.generic
)
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
  'qwen2_5_omni_thinker': 'Qwen2Tokenizer',
  'qwen2_5_vl': 'Qwen2Tokenizer',
  'qwen2_vl': 'Qwen2Tokenizer',
  'qwen3': 'Qwen2Tokenizer',
  'siglip': 'SiglipTokenizer',
  'siglip2': 'Siglip2Tokenizer',
  't5': 'T5Tokenizer',
  'whisper': 'WhisperTokenizer',
}
# Other names of the generic class; the last is a common misspelling.
_UNSPECIFIC = ('PreTrainedTokenizer', 'PythonBackend', 'LLaMATokenizer')
# Families whose folders name a wrong class.
_FIXED = ('llava', 'qwen2', 'siglip2')
