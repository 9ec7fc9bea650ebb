"""Fields of texts."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, tokenizers
from mmjax.data.features import base, json_faults
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredTexts(base.Feature):
  """Texts that say the same, of one of which a subclass makes the array.

  A value is a list of texts, or a dict of such lists by language. Training
  draws one of them, evaluation takes the first.

  Attributes:
    language: language of the texts to use, where there are several; '' for the
      first one (any one in training).
  """

  field_kinds: ClassVar[tuple[str, ...]] = ('text',)
  word: ClassVar[str] = 'a text'

  language: str = ''

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    lists = value.values() if isinstance(value, dict) else [value]
    for texts in lists:
      if not isinstance(texts, list):
        return f'should be list, not {type(texts).__name__}'
      if wrong := [text for text in texts if not isinstance(text, str)]:
        return f'should hold texts, not {wrong[0]!r:.80}'
    return json_faults.explain_json_fault(value)

  @classmethod
  def from_metadata(cls, value: Any) -> list[str]:
    return list(map(str, value if isinstance(value, list) else [value]))

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    return bool(self.list_alternatives(record))

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> str | None:
    return base.choose_one(self.list_alternatives(record), rng)

  def list_alternatives(self, record: Mapping[str, Any]) -> list[str]:
    """Lists the record's texts that may be chosen, without metadata."""
    value = self.get(record) or []
    if not isinstance(value, dict):
      return value
    if self.language:
      return value.get(self.language, [])
    return [text for texts in value.values() for text in texts]

  def list_evaluation_texts(self, record: Mapping[str, Any]) -> list[str]:
    """Lists the record's texts as evaluation uses them, one text each."""
    return self.list_alternatives(record)

  def list_texts(self, chosen: str) -> Iterable[str]:
    return (chosen,)

  def prepare(self, value: Any) -> base.Example:
    if not isinstance(value, str) or not value.strip():
      raise ConfigError(f'{self.name} is a text, not {value!r:.80}')
    return self.make_arrays(value, None, flips=True)

  @classmethod
  def list_all_texts(cls, value: Any) -> Iterable[str]:
    lists = value.values() if isinstance(value, dict) else [value]
    return [text for texts in lists for text in texts]

  @classmethod
  def render(cls, value: Sequence[str] | Mapping) -> contact_sheet.Cell:
    if isinstance(value, Mapping):
      return None, [f'{key}: {v[0]}' for key, v in list(value.items())[:3] if v]
    return None, list(value[:2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(StoredTexts):
  """One of a record's texts, as ids of the data set's tokenizer.

  A value is a list of texts that say the same, or a dict of such lists by
  language. Training draws one of them, evaluation takes the first. The array is
  int32 [T], its mask bool [T].

  Attributes:
    length: T, largest number of tokens, with those that begin and end a text.
    as_input: whether the text is only read, and not written by a decoder; see
      `mmjax.data.tokenizers.Tokenizer.encode`.
    language: language of the texts to use, where there are several; '' for the
      first one (any one in training).
    metadata: metadata fields whose values are appended -> largest number of
      values: {'tags': 3} turns 'grinning face' into 'grinning face, happy,
      smile' in training, with 0 to 3 tags in random order. A field is a list,
      or one string with commas.
    metadata_in_evaluation: whether evaluation appends the first values, as many
      as `metadata` allows.
    tokenizer: tokenizer of the data set.
  """

  kind: ClassVar[str] = 'text'

  length: int = 32
  as_input: bool = False
  metadata: Mapping = dataclasses.field(default_factory=dict)
  metadata_in_evaluation: bool = False
  tokenizer: Any = None

  def __post_init__(self):
    super().__post_init__()
    if self.length < 2:
      self.refuse('length', 'leaves no room for <bos> and <eos>; 2 or more')
    if not all(type(n) is int and n >= 0 for n in self.metadata.values()):
      self.refuse(
        'metadata', 'is not legal: numbers of values by field, 0 or more'
      )

  @property
  def uses_tokenizer(self) -> bool:
    return True

  @property
  def max_new_tokens(self) -> int:
    """Largest number of tokens that a decoder writes, after <bos>."""
    return self.length - 1

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Text':
    return dataclasses.replace(self, tokenizer=tokenizer)

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    return super().has(record, key) or any(
      read_metadata(record, name) for name in self.metadata
    )

  def measure(
    self, record: Mapping[str, Any]
  ) -> Iterable[tuple[str, str, bool]]:
    for text in self.list_evaluation_texts(record):
      yield self.name, text, self.as_input

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> str | None:
    return self._complete(record, super().choose(record, rng), rng)

  def list_evaluation_texts(self, record: Mapping[str, Any]) -> list[str]:
    alternatives = self.list_alternatives(record) or [None]
    texts = [self._complete(record, text, None) for text in alternatives]
    return [text for text in texts if text is not None]

  def make_arrays(
    self, chosen: str, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del rng, flips
    return self.encode(self.name, chosen, self.length, as_input=self.as_input)

  def encode(
    self, key: str, text: str, length: int, *, as_input: bool
  ) -> base.Example:
    """Makes `key` int32 [length] of a text, and its mask."""
    ids, mask = self.tokenizer.encode(text, length, as_input=as_input)
    return {key: ids, f'{key}_mask': mask}

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return make_blank(self.name, self.length)

  def _complete(
    self,
    record: Mapping[str, Any],
    text: str | None,
    rng: np.random.Generator | None,
  ) -> str | None:
    """Appends the values of metadata fields to a text."""
    parts = [] if text is None else [text]
    for field, most in self.metadata.items():
      values = read_metadata(record, field)
      if rng is not None:
        count = int(rng.integers(most + 1))
        parts += [values[i] for i in rng.permutation(len(values))[:count]]
      elif self.metadata_in_evaluation:
        parts += values[:most]
    return ', '.join(parts) if parts else None


def make_blank(key: str, length: int) -> base.Example:
  """Makes zeros [length] and a mask that is False."""
  return {
    key: np.zeros(length, np.int32),
    f'{key}_mask': np.zeros(length, np.bool_),
  }


def read_metadata(record: Mapping[str, Any], field: str) -> list[str]:
  """Reads the values of a metadata field that may be appended to texts."""
  values = record['metadata'].get(field, ())
  if isinstance(values, str):
    values = values.split(',')
  return [str(value).strip() for value in values if str(value).strip()]
