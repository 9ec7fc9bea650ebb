"""Converts a record to the arrays of one example.

Decoding, augmentation, choice of text and tokenising are one pure function of
the record and a random generator; evaluation passes no generator.
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
  """Converts a record to arrays, without the batch axis.

  `preprocess(record, rng)` is for training: it augments the image and draws one
  of the captions, `num_questions` of the questions and one answer to each.
  `preprocess(record)` is for evaluation: no augmentation, the first caption,
  the first question, its commonest answer.

  The settings determine the keys, whether or not the record has that modality;
  where it hasn't, the array is zeros and the mask False:

    image [H, W, 3] float32, image_mask [] bool    image_size
    text [T] int32, text_mask [T] bool             text_length
    question [Q] int32, question_mask [Q] bool     question_length
    answer [A] int32, answer_mask [A] bool         answer_length
    label [] int32, -1 if not in `answers`         answers

  In training with `num_questions` n above 1, the last three have a leading axis
  [n]; where a record has fewer questions, the rest are masked.

  Attributes:
    tokenizer: tokenizer of the texts; None if all lengths are 0.
    image_size: (height, width), or one number for both; 0 for no images.
    resize: 'stretch', 'crop' or 'pad', as in `images.resize`.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
    augment: augmentations in order, as in `mmjax.data.augment`. An image whose
      texts mention left or right is not flipped.
    text_length: T, number of tokens with <bos> and <eos>; 0 for no captions.
    question_length: Q, number of tokens; 0 for no questions.
    answer_length: A, number of tokens; 0 for no answers as text.
    answers: the answer vocabulary; empty for no `label`.
    num_questions: n, number of questions about an image in training.
    text_fields: largest number of values to append to a caption, by metadata
      field: {'tags': 3} turns 'grinning face' into 'grinning face, happy,
      smile' in training, with 0 to 3 tags in random order. A field is a list,
      or one string with commas.
    text_fields_in_evaluation: whether evaluation appends the first values, as
      many as `text_fields` allows, to the captions.
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
    settings = tuple(_freeze_lists(setting) for setting in augment)
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
        'pass one, or set them to 0'
      )
    labels = {answer: i for i, answer in enumerate(self.answers)}
    if len(labels) < len(self.answers):
      raise ConfigError('the answer vocabulary names an answer twice')
    object.__setattr__(self, '_labels', labels)

  def __call__(
    self, record: Record, rng: np.random.Generator | None = None
  ) -> Example:
    """Returns the example's arrays, with the class's keys.

    Args:
      record: record as in `mmjax.data.records`.
      rng: random generator for training; None for evaluation.

    Raises:
      ConfigError: if the image can't be read.
    """
    text = self._choose_text(record, rng) if self.text_length else None
    pairs = []
    if self.question_length or self.answer_length or self.answers:
      pairs = _choose_questions(record, rng, self.num_questions)
    sides = [text]
    for entry, _ in pairs:
      sides += [entry['question'], *entry['answers']]
    example = {}
    if self.image_size:
      flips = not any(
        augmentations.mentions_side(side) for side in sides if side
      )
      example.update(self._make_image(record, rng, flips))
    if self.text_length:
      example.update(self._encode('text', text, self.text_length))
    number = self.num_questions if rng is not None else 1
    pairs += [(None, None)] * (number - len(pairs))
    examples = [self._make_question(entry, answer) for entry, answer in pairs]
    if number == 1:
      return example | examples[0]
    return example | {
      key: np.stack([e[key] for e in examples]) for key in examples[0]
    }

  def encode_image(self, image: np.ndarray) -> np.ndarray:
    """Resizes and normalises an image for the model, as in evaluation.

    Args:
      image: uint8 [H, W, 3], any size.

    Returns:
      float32 [image_size, image_size, 3].
    """
    image = images.resize(image, self._size, self.resize)
    return images.normalise(image, self.mean, self.std)

  def list_evaluation_texts(self, record: Record) -> list[str]:
    """Lists the record's captions as evaluation uses them, one text each."""
    captions = record['captions'] or ('',)
    texts = [
      self._choose_text({**record, 'captions': [c] if c else []}, None)
      for c in captions
    ]
    return [text for text in texts if text is not None]

  def to_dict(self) -> dict[str, Any]:
    """Returns the settings, without the tokenizer, as JSON values."""
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
    """Loads a preprocessor that `save` wrote.

    Raises:
      ConfigError: if a setting is unknown.
    """
    settings = json.loads(pathlib.Path(path).read_text())
    return cls.from_dict(settings, tokenizer)

  @classmethod
  def from_dict(
    cls,
    settings: Mapping[str, Any],
    tokenizer: tokenizers.Tokenizer | None = None,
  ) -> 'Preprocessor':
    """Makes a preprocessor from the settings of `to_dict`.

    Raises:
      ConfigError: if a setting is unknown.
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

  def _make_image(
    self, record: Record, rng: np.random.Generator | None, flips: bool
  ) -> Example:
    size = self._size
    if not record['image']:
      zeros = np.zeros((*size, 3), np.float32)
      return {'image': zeros, 'image_mask': np.bool_(False)}
    image = images.decode(record['image'])
    if rng is not None and self.augment:
      # A crop comes first and uses the image's full resolution.
      if self.augment[0]['name'] != 'random_resized_crop':
        image = images.resize(image, size, self.resize)
      image = augmentations.apply(
        image, rng, self.augment, size=size, flips=flips
      )
    return {
      'image': self.encode_image(image),
      'image_mask': np.bool_(True),
    }

  def _make_question(
    self, entry: Mapping[str, Any] | None, answer: str | None
  ) -> Example:
    example = {}
    question = None if entry is None else entry['question']
    if self.question_length:
      example = self._encode(
        'question', question, self.question_length, as_input=True
      )
    if self.answer_length:
      example.update(self._encode('answer', answer, self.answer_length))
    if self.answers:
      example['label'] = np.int32(self._labels.get(answer, -1))
    return example

  def _encode(
    self, key: str, text: str | None, length: int, *, as_input: bool = False
  ) -> Example:
    if text is None:
      ids, mask = np.zeros(length, np.int32), np.zeros(length, np.bool_)
    else:
      ids, mask = self.tokenizer.encode(text, length, as_input=as_input)
    return {key: ids, f'{key}_mask': mask}

  def _choose_text(
    self, record: Record, rng: np.random.Generator | None
  ) -> str | None:
    parts = []
    if record['captions']:
      parts.append(_choose(record['captions'], rng))
    for field, most in self.text_fields.items():
      values = read_field_values(record, field)
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
    # The commonest answer; of equally common ones the first.
    return [(e, _find_commonest(e['answers'])) for e in entries[:1]]
  if number > 1:
    entries = [entries[i] for i in rng.permutation(len(entries))[:number]]
  elif entries:
    entries = [_choose(entries, rng)]
  return [
    (e, _choose(e['answers'], rng) if e['answers'] else None) for e in entries
  ]


def _find_commonest(answers: Sequence[str]) -> str | None:
  return max(answers, key=answers.count) if answers else None


def read_field_values(record: Record, field: str) -> list[str]:
  """Reads the values of a metadata field that may be appended to captions."""
  values = record['metadata'].get(field, ())
  if isinstance(values, str):
    values = values.split(',')
  return [str(value).strip() for value in values if str(value).strip()]


def _freeze_lists(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Replaces lists by tuples, so that a round trip through JSON is exact."""
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
