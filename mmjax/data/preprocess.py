"""From a record to the arrays of one example.

Decoding, augmentation, choice of text and tokenising are one pure function of
the record and a random generator; without a generator it is evaluation's.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import augment as augmentations
from mmjax.data import images, tokenizers
from mmjax.errors import ConfigError

Record = Mapping[str, Any]
Example = dict[str, np.ndarray]

HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Preprocessor:
  """Makes a record into arrays, without the batch axis.

  `preprocess(record, rng)` trains: it augments and draws one of the captions,
  `num_questions` of the questions and one of each one's answers.
  `preprocess(record)` evaluates: no augmentation, the first caption, the first
  question, its commonest answer.

  A key is made if its setting asks for it, whether or not the record has that
  modality; where it hasn't, the array is zeros and the mask False:

    image [H, W, 3] float32, image_mask [] bool    image_size
    text [T] int32, text_mask [T] bool             text_length
    question [Q] int32, question_mask [Q] bool     question_length
    answer [A] int32, answer_mask [A] bool         answer_length
    label [] int32, -1 if not in `answers`         answers

  In training with `num_questions` n above 1, the last three have a leading axis
  [n]; where a record has fewer questions, the rest are absent.

  Attributes:
    tokenizer: for the texts; None if all lengths are 0.
    image_size: (height, width), or one number for both; 0 leaves images out.
    resize: 'stretch', 'crop' or 'pad', see `images.resize`.
    mean: subtracted from each channel, in 0..1.
    std: each channel is divided by it.
    augment: settings in order, see `mmjax.data.augment`. Flips leave an
      example out whose texts name left or right.
    text_length: T, with <bos> and <eos>; 0 leaves captions out.
    question_length: Q; 0 leaves questions out.
    answer_length: A; 0 leaves answers, as text, out.
    answers: the answer vocabulary; empty leaves `label` out.
    num_questions: n, questions about an image at a time in training.
    text_fields: metadata fields that texts may go on with, and how many of
      their values at most: {'tags': 3} makes 'grinning face' into 'grinning
      face, happy, smile' in training, with 0 to 3 tags in random order. A
      field is a list, or one string with commas.
    text_fields_in_evaluation: evaluate on the caption and the first so many
      values, rather than on the caption alone.
  """

  tokenizer: tokenizers.Tokenizer | None = None
  image_size: int | tuple[int, int] = 0
  resize: str = 'stretch'
  mean: tuple[float, float, float] = HALF
  std: tuple[float, float, float] = HALF
  augment: tuple[augmentations.Setting, ...] = ()
  text_length: int = 0
  question_length: int = 0
  answer_length: int = 0
  answers: tuple[str, ...] = ()
  num_questions: int = 1
  text_fields: Mapping[str, int] = dataclasses.field(default_factory=dict)
  text_fields_in_evaluation: bool = False

  def __post_init__(self):
    if isinstance(self.image_size, Sequence):
      object.__setattr__(self, 'image_size', tuple(self.image_size))
    augment = self.augment
    if isinstance(augment, str):
      augment = (augment,)  # Refused below, by its name.
    augmentations.check(augment)
    settings = tuple(_plain(setting) for setting in augment)
    object.__setattr__(self, 'augment', settings)
    object.__setattr__(self, 'answers', tuple(self.answers))
    object.__setattr__(self, 'mean', tuple(self.mean))
    object.__setattr__(self, 'std', tuple(self.std))
    object.__setattr__(self, 'text_fields', dict(self.text_fields))
    if self.resize not in images.RESIZE_METHODS:
      raise ConfigError(
        f'resize {self.resize!r} is unknown; use one of {images.RESIZE_METHODS}'
      )
    lengths = (self.text_length, self.question_length, self.answer_length)
    if any(lengths) and self.tokenizer is None:
      raise ConfigError(
        f'text, question and answer lengths {lengths} need a tokenizer; '
        'give one, or set them to 0'
      )
    labels = {answer: i for i, answer in enumerate(self.answers)}
    if len(labels) < len(self.answers):
      raise ConfigError('the answer vocabulary names an answer twice')
    object.__setattr__(self, '_labels', labels)

  def __call__(
    self, record: Record, rng: np.random.Generator | None = None
  ) -> Example:
    """Returns the example's arrays, as the class describes.

    Args:
      record: see `mmjax.data.sources`.
      rng: None evaluates.

    Raises:
      ConfigError: if the image can't be read.
    """
    text = self._choose_text(record, rng) if self.text_length else None
    asked = []
    if self.question_length or self.answer_length or self.answers:
      asked = _choose_questions(record, rng, self.num_questions)
    sides = [text]
    for entry, _ in asked:
      sides += [entry['question'], *entry['answers']]
    example = {}
    if self.image_size:
      flips = not any(
        augmentations.names_a_side(side) for side in sides if side
      )
      example.update(self._image(record, rng, flips))
    if self.text_length:
      example.update(self._tokens('text', text, self.text_length))
    number = self.num_questions if rng is not None else 1
    asked += [(None, None)] * (number - len(asked))
    each = [self._question(entry, answer) for entry, answer in asked]
    if number == 1:
      return example | each[0]
    return example | {key: np.stack([e[key] for e in each]) for key in each[0]}

  def encode_image(self, image: np.ndarray) -> np.ndarray:
    """Brings a picture to the model's input, as in evaluation.

    Args:
      image: uint8 [H, W, 3], any size.

    Returns:
      float32 [image_size, image_size, 3].
    """
    image = images.resize(image, self._size, self.resize)
    return images.normalise(image, self.mean, self.std)

  def evaluation_texts(self, record: Record) -> list[str]:
    """A record's captions as evaluation reads them, one text each."""
    captions = record['captions'] or ('',)
    texts = [
      self._choose_text({**record, 'captions': [c] if c else []}, None)
      for c in captions
    ]
    return [text for text in texts if text is not None]

  def to_dict(self) -> dict[str, Any]:
    """Settings as JSON can hold them; the tokenizer is kept apart."""
    settings = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name != 'tokenizer'
    }
    return _to_json(settings)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the settings as JSON, for `load`."""
    pathlib.Path(path).write_text(json.dumps(self.to_dict(), indent=2))

  @classmethod
  def load(
    cls,
    path: str | os.PathLike,
    tokenizer: tokenizers.Tokenizer | None = None,
  ) -> 'Preprocessor':
    """Rebuilds what `save` wrote; see `from_dict`."""
    settings = json.loads(pathlib.Path(path).read_text())
    return cls.from_dict(settings, tokenizer)

  @classmethod
  def from_dict(
    cls,
    settings: Mapping[str, Any],
    tokenizer: tokenizers.Tokenizer | None = None,
  ) -> 'Preprocessor':
    """Rebuilds what `to_dict` wrote.

    Raises:
      ConfigError: for settings that don't exist.
    """
    legal = {field.name for field in dataclasses.fields(cls)} - {'tokenizer'}
    unknown = sorted(set(settings) - legal)
    if unknown:
      raise ConfigError(
        f'preprocessing has no setting {", ".join(unknown)}; '
        f'it has {", ".join(sorted(legal))}'
      )
    return cls(tokenizer=tokenizer, **settings)

  @property
  def _size(self) -> tuple[int, int]:
    if isinstance(self.image_size, tuple):
      return self.image_size
    return (self.image_size, self.image_size)

  def _image(
    self, record: Record, rng: np.random.Generator | None, flips: bool
  ) -> Example:
    size = self._size
    if not record['image']:
      zeros = np.zeros((*size, 3), np.float32)
      return {'image': zeros, 'image_mask': np.bool_(False)}
    image = images.decode(record['image'])
    if rng is not None and self.augment:
      # A crop comes first, from all of the picture's pixels.
      if self.augment[0]['name'] != 'random_resized_crop':
        image = images.resize(image, size, self.resize)
      image = augmentations.apply(
        image, rng, self.augment, size=size, flips=flips
      )
    return {
      'image': self.encode_image(image),
      'image_mask': np.bool_(True),
    }

  def _question(
    self, entry: Mapping[str, Any] | None, answer: str | None
  ) -> Example:
    example = {}
    question = None if entry is None else entry['question']
    if self.question_length:
      example = self._tokens(
        'question', question, self.question_length, read=True
      )
    if self.answer_length:
      example.update(self._tokens('answer', answer, self.answer_length))
    if self.answers:
      example['label'] = np.int32(self._labels.get(answer, -1))
    return example

  def _tokens(
    self, key: str, text: str | None, length: int, *, read: bool = False
  ) -> Example:
    if text is None:
      ids, mask = np.zeros(length, np.int32), np.zeros(length, np.bool_)
    else:
      ids, mask = self.tokenizer.encode(text, length, read=read)
    return {key: ids, f'{key}_mask': mask}

  def _choose_text(
    self, record: Record, rng: np.random.Generator | None
  ) -> str | None:
    parts = []
    if record['captions']:
      parts.append(_choose(record['captions'], rng))
    for field, most in self.text_fields.items():
      values = field_values(record, field)
      if rng is not None:
        count = int(rng.integers(most + 1))
        parts += [values[i] for i in rng.permutation(len(values))[:count]]
      elif self.text_fields_in_evaluation:
        parts += values[:most]
    return ', '.join(parts) if parts else None


def _choose(values: Sequence[Any], rng: np.random.Generator | None) -> Any:
  if rng is None or len(values) == 1:
    return values[0]
  return values[int(rng.integers(len(values)))]


def _choose_questions(
  record: Record, rng: np.random.Generator | None, number: int
) -> list[tuple[Mapping[str, Any], str | None]]:
  """Returns different questions, at most `number`, each with an answer."""
  entries = record['questions']
  if rng is None:
    # The commonest answer, of several the first given.
    return [(e, _commonest(e['answers'])) for e in entries[:1]]
  if number > 1:
    entries = [entries[i] for i in rng.permutation(len(entries))[:number]]
  elif entries:
    entries = [_choose(entries, rng)]
  return [
    (e, _choose(e['answers'], rng) if e['answers'] else None) for e in entries
  ]


def _commonest(answers: Sequence[str]) -> str | None:
  return max(answers, key=answers.count) if answers else None


def field_values(record: Record, field: str) -> list[str]:
  """The values of a metadata field that texts may go on with."""
  values = record['metadata'].get(field, ())
  if isinstance(values, str):
    values = values.split(',')
  return [str(value).strip() for value in values if str(value).strip()]


def _plain(setting: Mapping[str, Any]) -> dict[str, Any]:
  """A setting with tuples for lists, so that JSON and back changes nothing."""
  return {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in setting.items()
  }


def _to_json(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _to_json(item) for key, item in value.items()}
  if isinstance(value, tuple | list):
    return [_to_json(item) for item in value]
  return value
