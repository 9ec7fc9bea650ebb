"""Fields of records as the arrays that a published model reads."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from mmjax.data import features, images, sources
from mmjax.pretrained import base

_BLANK = np.zeros((32, 32, 3), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedImage(features.Feature):
  """An image, preprocessed as the published files say.

  Where the module reads a struct of several arrays, these are `NAME_0`,
  `NAME_1`, ...

  Attributes:
    model: the published model.
  """

  kind: ClassVar[str] = 'image'
  field_kinds: ClassVar[tuple[str, ...]] = ('image',)
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'an image'

  model: Any

  def list_keys(self) -> tuple[str, ...]:
    return tuple(self._blank)

  def make_arrays(
    self, chosen: bytes, rng: np.random.Generator | None, *, flips: bool
  ) -> features.Example:
    del rng, flips
    return self._make(images.decode(chosen), present=True)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._blank

  @classmethod
  def render(cls, value: bytes):
    return features.KINDS['image'].render(value)

  def join(self, batch: Mapping[str, Any]) -> Any:
    """The module's input from the arrays of a batch."""
    leaves = [batch[key] for key in self.list_keys()[:-1]]
    return jax.tree.unflatten(self._structure, leaves)

  @functools.cached_property
  def _structure(self) -> Any:
    return jax.tree.structure(self.model.preprocess([_BLANK]))

  @functools.cached_property
  def _blank(self) -> features.Example:
    return self._make(_BLANK, present=False)

  def _make(self, image: np.ndarray, *, present: bool) -> features.Example:
    leaves = jax.tree.leaves(self.model.preprocess([image]))
    keys = [self.name]
    if len(leaves) > 1:
      keys = [f'{self.name}_{i}' for i in range(len(leaves))]
    arrays = {
      key: np.asarray(leaf)[0] for key, leaf in zip(keys, leaves, strict=True)
    }
    return arrays | {f'{self.name}_mask': np.bool_(present)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedText(features.StoredTexts):
  """One of a record's texts, as ids of the published tokenizer.

  Attributes:
    model: the published model.
    length: T; 0 for the longest text of the records that it is fitted to.
  """

  kind: ClassVar[str] = 'text'

  model: Any
  length: int = 0

  def fit(self, source: sources.Source) -> 'PublishedText':
    texts = {
      text
      for record in source.iterate_small()
      for text in self.list_evaluation_texts(record)
    }
    return dataclasses.replace(self, length=find_length(self.model, texts))

  def make_arrays(
    self, chosen: str, rng: np.random.Generator | None, *, flips: bool
  ) -> features.Example:
    del rng, flips
    return make_ids(self.model, self.name, chosen, self.length)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return {
      self.name: np.zeros(self.length, np.int32),
      f'{self.name}_mask': np.zeros(self.length, bool),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedQuestions(features.Questions):
  """A record's question, as ids of the published tokenizer.

  Attributes:
    model: the published model.
  """

  model: Any

  def list_keys(self) -> tuple[str, ...]:
    return ('question', 'question_mask')

  @property
  def uses_tokenizer(self) -> bool:
    return False

  def fit(self, source: sources.Source) -> 'PublishedQuestions':
    texts = {
      entry['question']
      for record in source.iterate_small()
      for entry in self.get(record) or ()
    }
    return dataclasses.replace(self, length=find_length(self.model, texts))

  def choose(self, record: Any, rng: np.random.Generator | None) -> str | None:
    del rng
    questions = self.get(record)
    return questions[0]['question'] if questions else None

  def list_texts(self, chosen: str) -> tuple[str, ...]:
    return (chosen,)

  def make_arrays(
    self, chosen: str, rng: np.random.Generator | None, *, flips: bool
  ) -> features.Example:
    del rng, flips
    return make_ids(self.model, 'question', chosen, self.length)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return {
      'question': np.zeros(self.length, np.int32),
      'question_mask': np.zeros(self.length, bool),
    }


def find_length(model: Any, texts: set[str]) -> int:
  """Length of the arrays of texts: that of the longest."""
  return max((model.tokenize(t)[0].shape[1] for t in texts), default=1)


def make_ids(
  model: Any, key: str, text: str, length: int
) -> dict[str, np.ndarray]:
  """Ids `key` [length] of a text, and their mask."""
  ids, mask = (np.asarray(array)[0] for array in model.tokenize(text))
  padded, _ = base.pad_rows([ids.tolist()], 0, length=length)
  present = np.zeros(length, bool)
  present[: len(mask)] = mask
  return {key: padded[0], f'{key}_mask': present}
