"""Refuses imported pairs of answers from which nothing can be learnt."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import extra_fields
from mmjax.errors import ConfigError

Conversation = Sequence[Mapping[str, Any]]


def check(
  extra: Sequence[extra_fields.ExtraField], values: Mapping[str, Any]
) -> None:
  """Refuses a record whose `chosen` and `rejected` are not a pair.

  Args:
    extra: the fields of the data set besides the standard ones. Nothing is
      checked unless both answers are among them.
    values: the record's values by name; one without both answers is not a pair.

  Raises:
    ConfigError: if one answer is missing or empty, both are the same, they have
      no prompt or differ in it, or one alone is a whole conversation.
  """
  turns = {field.name for field in extra if field.kind == 'turns'}
  found = {name: values.get(name) for name in ('chosen', 'rejected')}
  if not turns.issuperset(found) or not any(found.values()):
    return
  for name, answer in found.items():
    if not answer or not _has_content(answer[-1]):
      raise ConfigError(
        f'its {name} answer is empty: from such a pair nothing is learnt'
      )
  chosen, rejected = found['chosen'], found['rejected']
  if chosen == rejected:
    raise ConfigError(
      'its chosen and rejected answers are the same: from such a pair nothing '
      'is learnt'
    )
  are_answers = [turns[0]['role'] == 'assistant' for turns in found.values()]
  if any(are_answers):
    _check_answers(all(are_answers), values.get('prompt'))
  else:
    _check_conversations(chosen, rejected)


def _check_answers(are_both: bool, prompt: Conversation | None) -> None:
  """Refuses answers alone that have no prompt."""
  if not are_both:
    raise ConfigError(
      'one of its chosen and rejected is an answer, the other a whole '
      'conversation; make both the same'
    )
  if not prompt or not any(map(_has_content, prompt)):
    raise ConfigError(
      'its chosen and rejected are answers without a prompt; give the question '
      'in a column `prompt`'
    )


def _check_conversations(chosen: Conversation, rejected: Conversation) -> None:
  """Refuses whole conversations that differ before the assistant's turn."""
  shared = itertools.takewhile(
    lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)
  )
  number = len(list(shared))
  for name, turns in (('chosen', chosen), ('rejected', rejected)):
    role = turns[number]['role'] if number < len(turns) else 'nobody'
    if role != 'assistant' or not number:
      raise ConfigError(
        f'its chosen and rejected first differ in turn {number + 1}, where '
        f'{role} speaks in {name}; both should begin with the same prompt, '
        'which the assistant answers'
      )


def _has_content(turn: Mapping[str, Any]) -> bool:
  """Whether a turn has a text that is not blank, or refers to a field."""
  return any(
    not isinstance(item, str) or item.strip() for item in turn['content']
  )
