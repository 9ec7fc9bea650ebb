"""Settings of tokenizer_config.json that change which tokens a text has.

transformers applies them to the tokenizer of tokenizer.json.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers

from mmjax.errors import ConfigError

FILE = 'tokenizer_config.json'
# By their setting, the field of a `BertNormalizer` that it replaces.
_NORMALIZER = {
  'do_lower_case': 'lowercase',
  'strip_accents': 'strip_accents',
  'tokenize_chinese_chars': 'handle_chinese_chars',
}


def apply(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
  """Changes a tokenizer as its settings say.

  With `split_special_tokens` the name of a special token in a text is a text
  like any other. What texts begin and end with stands in tokenizer.json alone:
  beside it, transformers does not read `add_bos_token` and `add_eos_token`.

  Args:
    tokenizer: of tokenizer.json.
    settings: what tokenizer_config.json holds.

  Raises:
    ConfigError: if the two files contradict each other.
  """
  _check(tokenizer, settings)
  if settings.get('split_special_tokens'):
    tokenizer.encode_special_tokens = True


def switch(
  settings: Mapping[str, Any], key: str, default: bool | None
) -> bool | None:
  """A setting that is true or false, or null where the default is not true.

  Args:
    settings: what tokenizer_config.json holds.
    key: its name.
    default: what it is where the file is silent; where it is true, null is
      refused.

  Raises:
    ConfigError: if it is something else.
  """
  value = settings.get(key, default)
  if not isinstance(value, bool) and (value is not None or default):
    raise ConfigError(f'{FILE}: {key} is {value!r:.60}, not true or false')
  return value


def _check(
  tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]
) -> None:
  steps = json.loads(tokenizer.to_str())
  pairs = [
    ('BertNormalizer', setting, field) for setting, field in _NORMALIZER.items()
  ]
  pairs.append(('ByteLevel', 'add_prefix_space', 'add_prefix_space'))
  for kind, setting, field in pairs:
    part = steps['pre_tokenizer' if kind == 'ByteLevel' else 'normalizer']
    for step in _steps(part):
      same = settings.get(setting) in (None, step.get(field))
      if step.get('type') == kind and not same:
        raise ConfigError(
          f'{FILE}: {setting} is {settings[setting]!r}, but {field} in '
          f'tokenizer.json is {step.get(field)!r}; take both files from one '
          'model, or write one value in both'
        )


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
  """A step of a tokenizer, and those that it consists of."""
  if part is None:
    return
  yield part
  for name in ('normalizers', 'pretokenizers'):
    for one in part.get(name) or ():
      yield from _steps(one)
