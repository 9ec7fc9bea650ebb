"""Folders without a tokenizer.json, as older releases wrote them.

Vocabularies are made of a few words, so that the same files come out wherever
this runs.
"""

import json
import pathlib
from typing import Any

from tokenizers import pre_tokenizers

from mmjax.pretrained import sentence_pieces
from tests.pretrained import piece_files

GOLDEN = pathlib.Path(__file__).parent / 'golden'
END = '<|endoftext|>'
# What a tokenizer may treat in some way of its own.
TEXTS = (
  '',
  ' ',
  'the cat',
  ' the cat',
  'The  CAT   sat\n\non\tthe mat. ',
  "don't we'll I'M they'Ve 's",
  'café cafe\u0301 ÀÉÎ ﬁ Straße İstanbul ΣΑΣ',
  '猫cat 東京は、 𠀀 한국',
  'a 🐈\u200d⬛ b\ufe0f ☃',
  '3.14 10,000 ½ ٣ 1234567',
  'x\u00a0y\u2003z\u200b\ufeffw\r\nv\x00u\x7f\u0085t',
  '<|endoftext|> the </s>cat<s> [CLS] the[SEP] [MASK] <unk> <pad>',
  'the<|startoftext|>cat <|im_start|>the <new>cat <NEW> a <new> b',
  '#hash ##tag the##cat _under-score_ (a)[b]{c}',
  '▁the ▁ ▁▁cat',
)
# Folders whose ids of a mark behind a special token are not transformers'.
MARKS_DIFFER = ('siglip', 'siglip, as written')
_WORDS = (
  *('the', 'cat', 'sat', 'on', 'mat', 'café', '猫', 'we', 'll', '10', 'don'),
  *('🐈', 'ÀÉ', '.', ',', '3', 'ss', 'hash'),
)
_LETTERS = pre_tokenizers.ByteLevel.alphabet()


def write_words(folder: pathlib.Path, **settings: Any) -> None:
  """BERT's vocab.txt; one of its lines is there twice, one ends in spaces."""
  chars = sorted(set(''.join(TEXTS).lower()) - set(' \n\r\t\x00\x85\u2003\xa0'))
  chars = [c for c in chars if not c.isspace()]
  pieces = ['[PAD]', 'the  ', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *_WORDS]
  pieces += chars[::2] + [f'##{c}' for c in chars[1::2]] + ['cat', '##at']
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n', newline='')
  write_settings(folder, settings)


def write_pairs(
  folder: pathlib.Path, special: tuple[str, ...], suffix: str, **settings: Any
) -> None:
  """vocab.json and merges.txt.

  Args:
    folder: of the model.
    special: what the vocabulary ends with.
    suffix: of the last piece of a word.
    **settings: of tokenizer_config.json.
  """
  letters = sorted(_LETTERS)
  pieces = dict.fromkeys([*letters, *(c + suffix for c in letters)])
  merges: dict[tuple[str, str], None] = {}
  for word in _WORDS:
    for start in ('', ' '):
      level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
      spelled = list(level.pre_tokenize_str(start + word)[0][0])
      spelled[-1] += suffix
      while len(spelled) > 1:
        pair = (spelled[0], spelled[1])
        merges[pair] = pieces[''.join(pair)] = None
        spelled = [''.join(pair), *spelled[2:]]
  ids = {piece: i for i, piece in enumerate([*pieces, *special])}
  (folder / 'vocab.json').write_text(json.dumps(ids))
  lines = ['#version: 0.2', *map(' '.join, merges)]
  (folder / 'merges.txt').write_text('\n'.join(lines) + '\n', newline='')
  write_settings(folder, settings)


def write_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
  if settings:
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))


def write_config(folder: pathlib.Path, name: str, **changes: Any) -> None:
  """The config.json of a golden folder."""
  config = json.loads((GOLDEN / name / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps({**config, **changes}))


def _bert(folder, name='bert', **settings):
  write_words(folder, **settings)
  write_config(folder, name)


def _clip(folder, **settings):
  write_pairs(folder, ('<|startoftext|>', END), '</w>', **settings)
  write_config(folder, 'clip')


def _gpt2(folder, **settings):
  write_pairs(folder, (END,), '', **settings)
  write_config(folder, 'gpt2')


def _opt(folder, **settings):
  write_pairs(folder, ('<s>', '<pad>', '</s>', '<unk>'), '', **settings)
  write_config(folder, 'opt')


def _qwen2(folder, name='qwen2', **settings):
  write_pairs(folder, (), '', **settings)
  write_config(folder, name)


def _whisper(folder, **settings):
  write_pairs(folder, (), '', **settings)
  names = (
    END,
    '<|startoftranscript|>',
    '<|en|>',
    '<|notimestamps|>',
    '<|0.0|>',
  )
  first = len(json.loads((folder / 'vocab.json').read_text()))
  added = {name: first + i for i, name in enumerate(names)}
  (folder / 'added_tokens.json').write_text(json.dumps(added))
  write_config(folder, 'whisper')


def _t5(folder, **settings):
  pieces = [
    *piece_files.special(['<pad>', '</s>'], sentence_pieces.CONTROL),
    *piece_files.special(['<unk>'], sentence_pieces.UNKNOWN),
    *piece_files.special(['<new>'], sentence_pieces.USER),
    *piece_files.pieces(_WORDS, 'abcdehostuv12.,東'),
  ]
  content = piece_files.model(pieces, sentence_pieces.UNIGRAM, 2)
  (folder / 'spiece.model').write_bytes(content)
  write_settings(folder, settings)
  write_config(folder, 't5')


def _siglip(folder, **settings):
  pieces = [
    *piece_files.special(['<pad>', '</s>'], sentence_pieces.CONTROL),
    *piece_files.special(['<unk>'], sentence_pieces.UNKNOWN),
    *piece_files.pieces(_WORDS, 'abcdehostuv12<unk>東ςσ'),
  ]
  content = piece_files.model(pieces, sentence_pieces.UNIGRAM, 2)
  (folder / 'spiece.model').write_bytes(content)
  write_settings(folder, settings)
  write_config(folder, 'siglip')


def _llama(folder, name='llama', user=(), **settings):
  pieces = [
    *piece_files.special(['<unk>'], sentence_pieces.UNKNOWN),
    *piece_files.special(['<s>', '</s>'], sentence_pieces.CONTROL),
    *piece_files.special(user, sentence_pieces.USER),
    *piece_files.of_bytes(),
    *piece_files.pieces(_WORDS, 'abcdehostuv12.,東'),
  ]
  content = piece_files.model(pieces, sentence_pieces.PAIRS, 0)
  (folder / 'tokenizer.model').write_bytes(content)
  write_settings(folder, {'tokenizer_class': 'LlamaTokenizer', **settings})
  write_config(folder, name)


def _gemma(folder, name, **settings):
  controls = ['<pad>', '<eos>', '<bos>']
  pieces = [
    *piece_files.special(controls, sentence_pieces.CONTROL),
    *piece_files.special(['<unk>'], sentence_pieces.UNKNOWN),
    *piece_files.special(['<mask>', '\n\n', '▁▁'], sentence_pieces.USER),
    *piece_files.of_bytes(),
    *piece_files.pieces(_WORDS, 'abcdehostuv12.,東'),
  ]
  content = piece_files.model(pieces, sentence_pieces.PAIRS, 3)
  (folder / 'tokenizer.model').write_bytes(content)
  write_settings(folder, {'tokenizer_class': 'GemmaTokenizer', **settings})
  write_config(folder, name)


def _mapped(folder, **settings):
  """Special tokens in special_tokens_map.json and added_tokens.json."""
  _gpt2(folder, **settings)
  first = len(json.loads((folder / 'vocab.json').read_text()))
  added = json.dumps({'<new>': first + 1, '<|im_start|>': first})
  (folder / 'added_tokens.json').write_text(added)
  named = {
    'bos_token': {'content': '<|im_start|>', 'lstrip': True, 'rstrip': False},
    'additional_special_tokens': ['<s>'],
  }
  (folder / 'special_tokens_map.json').write_text(json.dumps(named))


_OPT = {
  'bos_token': {'__type': 'AddedToken', 'content': '</s>', 'normalized': True},
  'eos_token': {'__type': 'AddedToken', 'content': '</s>', 'normalized': True},
  'unk_token': '</s>',
  'pad_token': '<pad>',
  'tokenizer_class': 'GPT2Tokenizer',
}
_SPECIAL = {'normalized': False, 'special': True}
_GAPS = ['<extra_id_0>', '<extra_id_1>']
# By name, what writes a folder, and with what.
FOLDERS = {
  'bert': (_bert, {}),
  'bert, as written': (
    _bert,
    {'do_lower_case': False, 'tokenizer_class': 'BertTokenizerFast'},
  ),
  'bert, accents': (
    _bert,
    {'do_lower_case': True, 'strip_accents': False, 'mask_token': '<unk>'},
  ),
  'bert, Chinese words': (_bert, {'tokenize_chinese_chars': False}),
  'blip': (_bert, {'name': 'blip_captions'}),
  'align': (_bert, {'name': 'align', 'split_special_tokens': True}),
  'clip': (_clip, {}),
  'clip, named': (_clip, {'pad_token': '!', 'unk_token': END}),
  'gpt2': (_gpt2, {}),
  'gpt2, space': (_gpt2, {'add_prefix_space': True, 'add_bos_token': True}),
  'gpt2, mapped': (_mapped, {'add_eos_token': True}),
  'opt': (_opt, {**_OPT, 'add_bos_token': True}),
  'opt, unnamed': (_opt, {}),
  'qwen2': (_qwen2, {}),
  'qwen2_vl': (_qwen2, {'name': 'qwen2_vl'}),
  'whisper': (_whisper, {}),
  'whisper, times': (_whisper, {'predict_timestamps': True}),
  't5': (_t5, {}),
  't5, few gaps': (
    _t5,
    {'extra_ids': 2, 'additional_special_tokens': _GAPS, 'pad_token': '</s>'},
  ),
  'llama': (_llama, {'add_bos_token': True}),
  'llama, legacy': (_llama, {'legacy': True, 'add_eos_token': True}),
  'llama, no space': (
    _llama,
    {'add_prefix_space': False, 'legacy': None, 'pad_token': '<pad>'},
  ),
  'llama, of no class': (
    _llama,
    {'tokenizer_class': None, 'user': ['<new>', '\n\n'], 'eos_token': None},
  ),
  'llava': (
    _llama,
    {
      'name': 'llava',
      'legacy': False,
      'add_bos_token': True,
      'added_tokens_decoder': {
        '1': {'content': '<BOS>', 'special': True},
        '2': {'content': '</s>', 'special': True, 'rstrip': True},
      },
    },
  ),
  'paligemma': (
    _gemma,
    {'name': 'paligemma', 'add_bos_token': True, 'image_token': '<s>'},
  ),
  'paligemma, saved again': (
    _gemma,
    {
      'name': 'paligemma',
      'model_specific_special_tokens': {'image_token': '<image>'},
    },
  ),
  'siglip': (_siglip, {}),
  'siglip, as written': (
    _siglip,
    {
      'do_lower_case': False,
      'pad_token': '</s>',
      'added_tokens_decoder': {
        str(i): {'content': text, 'lstrip': True, 'rstrip': True, **_SPECIAL}
        for i, text in enumerate(('</s>', '<unk>'), 1)
      },
    },
  ),
  'siglip2': (_gemma, {'name': 'siglip2', 'add_eos_token': True}),
}


def is_exact(which: str, text: str) -> bool:
  """Whether a text of `TEXTS` has the ids of transformers in a folder."""
  return which not in MARKS_DIFFER or '<unk> <' not in text


def write(folder: pathlib.Path, which: str) -> pathlib.Path:
  """Writes a folder of `FOLDERS`."""
  folder.mkdir(parents=True, exist_ok=True)
  make, settings = FOLDERS[which]
  make(folder, **settings)
  return folder
