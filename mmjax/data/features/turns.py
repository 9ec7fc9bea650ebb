"""Fields of conversations."""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import chat_tokenizers, contact_sheet, tokenizers
from mmjax.data.features import base
from mmjax.errors import ConfigError

ROLES = ('system', 'user', 'assistant')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns(base.Feature):
  """A conversation, as ids of the data set's tokenizer.

  A value is a list of {'role': str, 'content': list}; a content's items are
  texts, or {'field': NAME} for what another field of the record holds, which a
  feature of its own makes arrays of. With a tokenizer that has a chat template
  beside it, as those of published chat models, the template writes the
  conversation; otherwise each turn is written as `ROLE: TEXT` and ends with
  <eos>. The arrays are int32 [T], its mask bool [T], and `NAME_learnt` bool
  [T], True for what the assistant says, with the token that ends its turn
  (`mmjax.data.chat_ids`).

  Attributes:
    length: T, largest number of tokens; what is longer loses its end.
    requires_answer: whether training refuses a conversation of which no token
      is learnt, because nobody answers or the length cuts it; False for
      conversations that are only read.
    date: day, as 2025-01-31, that a template writes as today's, so that
      examples don't depend on when they are made.
    variables: further variables of the template, by name.
    tokenizer: tokenizer of the data set.
  """

  kind: ClassVar[str] = 'turns'
  field_kinds: ClassVar[tuple[str, ...]] = ('turns',)
  word: ClassVar[str] = 'a conversation'

  length: int = 256
  requires_answer: bool = True
  date: str = '2025-01-31'
  variables: Mapping = dataclasses.field(default_factory=dict)
  tokenizer: Any = None

  def __post_init__(self):
    super().__post_init__()
    if self.length < 2:
      self.refuse('length', 'is not legal: at least 2')
    try:
      datetime.date.fromisoformat(self.date)
    except ValueError:
      self.refuse('date', 'is not a day, such as 2025-01-31')

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    if not isinstance(value, list) or not value:
      return f'should be a list of turns, not {value!r:.80}'
    for number, turn in enumerate(value, 1):
      if not isinstance(turn, dict) or set(turn) != {'role', 'content'}:
        return f'has a turn that is not of role and content: {turn!r:.80}'
      if turn['role'] not in ROLES:
        return (
          f'has the role {turn["role"]!r} in turn {number}; use one of '
          f'{", ".join(ROLES)}'
        )
      if not isinstance(turn['content'], list):
        return f'has a content that is not a list: {turn["content"]!r:.80}'
      for item in turn['content']:
        if not (isinstance(item, str) or _is_reference(item)):
          return (
            f'has a content that is neither a text nor a field: {item!r:.80}'
          )
    return base.explain_json_fault(value)

  def list_keys(self) -> tuple[str, ...]:
    return (*super().list_keys(), f'{self.name}_learnt')

  @property
  def uses_tokenizer(self) -> bool:
    return True

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Turns':
    return dataclasses.replace(self, tokenizer=tokenizer)

  def list_texts(self, chosen: Sequence[Mapping]) -> Iterable[str]:
    for turn in chosen:
      yield get_text(turn)

  def make_arrays(
    self,
    chosen: Sequence[Mapping],
    rng: np.random.Generator | None = None,
    *,
    flips: bool = True,
  ) -> base.Example:
    del flips
    ids, learnt = self.encode(chosen)
    if rng is not None and self.requires_answer:
      self._check_learnt(ids, learnt)
    return self._pad(ids[: self.length], learnt[: self.length])

  def encode(
    self, chosen: Sequence[Mapping], *, prompt: bool = False
  ) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, uncut, and for each whether it is learnt.

    Args:
      chosen: the turns.
      prompt: whether what stands before an answer comes last.

    Raises:
      ConfigError: if the template fails; it names the turn.
    """
    if isinstance(self.tokenizer, chat_tokenizers.ChatTokenizer):
      template = self.tokenizer.template
      written = self.tokenizer.encode_chat(
        [
          {**turn, 'content': template.make_content([get_text(turn)])}
          for turn in chosen
        ],
        add_generation_prompt=prompt,
        now=datetime.datetime.fromisoformat(self.date),
        **self.variables,
      )
      return list(written.ids), list(written.learnt)
    ids: list[int] = []
    learnt: list[bool] = []
    for turn in chosen:
      lead = self.tokenizer.encode_words(f'{turn["role"]}: ')
      words = self.tokenizer.encode_words(get_text(turn))
      ids += [*lead, *words, self.tokenizer.eos_id]
      is_learnt = turn['role'] == 'assistant'
      learnt += [False] * len(lead) + [is_learnt] * (len(words) + 1)
    lead = self.tokenizer.encode_words('assistant: ') if prompt else []
    return [*ids, *lead], [*learnt, *[False] * len(lead)]

  def _check_learnt(self, ids: Sequence[int], learnt: Sequence[bool]) -> None:
    """Refuses a conversation of which a model would learn nothing."""
    if not any(learnt):
      raise ConfigError(
        f'{self.name}: nothing that the assistant says is in the conversation; '
        f'leave the record out, or set data.features.{self.name}.'
        'requires_answer=False if it is only read'
      )
    if not any(learnt[: self.length]):
      raise ConfigError(
        f'{self.name}: the length {self.length} cuts off all that the '
        f'assistant says, from token {learnt.index(True) + 1} of {len(ids)} on;'
        f' raise data.features.{self.name}.length'
      )

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pad([], [])

  def prepare(self, value: Any) -> base.Example:
    if isinstance(value, str) and value.strip():
      value = [{'role': 'user', 'content': [value]}]
    if fault := self.explain_fault(value):
      raise ConfigError(f'{self.name} {fault}')
    return self.make_arrays(value)

  @classmethod
  def list_all_texts(cls, value: Sequence[Mapping]) -> Iterable[str]:
    for turn in value:
      yield get_text(turn)

  @classmethod
  def draw(cls, value: Sequence[Mapping]) -> contact_sheet.Cell:
    return None, [f'{turn["role"]}: {get_text(turn)}' for turn in value[:4]]

  def _pad(self, ids: list[int], learnt: list[bool]) -> base.Example:
    array = np.full(self.length, 0, np.int32)
    array[: len(ids)] = ids
    is_learnt = np.zeros(self.length, np.bool_)
    is_learnt[: len(learnt)] = learnt
    return {
      self.name: array,
      f'{self.name}_mask': np.arange(self.length) < len(ids),
      f'{self.name}_learnt': is_learnt,
    }


def _is_reference(item: Any) -> bool:
  return (
    isinstance(item, dict)
    and item.keys() == {'field'}
    and isinstance(item['field'], str)
  )


def get_text(turn: Mapping[str, Any]) -> str:
  """The text of a turn; other fields stand in it as [NAME]."""
  return ' '.join(
    item if isinstance(item, str) else f'[{item["field"]}]'
    for item in turn['content']
  )
