"""Conversations up to an answer that a model is to write."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data.features import base, turn_media, turn_values, turns
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt(turns.Turns):
  """A conversation up to its last answer, as ids of the data set's tokenizer.

  The turns before the last answer, or all of a conversation that ends with a
  question, and what stands before an answer. Nothing of it is learnt. What a
  setting of `Turns` means, it means here. Images to which no turn that is kept
  refers stand before the first text of the user's.

  Attributes:
    length: T, largest number of tokens. A longer prompt is refused in training
      and masked in evaluation.
    last: number of turns of users and assistants that are kept, the last ones,
      1 for the last question alone; 0 for all.
  """

  kind: ClassVar[str] = 'prompt'
  word: ClassVar[str] = 'a prompt'

  last: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.packed:
      self.refuse('packed', 'packs conversations, but these are prompts')
    if self.last < 0:
      self.refuse('last', 'is not legal: at least 0')

  def get(self, record: Mapping[str, Any]) -> list[Mapping] | None:
    value = super().get(record)
    if not value:
      return None
    found = turn_values.split_last_answer(value)
    if value[-1]['role'] == 'assistant':
      value = found[0] if found else []
    rest = [turn for turn in value if turn['role'] != 'system']
    kept = rest[-self.last :] if self.last else rest
    if not kept:
      return None
    system = [turn for turn in value if turn['role'] == 'system']
    return [*system, *kept]

  def place(
    self, value: Sequence[Mapping], record: Mapping[str, Any]
  ) -> list[Mapping]:
    value = turn_media.refer_first(value, record, self.media_features)
    return super().place(value, record)

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    return bool(self.get(record))

  def make_arrays(
    self,
    chosen: Sequence[Mapping],
    rng: np.random.Generator | None = None,
    *,
    flips: bool = True,
  ) -> base.Example:
    del flips
    number = len(self.encode(chosen, prompt=True)[0])
    if number > self.length and rng is not None:
      raise ConfigError(
        f'{self.name}: the prompt has {number} tokens, more than '
        f'data.features.{self.name}.length={self.length}; raise that'
      )
    return self.make_prompt_arrays(chosen, self.length)
