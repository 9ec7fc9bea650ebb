"""Values of fields of conversations: what is legal, and what they say."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmjax.data.features import json_faults

ROLES = ('system', 'user', 'assistant')


def explain_fault(value: Any) -> str:
  """Explains why a value is not a conversation; '' if it is."""
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
      if not (isinstance(item, str) or is_reference(item)):
        return f'has a content that is neither a text nor a field: {item!r:.80}'
  return json_faults.explain_json_fault(value)


def is_reference(item: Any) -> bool:
  """Whether an item of a content is {'field': NAME}."""
  return (
    isinstance(item, dict)
    and item.keys() == {'field'}
    and isinstance(item['field'], str)
  )


def refer(field: str) -> dict[str, str]:
  """The item of a content that stands for what another field holds."""
  return {'field': field}


def count_references(value: Sequence[Mapping], field: str) -> int:
  """How often turns refer to a field."""
  return sum(turn['content'].count(refer(field)) for turn in value)


def read_questions(value: Sequence[Mapping]) -> Iterator[dict[str, Any]]:
  """Questions and their commonest answers as turns."""
  for entry in value:
    if entry['answers']:
      ((answer, _),) = collections.Counter(entry['answers']).most_common(1)
      yield make_turn('user', entry['question'])
      yield make_turn('assistant', answer)


def make_turn(role: str, text: str) -> dict[str, Any]:
  """A turn of one text."""
  return {'role': role, 'content': [text]}


def split_last_answer(
  value: Sequence[Mapping],
) -> tuple[list[Mapping], str] | None:
  """The turns before the last answer, and its text.

  None if there is no answer, or nothing before it.

  >>> hi = {'role': 'user', 'content': ['hi']}
  >>> split_last_answer([hi, {'role': 'assistant', 'content': ['hello']}])
  ([{'role': 'user', 'content': ['hi']}], 'hello')
  """
  answers = [i for i, turn in enumerate(value) if turn['role'] == 'assistant']
  if not answers or not answers[-1]:
    return None
  return list(value[: answers[-1]]), get_text(value[answers[-1]])


def get_text(turn: Mapping[str, Any]) -> str:
  """The text of a turn; other fields stand in it as [NAME]."""
  return ' '.join(
    item if isinstance(item, str) else f'[{get_field(item)}]'
    for item in turn['content']
  )


def get_field(item: Any) -> str:
  """The field for which an item of a content stands; '' for a text."""
  if isinstance(item, str):
    return ''
  return item['field'] if isinstance(item, dict) else item.field
