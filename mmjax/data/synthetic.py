"""The data set `synthetic`: random images and texts, generated when read.

It serves to plan and time training without data. Record i depends only on the
split's name and i; nothing is prepared or stored. `synthetic/49408` has a
vocabulary of 49,408 ids, `synthetic` one of 1,024.
"""

import io
import zlib
from typing import Any

import numpy as np
import PIL.Image
import tokenizers as library
from tokenizers import models, pre_tokenizers

from mmjax.data import records, sources, tfds_source, tokenizers
from mmjax.errors import ConfigError

NAME = tfds_source.GENERATED
SIZES = {'train': 16_384, 'validation': 1_024, 'test': 1_024}
VOCAB_SIZE = 1_024
ANSWERS = 64
QUESTIONS = 4  # Number per image.

# Squares along each side; an image of noise takes long to decode.
_SQUARES = 8
# Number of ids that are not words.
_NUM_SPECIALS = len(tokenizers.SPECIALS)


def is_synthetic(name: str) -> bool:
  """Whether `data.name` names this data set."""
  return name.split('/')[0] == NAME


def parse_vocab_size(name: str) -> int:
  """Parses the size of the vocabulary in `data.name`.

  >>> parse_vocab_size('synthetic/49408')
  49408

  Raises:
    ConfigError: if it is not a number, or too small.
  """
  _, _, size = name.partition('/')
  if not size:
    return VOCAB_SIZE
  least = _NUM_SPECIALS + ANSWERS
  if not size.isdecimal() or int(size) < least:
    raise ConfigError(
      f'data.name={name!r}: after {NAME}/ comes the size of the vocabulary, a '
      f'whole number from {least}, such as {NAME}/49408'
    )
  return int(size)


def make_tokenizer(size: int) -> tokenizers.Tokenizer:
  """Makes a tokenizer with one id per word: 'w0', 'w1', ...

  Args:
    size: number of ids, the special tokens included.
  """
  words = (
    *tokenizers.SPECIALS,
    *(f'w{i}' for i in range(size - _NUM_SPECIALS)),
  )
  wrapped = library.Tokenizer(
    models.WordLevel(
      {word: i for i, word in enumerate(words)},
      unk_token=tokenizers.SPECIALS[tokenizers.UNK_ID],
    )
  )
  wrapped.add_special_tokens(list(tokenizers.SPECIALS))
  wrapped.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  return tokenizers.Tokenizer(wrapped)


class SyntheticSource(sources.Source):
  """Records with random content.

  A record has an image of coloured squares, one caption and four questions with
  one answer each. Texts have between half of their maximum length and all of
  it; an answer is one of the first 64 words.
  """

  complete = frozenset(records.STANDARD)

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
      vocab_size: number of ids of the tokenizer.
      image_size: pixels of a side, or (height, width).
      text_length: largest number of tokens of a caption, special ones included.
      question_length: largest number of tokens of a question.

    Raises:
      ConfigError: if there is no such split.
    """
    if split not in SIZES:
      raise ConfigError(
        f'{NAME} has no split {split!r}; it has {", ".join(SIZES)}'
      )
    self._split = split
    self._words = vocab_size - _NUM_SPECIALS
    sides = (image_size,) * 2 if isinstance(image_size, int) else image_size
    self._height, self._width = sides
    self._text_length = text_length
    self._question_length = question_length

  def __len__(self) -> int:
    return SIZES[self._split]

  def read(self, index: int) -> sources.Record:
    rng = self._make_rng(index, 0)
    colours = rng.integers(0, 256, (_SQUARES, _SQUARES, 3), np.uint8)
    image = PIL.Image.fromarray(colours).resize(
      (self._width, self._height), PIL.Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    image.save(file, 'PNG', compress_level=1)
    record = self.read_small(index)
    record['fields']['image'] = file.getvalue()
    return record

  def read_small(self, index: int) -> sources.Record:
    rng = self._make_rng(index, 1)
    caption = self._make_text(rng, self._text_length)
    questions = [
      {
        'question': self._make_text(rng, self._question_length),
        'answers': [f'w{rng.integers(ANSWERS)}'],
        'type': 'random',
      }
      for _ in range(QUESTIONS)
    ]
    return {
      'id': f'{self._split}-{index}',
      'fields': {'captions': [caption], 'questions': questions},
      'metadata': {},
    }

  def _make_rng(self, index: int, part: int) -> np.random.Generator:
    split = zlib.crc32(self._split.encode())
    return np.random.default_rng((split, index, part))

  def _make_text(self, rng: np.random.Generator, length: int) -> str:
    longest = max(length - 2, 1)  # <bos> and <eos> take two.
    number = rng.integers((longest + 1) // 2, longest + 1)
    return ' '.join(f'w{i}' for i in rng.integers(0, self._words, number))


def open_split(
  data: dict[str, Any], split: str, where: dict[str, Any] | None
) -> sources.Source:
  """Opens a split with the sizes of a config's `data` section.

  Args:
    data: the `data` section.
    split: a key of `SIZES`.
    where: conditions on metadata fields or `id`, as in `sources.open_source`.

  Raises:
    ConfigError: if the split or a condition doesn't match, or `fields` is set.
  """
  if data['fields']:
    raise ConfigError(
      f"data.fields={data['fields']!r}, but {NAME} has only mmjax's fields; "
      'leave it out'
    )
  source = SyntheticSource(
    split,
    vocab_size=parse_vocab_size(data['name']),
    image_size=data['image_size'],
    text_length=data['text_length'],
    question_length=data['question_length'],
  )
  return sources.select(source, where) if where else source
