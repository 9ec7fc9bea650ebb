"""Fields of several texts, all of which are read."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, tokenizers
from mmjax.data.features import base, text
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts(base.Feature):
  """Several of a record's texts, as ids of the data set's tokenizer.

  Such as hard negatives, texts that are wrong for a record. Training draws
  `number` of them, evaluation takes the first; where there are fewer, the rest
  is masked. The array is int32 [n, T], its mask bool [n, T].

  Attributes:
    number: n.
    length: T, largest number of tokens, with those that begin and end a text.
    tokenizer: tokenizer of the data set.
  """

  kind: ClassVar[str] = 'texts'
  field_kinds: ClassVar[tuple[str, ...]] = ('text',)
  word: ClassVar[str] = 'texts'

  number: int = 1
  length: int = 32
  tokenizer: Any = None

  def __post_init__(self):
    super().__post_init__()
    if self.number < 1:
      self.refuse('number', 'is not legal: at least 1')
    if self.length < 2:
      self.refuse('length', 'leaves no room for <bos> and <eos>; 2 or more')

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    return text.StoredTexts.explain_fault(value)

  @classmethod
  def from_metadata(cls, value: Any) -> list[str]:
    return text.StoredTexts.from_metadata(value)

  @property
  def uses_tokenizer(self) -> bool:
    return True

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Texts':
    return dataclasses.replace(self, tokenizer=tokenizer)

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    return bool(self.choose(record, None))

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> list[str] | None:
    texts = list(self.list_all_texts(self.get(record) or []))
    if rng is not None:
      texts = [texts[i] for i in rng.permutation(len(texts))]
    return texts[: self.number] or None

  def list_texts(self, chosen: Sequence[str]) -> Iterable[str]:
    return chosen

  def make_arrays(
    self,
    chosen: Sequence[str],
    rng: np.random.Generator | None = None,
    *,
    flips: bool = True,
  ) -> base.Example:
    del rng, flips
    example = self.make_absent()
    for i, one in enumerate(chosen):
      ids, mask = self.tokenizer.encode(one, self.length, as_input=True)
      example[self.name][i], example[f'{self.name}_mask'][i] = ids, mask
    return example

  def make_absent(self, rng: np.random.Generator | None = None) -> base.Example:
    del rng
    shape = (self.number, self.length)
    return {
      self.name: np.zeros(shape, np.int32),
      f'{self.name}_mask': np.zeros(shape, np.bool_),
    }

  def prepare(self, value: Any) -> base.Example:
    fault = self.explain_fault(value)
    if fault or not value:
      raise ConfigError(f'{self.name} {fault or "is empty"}')
    return self.make_arrays(list(self.list_all_texts(value))[: self.number])

  @classmethod
  def list_all_texts(cls, value: Any) -> Iterable[str]:
    return text.StoredTexts.list_all_texts(value)

  @classmethod
  def render(cls, value: Any) -> contact_sheet.Cell:
    return text.StoredTexts.render(value)
