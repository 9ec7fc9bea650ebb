"""The data set `synthetic`: random pictures and texts, made when they are read.

To plan and to time a training without any data. Record i is a function of the
split's name and of i alone; nothing is prepared and nothing is stored.
`synthetic/49408` has a vocabulary of that many ids, `synthetic` one of 1,024.
"""

import io
import zlib
from typing import Any

import numpy as np
import PIL.Image
import tokenizers as library
from tokenizers import models, pre_tokenizers

from mmjax.data import sources, tokenizers
from mmjax.errors import ConfigError

NAME = 'synthetic'
SIZES = {'train': 16_384, 'validation': 1_024, 'test': 1_024}
VOCAB_SIZE = 1_024
ANSWERS = 64
QUESTIONS = 4  # An image.

# Squares on a side; a picture of noise takes long to decode.
_SQUARES = 8
# So many ids are not words.
_SPECIALS = len(tokenizers.SPECIALS)


def is_synthetic(name: str) -> bool:
  """Whether `data.name` is this data set's."""
  return name.split('/')[0] == NAME


def vocab_size(name: str) -> int:
  """The number of ids that `data.name` asks for.

  >>> vocab_size('synthetic/49408')
  49408

  Raises:
    ConfigError: if it asks for none.
  """
  _, _, size = name.partition('/')
  if not size:
    return VOCAB_SIZE
  least = _SPECIALS + ANSWERS
  if not size.isdecimal() or int(size) < least:
    raise ConfigError(
      f'data.name={name!r}: after {NAME}/ comes the size of the vocabulary, a '
      f'whole number from {least}, such as {NAME}/49408'
    )
  return int(size)


def tokenizer(size: int) -> tokenizers.Tokenizer:
  """One id a word: 'w0', 'w1', ... follow the special tokens.

  Args:
    size: number of ids.
  """
  words = (*tokenizers.SPECIALS, *(f'w{i}' for i in range(size - _SPECIALS)))
  made = library.Tokenizer(
    models.WordLevel(
      {word: i for i, word in enumerate(words)},
      unk_token=tokenizers.SPECIALS[tokenizers.UNK_ID],
    )
  )
  made.add_special_tokens(list(tokenizers.SPECIALS))
  made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return tokenizers.Tokenizer(made)


class SyntheticSource(sources.Source):
  """Records of random content.

  A record has an image of coloured squares, one caption and four questions
  with an answer each. Texts fill between half of their length and all of it;
  an answer is one of the first 64 words.
  """

  def __init__(
    self,
    split: str,
    *,
    vocab_size: int = VOCAB_SIZE,
    image_size: int | tuple[int, int] = 32,
    text_length: int = 32,
    question_length: int = 32,
  ):
    """Sets the sizes.

    Args:
      split: a key of `SIZES`.
      vocab_size: of the tokenizer.
      image_size: pixels, a number or (height, width).
      text_length: tokens of the longest captions, the special ones included.
      question_length: the same for questions.

    Raises:
      ConfigError: if there is no such split.
    """
    if split not in SIZES:
      raise ConfigError(
        f'{NAME} has no split {split!r}; it has {", ".join(SIZES)}'
      )
    self._split = split
    self._words = vocab_size - _SPECIALS
    sides = (image_size,) * 2 if isinstance(image_size, int) else image_size
    self._height, self._width = sides
    self._text_length = text_length
    self._question_length = question_length

  def __len__(self) -> int:
    return SIZES[self._split]

  def read(self, index: int) -> sources.Record:
    rng = self._rng(index, 0)
    colours = rng.integers(0, 256, (_SQUARES, _SQUARES, 3), np.uint8)
    image = PIL.Image.fromarray(colours).resize(
      (self._width, self._height), PIL.Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    image.save(file, 'PNG', compress_level=1)
    return {**self.read_texts(index), 'image': file.getvalue()}

  def read_texts(self, index: int) -> sources.Record:
    rng = self._rng(index, 1)
    caption = self._text(rng, self._text_length)
    questions = [
      {
        'question': self._text(rng, self._question_length),
        'answers': [f'w{rng.integers(ANSWERS)}'],
        'type': 'random',
      }
      for _ in range(QUESTIONS)
    ]
    return {
      'id': f'{self._split}-{index}',
      'image': b'',
      'captions': [caption],
      'questions': questions,
      'metadata': {},
    }

  def _rng(self, index: int, part: int) -> np.random.Generator:
    split = zlib.crc32(self._split.encode())
    return np.random.default_rng((split, index, part))

  def _text(self, rng: np.random.Generator, length: int) -> str:
    most = max(length - 2, 1)  # <bos> and <eos> take two.
    number = rng.integers((most + 1) // 2, most + 1)
    return ' '.join(f'w{i}' for i in rng.integers(0, self._words, number))


def open_split(
  data: dict[str, Any], split: str, where: dict[str, Any] | None
) -> sources.Source:
  """Opens a split as the `data` section of a config says.

  Args:
    data: the section.
    split: a key of `SIZES`.
    where: as of `sources.open_source`.

  Raises:
    ConfigError: for settings that such records can't follow.
  """
  if data['fields']:
    raise ConfigError(
      f'data.fields={data["fields"]!r}, but {NAME} has no other fields than '
      'ours; leave it out'
    )
  source = SyntheticSource(
    split,
    vocab_size=vocab_size(data['name']),
    image_size=data['image_size'],
    text_length=data['text_length'],
    question_length=data['question_length'],
  )
  return sources.select(source, where) if where else source
