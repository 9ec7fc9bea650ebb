"""The captions among a record's fields: texts, lists, texts by language."""

import itertools
from collections.abc import Mapping
from typing import Any

from mmjax.data import columns, nested_texts, texts
from mmjax.errors import ConfigError

_FIELDS = ('caption', 'captions')
# Where an object that is a caption has its text, and its language.
_TEXT_KEYS = ('raw', 'caption', 'text', 'sentence', 'value')
_LANGUAGE_KEYS = ('language', 'lang')


def is_about(field: str) -> bool:
  """Whether captions are read from a field."""
  return field in _FIELDS or columns.language(field) is not None


def values(fields: Mapping[str, Any]) -> list[Any]:
  """What the fields of captions hold, lists as their items."""
  found = []
  for field, value in fields.items():
    if field in _FIELDS:
      found += _list(value)
    elif (language := columns.language(field)) is not None:
      found.append({language: value})
  return found


def read(
  fields: Mapping[str, Any], language: str | None
) -> tuple[list[str], dict[str, Any]]:
  """All different captions, and the texts by language where there are some.

  Args:
    fields: `caption` and `captions` hold a text, a list, texts by language, or
      objects with the text under `raw`, `caption` or the like, perhaps with
      their `language`; `caption_de` holds those in German.
    language: which to take; None for plain captions and those in English.

  Raises:
    ConfigError: if one is not a text, or stands for a missing one, or if there
      is none in the language.
  """
  plain, by_language = [], {}
  found = itertools.chain(*(_list(_parsed(v)) for v in values(fields)))
  for value in found:
    for code, text in _by_language(value):
      if code is None:
        plain += _list(text)
      elif text is not None:
        before = by_language.get(code)
        by_language[code] = (
          text if before is None else [*_list(before), *_list(text)]
        )
  wanted = language or 'en'
  if by_language and wanted not in by_language and (language or not plain):
    others = ', '.join(map(str, by_language))
    raise ConfigError(
      f'there is no caption in {wanted!r}, only in {others}; choose one with '
      '--language'
    )
  if by_language and language:
    plain = []  # Nothing says which language it is in.
  taken = [*plain, *_list(by_language.get(wanted, []))]
  return list(
    dict.fromkeys(texts.read(text, 'caption') for text in taken)
  ), by_language


def _parsed(value: Any) -> Any:
  """A text, or the object or the list of texts and objects that it is."""
  if not isinstance(value, str):
    return value
  inner = nested_texts.read(value.strip())
  is_nested = all(isinstance(item, str | dict) for item in _list(inner))
  return inner if is_nested else value


def _by_language(value: Any) -> list[tuple[str | None, Any]]:
  """A value's texts with their languages, None where nothing says it."""
  if not isinstance(value, dict):
    return [(None, value)]
  keys = [key for key in _TEXT_KEYS if value.get(key) is not None]
  if not keys:
    return list(value.items())
  if len(keys) > 1:
    raise ConfigError(
      f'a caption has texts under {" and ".join(map(repr, keys))}; leave one'
    )
  text = value[keys[0]]
  named = [value[key] for key in _LANGUAGE_KEYS if value.get(key)]
  if not named or isinstance(text, list):
    return [(None, text)]
  return [(str(named[0]), text)]


def _list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
