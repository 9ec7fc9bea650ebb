"""Finds the choices of a question, and the one that its answer names."""

import contextlib
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from mmjax.data import nested_texts, texts
from mmjax.errors import ConfigError

# Fields of the answers that a question offers.
FIELDS = ('choices', 'options')
# Columns of one choice each.
_LETTER_COLUMN = re.compile(r'()([A-Z])')
_COLUMN = re.compile(r'((?:choice|option)[_ -]?)([a-z]|\d{1,2})', re.IGNORECASE)
_LABELLED = re.compile(r'\s*\(?([A-Z])[.):]\s*(\S.*?)\s*', re.DOTALL)
_INLINE = re.compile(r'(?:^|(?<=\s))\(?([A-Z])[.):]\s+')
_LETTER = re.compile(r'\(?([A-Za-z])[.):]?')
_NUMBER = re.compile('[0-9]{1,3}')


def resolve(answer: Any, entry: Mapping[str, Any]) -> Any:
  """Returns an answer, or the choice that its number or letter stands for.

  Args:
    answer: an answer of the question.
    entry: fields of the question. Its choices are a list, an object of texts by
      letter or of lists `label` and `text`, a text of lines `A. cat` or of one
      line `(A) cat (B) dog`, or columns `A`, `B`, ... or `choice_a`,
      `option_1`, ...

  Raises:
    ConfigError: if it is the number or letter of no choice, may be both a
      choice and the number of one, or the choices aren't understood.
  """
  choices = _find(entry)
  choice = answer.strip() if isinstance(answer, str) else answer
  label = _read_label(choice)
  if isinstance(choices, str) and label is not None:
    raise ConfigError(
      f'answer {choice!r} seems to name one of the choices {choices!r:.80}, '
      'which are not a list; write them as a list, or the answer as a text'
    )
  if isinstance(choices, str) or not choices:
    return answer
  options = list(choices.values())
  if isinstance(choice, str) and choice in options:
    return answer
  match = _LABELLED.fullmatch(choice) if isinstance(choice, str) else None
  if match and choices.get(match[1]) == match[2]:
    return match[2]  # 'A. cat'
  if label is None:
    return answer
  if str(choice) in map(str, options):
    raise ConfigError(
      f'answer {choice!r} may be one of its choices or the number of one; '
      'write the choice as a text'
    )
  if label in choices:
    return choices[label]
  # Letters of choices with numbers, and the reverse, count from the first.
  index = int(label) if label.isdigit() else ord(label) - ord('A')
  if label.isdigit() == next(iter(choices)).isdigit() or index >= len(options):
    raise ConfigError(
      f'answer {choice!r} is not one of its {len(options)} choices, which are '
      f'{", ".join(choices)}, or numbered from 0'
    )
  return options[index]


def _read_label(choice: Any) -> str | None:
  """Returns the capital letter or the number that an answer consists of."""
  if texts.is_number(choice) and _NUMBER.fullmatch(str(choice)):
    return str(int(choice))
  match = _LETTER.fullmatch(choice) if isinstance(choice, str) else None
  return match[1].upper() if match else None


def _find(entry: Mapping[str, Any]) -> dict[str, Any] | str:
  """Returns the choices by their labels, or a text of unknown form."""
  value = next((entry[key] for key in FIELDS if key in entry), None)
  if value is None:
    return _find_columns(entry)
  if isinstance(value, str):
    with contextlib.suppress(ConfigError):  # It stays a text.
      value = nested_texts.read(value.strip())
  if isinstance(value, dict):
    labels, options = value.get('label'), value.get('text')
    if isinstance(labels, list) and isinstance(options, list):
      return dict(zip(map(str, labels), options, strict=False))
    return {str(label).strip().upper(): value[label] for label in value}
  if isinstance(value, str):
    lines = [line for line in value.splitlines() if line.strip()]
    return _split_labels(lines) or _split_line(value) or value
  if not isinstance(value, list):
    return str(value)
  return _split_labels(value) or dict(
    zip(_list_labels(len(value)), value, strict=True)
  )


def _list_labels(count: int) -> list[str]:
  """Returns the labels of a list: letters, or numbers if there are too few."""
  letters = string.ascii_uppercase
  return list(letters[:count] if count <= 26 else map(str, range(count)))


def _split_labels(items: Iterable[Any]) -> dict[str, str]:
  """Returns texts such as 'A. cat' by their letters; {} for other texts."""
  matches = [_LABELLED.fullmatch(str(item)) for item in items]
  choices = {match[1]: match[2] for match in matches if match}
  labels = list(string.ascii_uppercase[: len(matches)])
  return choices if len(matches) > 1 and list(choices) == labels else {}


def _split_line(text: str) -> dict[str, str]:
  """Returns the texts of '(A) cat (B) dog' by their letters; {} otherwise."""
  start, *pieces = _INLINE.split(text)
  choices = {
    letter: option.strip(' \t\n,;')
    for letter, option in zip(pieces[::2], pieces[1::2], strict=True)
  }
  labels = list(string.ascii_uppercase[: len(pieces) // 2])
  is_whole = not start.strip() and all(choices.values())
  is_list = len(choices) > 1 and list(choices) == labels
  return choices if is_whole and is_list else {}


def _find_columns(entry: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the choices in columns of their own, {} without them."""
  for pattern in _COLUMN, _LETTER_COLUMN:
    matches = [pattern.fullmatch(name.strip()) for name in entry]
    choices = {
      match[2].upper(): value
      for match, value in zip(matches, entry.values(), strict=True)
      if match
    }
    labels = sorted(choices, key=lambda label: (len(label), label))
    first = labels[0] if labels else ''
    letters = [chr(ord('A') + i) for i in range(len(labels))]
    numbers = [str(i + (first == '1')) for i in range(len(labels))]
    if len(labels) > 1 and labels in (letters, numbers):
      return {label: choices[label] for label in labels}
  return {}
