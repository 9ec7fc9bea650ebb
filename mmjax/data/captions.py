"""Reads the captions among a record's fields: texts, lists, by language."""

import itertools
from collections.abc import Mapping
from typing import Any

from mmjax.data import columns, nested_texts, texts
from mmjax.errors import ConfigError

_FIELDS = ('caption', 'captions')
# Keys of a caption object for its text, and for its language.
_TEXT_KEYS = ('raw', 'caption', 'text', 'sentence', 'value')
_LANGUAGE_KEYS = ('language', 'lang')


def is_caption_field(field: str) -> bool:
  """Whether captions are read from a field."""
  return field in _FIELDS or columns.find_language(field) is not None


def find_values(fields: Mapping[str, Any]) -> list[Any]:
  """Returns the values of all caption fields, with lists flattened."""
  values = []
  for field, value in fields.items():
    if field in _FIELDS:
      values += _as_list(value)
    elif (language := columns.find_language(field)) is not None:
      values.append({language: value})
  return values


def read(
  fields: Mapping[str, Any], language: str | None
) -> tuple[list[str], dict[str, Any]]:
  """Reads a record's captions without duplicates.

  Args:
    fields: fields of the record. `caption` and `captions` hold a text, a list,
      texts by language, or objects with the text under `raw`, `caption` or
      another of `_TEXT_KEYS`, perhaps with their `language`; `caption_de` holds
      German ones.
    language: language of the captions to take; None for English ones and those
      without a language.

  Returns:
    The captions, and all texts by language, {} where none has a language.

  Raises:
    ConfigError: if a caption is not a text or stands for a missing one, or if
      there is none in the language.
  """
  plain, by_language = [], {}
  items = itertools.chain(
    *(_as_list(_parse_nested(v)) for v in find_values(fields))
  )
  for value in items:
    for code, text in _split_by_language(value):
      if code is None:
        plain += _as_list(text)
      elif text is not None:
        previous = by_language.get(code)
        by_language[code] = (
          text if previous is None else [*_as_list(previous), *_as_list(text)]
        )
  target = language or 'en'
  if by_language and target not in by_language and (language or not plain):
    others = ', '.join(map(str, by_language))
    raise ConfigError(
      f'there is no caption in {target!r}, only in {others}; choose one with '
      '--language'
    )
  if by_language and language:
    plain = []  # Their language is unknown.
  selected = [*plain, *_as_list(by_language.get(target, []))]
  return list(
    dict.fromkeys(texts.read(text, 'caption') for text in selected)
  ), by_language


def _parse_nested(value: Any) -> Any:
  """Parses a text that is an object or a list of texts and objects."""
  if not isinstance(value, str):
    return value
  inner = nested_texts.read(value.strip())
  is_nested = all(isinstance(item, str | dict) for item in _as_list(inner))
  return inner if is_nested else value


def _split_by_language(value: Any) -> list[tuple[str | None, Any]]:
  """Returns a value's texts with their languages, None where unknown."""
  if not isinstance(value, dict):
    return [(None, value)]
  if {'user', 'assistant'} <= value.keys():
    raise ConfigError(
      'the texts have a user and an assistant; --format=conversations reads '
      'them'
    )
  keys = [key for key in _TEXT_KEYS if value.get(key) is not None]
  if not keys:
    return list(value.items())
  if len(keys) > 1:
    raise ConfigError(
      f'a caption has texts under {" and ".join(map(repr, keys))}; keep one'
    )
  text = value[keys[0]]
  languages = [value[key] for key in _LANGUAGE_KEYS if value.get(key)]
  if not languages or isinstance(text, list):
    return [(None, text)]
  return [(str(languages[0]), text)]


def _as_list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
