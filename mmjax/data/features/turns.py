"""Fields of conversations."""

import collections
import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import (
  chat_ids,
  chat_tokenizers,
  contact_sheet,
  tokenizers,
)
from mmjax.data.features import base
from mmjax.errors import ConfigError

ROLES = ('system', 'user', 'assistant')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns(base.Feature):
  """A conversation, as ids of the data set's tokenizer.

  A value is a list of {'role': str, 'content': list}; a content's items are
  texts, or {'field': NAME} for what another field of the record holds, which a
  feature of its own makes arrays of. Questions with their answers are read as
  conversations too: each is a turn of the user's, its commonest answer one of
  the assistant's. With a tokenizer that has a chat template
  beside it, as those of published chat models, the template writes the
  conversation; otherwise each turn is written as `ROLE: TEXT` and ends with
  <eos>. The arrays are int32 [T], its mask bool [T], and `NAME_learnt` bool
  [T], True for what the assistant says, with the token that ends its turn
  (`mmjax.data.chat_ids`).

  Attributes:
    length: T, largest number of tokens; what is longer loses its end.
    system: field of texts, such as 'captions', whose first text is the system's
      turn before the others; '' for none.
    image: feature and field of an image that stands where the conversation
      refers to it, once; before the first question if they are questions. ''
      for none.
    image_tokens: number of tokens of the image in the model.
    placeholder: token that stands for each of them, such as '<image>'; it is
      the one that the chat template writes for an image.
    requires_answer: whether training refuses a conversation of which no token
      is learnt, because nobody answers or the length cuts it; False for
      conversations that are only read.
    packed: whether training puts several conversations into a row where they
      fit; then there are also `NAME_segments` int32 [T], from 1 on, and
      `NAME_positions` int32 [T] (`mmjax.data.conversation_packing`).
    date: day, as 2025-01-31, that a template writes as today's, so that
      examples don't depend on when they are made.
    variables: further variables of the template, by name.
    tokenizer: tokenizer of the data set.
  """

  kind: ClassVar[str] = 'turns'
  field_kinds: ClassVar[tuple[str, ...]] = ('turns', 'questions')
  word: ClassVar[str] = 'a conversation'

  length: int = 256
  system: str = ''
  image: str = ''
  image_tokens: int = 0
  placeholder: str = ''
  requires_answer: bool = True
  packed: bool = False
  date: str = '2025-01-31'
  variables: Mapping = dataclasses.field(default_factory=dict)
  tokenizer: Any = None

  def __post_init__(self):
    super().__post_init__()
    if self.image and not (self.image_tokens > 0 and self.placeholder):
      self.refuse('image', 'needs image_tokens and placeholder too')
    if self.length < 2:
      self.refuse('length', 'is not legal: at least 2')
    try:
      datetime.date.fromisoformat(self.date)
    except ValueError:
      self.refuse('date', 'is not a day, such as 2025-01-31')

  def get(self, record: Mapping[str, Any]) -> list[Mapping] | None:
    value = super().get(record)
    if not value:
      return None
    if 'question' in value[0]:
      value = list(_read_questions(value))
      if self.image and value:
        value[0]['content'].insert(0, {'field': self.image})
    texts = record['fields'].get(self.system) if self.system else None
    if isinstance(texts, Mapping):
      texts = next(iter(texts.values()), None)
    return [*([_make_turn('system', texts[0])] if texts else []), *value]

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
    names = ('learnt', *(('segments', 'positions') if self.packed else ()))
    return (*super().list_keys(), *(f'{self.name}_{name}' for name in names))

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    value = self.get(record) or ()
    if not self.requires_answer:
      return bool(value)
    return any(turn['role'] == 'assistant' for turn in value)

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
    if self.image:
      self._check_image(ids)
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
      written = self._write(chosen, prompt=prompt)
      pair = list(written.ids), list(written.learnt)
    else:
      pair = self._encode_turns(chosen, prompt=prompt)
    return self._expand(chosen, *pair) if self.image else pair

  def _encode_turns(
    self, chosen: Sequence[Mapping], *, prompt: bool
  ) -> tuple[list[int], list[bool]]:
    """Encodes turns as `ROLE: TEXT<eos>`, an image as one placeholder."""
    ids: list[int] = []
    learnt: list[bool] = []
    for turn in chosen:
      lead = self.tokenizer.encode_words(f'{turn["role"]}: ')
      words = []
      for item in self._list_items(turn):
        is_text = isinstance(item, str)
        words += (
          self.tokenizer.encode_words(item) if is_text else [self._find_id()]
        )
      ids += [*lead, *words, self.tokenizer.eos_id]
      is_learnt = turn['role'] == 'assistant'
      learnt += [False] * len(lead) + [is_learnt] * (len(words) + 1)
    lead = self.tokenizer.encode_words('assistant: ') if prompt else []
    return [*ids, *lead], [*learnt, *[False] * len(lead)]

  def spell(self, chosen: Sequence[Mapping]) -> list[tuple[str, bool]]:
    """The text of each token of a conversation, and whether it is learnt."""
    if isinstance(self.tokenizer, chat_tokenizers.ChatTokenizer):
      written = self._write(chosen)
      texts = [written.text[begin:end] for begin, end in written.offsets]
      return list(zip(texts, written.learnt, strict=True))
    texts, learnt = [], self.encode(chosen)[1]
    for turn in chosen:
      for text in (f'{turn["role"]}: ', get_text(turn)):
        texts += self.tokenizer.tokenize(text)
      texts.append('<eos>')
    return list(zip(texts, learnt, strict=True))

  def _write(
    self, chosen: Sequence[Mapping], *, prompt: bool = False
  ) -> chat_ids.Conversation:
    """Writes a conversation by the tokenizer's chat template."""
    template = self.tokenizer.template
    return self.tokenizer.encode_chat(
      [
        {**turn, 'content': template.make_content(self._list_items(turn))}
        for turn in chosen
      ],
      add_generation_prompt=prompt,
      completes=bool(self.image),
      now=datetime.datetime.fromisoformat(self.date),
      **self.variables,
    )

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> list[Mapping] | None:
    value = super().choose(record, rng)
    number = sum(map(self._count_images, value or ()))
    if number and record['fields'].get(self.image) is None:
      raise ConfigError(
        f'{self.name} refers to the field {self.image!r}, which the record '
        'lacks'
      )
    return value

  def _count_images(self, turn: Mapping[str, Any]) -> int:
    return sum(not isinstance(item, str) for item in self._list_items(turn))

  def _list_items(self, turn: Mapping[str, Any]) -> list[Any]:
    """Texts of a turn, and {'type': 'image'} in the place of its image."""
    if not self.image:
      return [get_text(turn)]
    parts = {'field': self.image}
    items: list[Any] = []
    for item in turn['content']:
      if item == parts:
        items.append({'type': 'image'})
        continue
      text = get_text({'content': [item]})
      if items and isinstance(items[-1], str):
        items[-1] += f' {text}'
      else:
        items.append(text)
    return items or ['']

  def _find_id(self) -> int:
    """Id of the placeholder.

    Raises:
      ConfigError: if the tokenizer doesn't have it.
    """
    found = self.tokenizer.find_id(self.placeholder)
    if found is None:
      self.refuse('placeholder', 'is not a token of the tokenizer')
    return found

  def _expand(
    self, chosen: Sequence[Mapping], ids: list[int], learnt: list[bool]
  ) -> tuple[list[int], list[bool]]:
    """Repeats the placeholder for each token of the image."""
    token_id, number = self._find_id(), sum(map(self._count_images, chosen))
    if ids.count(token_id) != number or number > 1:
      raise ConfigError(
        f'{self.name} has {ids.count(token_id)} tokens {self.placeholder!r} '
        f'and refers to {number} images; it may refer to one, and no text may '
        'have that token'
      )
    counts = [self.image_tokens if i == token_id else 1 for i in ids]
    repeat = lambda row: np.repeat(row, counts).tolist()
    return repeat(ids), repeat(learnt)

  def _check_image(self, ids: Sequence[int]) -> None:
    """Refuses a conversation whose length cuts tokens of its image."""
    if self._find_id() in ids[self.length :]:
      raise ConfigError(
        f'{self.name}: the length {self.length} of {len(ids)} tokens cuts off '
        f'tokens of the image; raise data.features.{self.name}.length'
      )

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

  def make_prompt(
    self, chosen: Sequence[Mapping] | None, length: int
  ) -> base.Example:
    """Makes the arrays of a conversation up to an answer.

    Args:
      chosen: the turns before the answer; None for none.
      length: number of tokens of the arrays. A longer conversation is masked
        whole.
    """
    ids = self.encode(chosen, prompt=True)[0] if chosen else []
    ids = ids if len(ids) <= length else []
    return self._pad(ids, [False] * len(ids), length)

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

  def _pad(
    self, ids: list[int], learnt: list[bool], length: int = 0
  ) -> base.Example:
    length = length or self.length
    array = np.full(length, 0, np.int32)
    array[: len(ids)] = ids
    is_learnt = np.zeros(length, np.bool_)
    is_learnt[: len(learnt)] = learnt
    is_learnt[0] = False  # Nothing is before it to predict it from.
    mask = np.arange(length) < len(ids)
    example = {
      self.name: array,
      f'{self.name}_mask': mask,
      f'{self.name}_learnt': is_learnt,
    }
    if self.packed:
      example[f'{self.name}_segments'] = mask.astype(np.int32)
      positions = np.where(mask, np.arange(length), 0)
      example[f'{self.name}_positions'] = positions.astype(np.int32)
    return example


def _is_reference(item: Any) -> bool:
  return (
    isinstance(item, dict)
    and item.keys() == {'field'}
    and isinstance(item['field'], str)
  )


def _read_questions(value: Sequence[Mapping]) -> Iterator[Mapping]:
  for entry in value:
    if entry['answers']:
      ((answer, _),) = collections.Counter(entry['answers']).most_common(1)
      yield _make_turn('user', entry['question'])
      yield _make_turn('assistant', answer)


def _make_turn(role: str, text: str) -> dict[str, Any]:
  return {'role': role, 'content': [text]}


def split_last_answer(
  value: Sequence[Mapping],
) -> tuple[list[Mapping], str] | None:
  """The turns before the last answer, and its text; None without one.

  >>> split_last_answer([{'role': 'assistant', 'content': ['hi']}])
  """
  answers = [i for i, turn in enumerate(value) if turn['role'] == 'assistant']
  if not answers or not answers[-1]:
    return None
  return list(value[: answers[-1]]), get_text(value[answers[-1]])


def get_text(turn: Mapping[str, Any]) -> str:
  """The text of a turn; other fields stand in it as [NAME]."""
  return ' '.join(
    item if isinstance(item, str) else f'[{item["field"]}]'
    for item in turn['content']
  )
