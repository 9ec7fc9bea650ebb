"""Pairs of answers of which one is preferred."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet
from mmjax.data.features import (
  base,
  turn_checks,
  turn_media,
  turn_placeholders,
  turn_values,
  turns,
)
from mmjax.errors import ConfigError

Conversation = list[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Pair:
  """A prompt and two answers to it.

  Attributes:
    prompt: turns before the answers.
    chosen: turns of the answer that is preferred, the assistant's first.
    rejected: turns of the other one.
  """

  prompt: Conversation
  chosen: Conversation
  rejected: Conversation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preference(turns.Turns):
  """Two answers to a prompt, as two conversations of ids.

  Three fields of turns are read: `field`, `rejected` and `prompt`. Answers that
  begin with another role than the assistant's are whole conversations; what
  both begin with is then the prompt, and the field `prompt` is not read.
  Learnt are the assistant's turns behind the prompt alone.

  The arrays are those of `Turns` for the preferred answer, and the same for the
  other one: `NAME_rejected` int32 [T], `NAME_rejected_mask` and
  `NAME_rejected_loss_mask` bool [T]. What a setting of `Turns` means, it means
  here. Images to which no turn of the prompt refers stand before the first text
  of the user's.

  Attributes:
    field: field of the preferred answer.
    rejected: field of the other one.
    prompt: field of the turns before both.
  """

  kind: ClassVar[str] = 'preference'
  field_kinds: ClassVar[tuple[str, ...]] = ('turns',)
  word: ClassVar[str] = 'a pair of answers'

  field: str = 'chosen'
  rejected: str = 'rejected'
  prompt: str = 'prompt'

  def __post_init__(self):
    super().__post_init__()
    if self.packed:
      self.refuse('packed', 'packs conversations, but these are pairs')

  @property
  def other(self) -> str:
    """Name of the arrays of the answer that is not preferred."""
    return f'{self.name}_rejected'

  def get(self, record: Mapping[str, Any]) -> Pair | None:
    fields = record['fields']
    chosen, rejected = fields.get(self.field_name), fields.get(self.rejected)
    if not chosen or not rejected:
      return None
    if chosen[0]['role'] == rejected[0]['role'] == 'assistant':
      prompt = list(fields.get(self.prompt) or ())
    else:
      prompt = _find_shared(chosen, rejected)
      chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    texts = fields.get(self.system) if self.system else None
    if isinstance(texts, Mapping):
      texts = next(iter(texts.values()), None)
    if texts:
      system = {'role': 'system', 'content': [texts[0]]}
      prompt = [system, *prompt]
    return Pair(prompt, list(chosen), list(rejected))

  def list_keys(self) -> tuple[str, ...]:
    own = super().list_keys()
    others = (f'{self.other}{key.removeprefix(self.name)}' for key in own)
    return (*own, *others)

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    return self.get(record) is not None

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> Pair | None:
    del rng
    pair = self.get(record)
    return None if pair is None else self._place_pair(pair, record)

  def _place_pair(self, pair: Pair, record: Mapping[str, Any]) -> Pair:
    """Puts the images of a record into the prompt and the answers."""
    prompt = turn_media.refer_first(pair.prompt, record, self.media_features)
    whole, other = (
      self.place([*prompt, *answer], record)
      for answer in (pair.chosen, pair.rejected)
    )
    number = len(prompt)
    return Pair(whole[:number], whole[number:], other[number:])

  def list_texts(self, chosen: Pair) -> Iterable[str]:
    return super().list_texts(
      [*chosen.prompt, *chosen.chosen, *chosen.rejected]
    )

  def make_arrays(
    self,
    chosen: Pair,
    rng: np.random.Generator | None = None,
    *,
    flips: bool = True,
  ) -> base.Example:
    del flips
    out = {}
    for name, answer in (
      (self.name, chosen.chosen),
      (self.other, chosen.rejected),
    ):
      ids, loss_mask = self._encode_answer(chosen.prompt, answer)
      if self.media_names:
        turn_checks.check_media(self, ids, turn_placeholders.find_ids(self))
      if rng is not None:
        turn_checks.check_loss_mask(self, ids, loss_mask)
      arrays = self._pad(ids, loss_mask, [*chosen.prompt, *answer])
      out |= {
        f'{name}{key.removeprefix(self.name)}': x for key, x in arrays.items()
      }
    return out

  def _encode_answer(
    self, prompt: Conversation, answer: Conversation
  ) -> tuple[list[int], list[bool]]:
    """Ids of prompt and answer, and which are the answer's.

    Raises:
      ConfigError: if the template writes fewer answers than there are, so that
        nobody knows which ones.
    """
    ids, loss_mask = self.encode([*prompt, *answer])
    spans = [
      (is_learnt, len(list(group)))
      for is_learnt, group in itertools.groupby(loss_mask)
    ]
    earlier, own = _count_answers(prompt), _count_answers(answer)
    number = sum(is_learnt for is_learnt, _ in spans)
    if number != earlier + own:
      raise ConfigError(
        f'{self.name}: the conversation has {earlier + own} turns of the '
        f'assistant, but {number} are written with tokens to learn; leave out '
        'those that the chat template leaves out'
      )
    out: list[bool] = []
    for is_learnt, length in spans:
      earlier -= is_learnt
      out += [is_learnt and earlier < 0] * length
    return ids, out

  def make_absent(self, rng: np.random.Generator | None = None):
    out = super().make_absent(rng)
    return out | {
      f'{self.other}{key.removeprefix(self.name)}': x for key, x in out.items()
    }

  def prepare(self, value: Any) -> base.Example:
    names = [field.name for field in dataclasses.fields(Pair)]
    if not isinstance(value, Mapping) or sorted(value) != sorted(names):
      raise ConfigError(
        f'{self.name} is a dict of {", ".join(names)}, each a list of turns, '
        f'not {value!r:.80}'
      )
    for name, part in value.items():
      if part and (fault := self.explain_fault(part)):
        raise ConfigError(f'{self.name}, {name} {fault}')
    absent = {'fields': {}, 'metadata': {}}
    return self.make_arrays(self._place_pair(Pair(**value), absent))

  @classmethod
  def render(cls, value: Pair | Conversation) -> contact_sheet.Cell:
    if not isinstance(value, Pair):  # Of one field.
      return super().render(value)
    _, lines = turns.Turns.render(value.prompt[-1:])
    for name in ('chosen', 'rejected'):
      lines.append(f'{name}: {turn_values.get_text(getattr(value, name)[-1])}')
    return None, lines


def _find_shared(one: Conversation, other: Conversation) -> Conversation:
  """The turns that both conversations begin with; a last one never is."""
  shared = itertools.takewhile(
    lambda pair: pair[0] == pair[1], zip(one[:-1], other[:-1], strict=False)
  )
  return [turn for turn, _ in shared]


def _count_answers(value: Sequence[Mapping[str, Any]]) -> int:
  return sum(turn['role'] == 'assistant' for turn in value)
