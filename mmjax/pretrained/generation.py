"""How a published model writes, by its generation_config.json.

Every key is honoured, refused unless its value changes nothing, or irrelevant.
A model without the file may have the same keys in its config.json. What is
refused is refused where text is written, so that a model can always be loaded,
to encode or to score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, generation_keys

FILE = 'generation_config.json'
# New tokens where neither the caller nor a file says how many.
DEFAULT_LENGTH = 64


def read(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
  """A model's generation settings, and the name of the file they are from.

  Args:
    files: the small files of the model's folder, by name.
    config: its config.json, read where there is no generation_config.json: its
      top level, then its `text_config`.
  """
  if FILE in files:
    return configs.parsed(files[FILE], FILE), FILE
  text = {
    key: value
    for key, value in (config.get('text_config') or {}).items()
    if generation_keys.OLD_DEFAULTS.get(key) != value
  }
  given = {
    key: part[key]
    for part in (text, config)
    for key in generation_keys.KEYS
    if part.get(key) is not None
  }
  return given, 'config.json'


def arguments(
  given: Mapping[str, Any],
  file: str,
  asked: Mapping[str, Any],
  *,
  eos_ids: Sequence[int],
  speech: bool = False,
) -> dict[str, Any]:
  """Arguments of the module's `generate`.

  Args:
    given: the file's settings.
    file: its name, for errors.
    asked: arguments of the caller's, which come before the file's.
    eos_ids: ids that end a text.
    speech: whether the model writes down what is said.

  Raises:
    ConfigError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  check(given, file, asked, speech=speech)
  out: dict[str, Any] = {}
  for key, (name, kind) in generation_keys.DIRECT.items():
    if given.get(key) is not None:
      out[name] = _typed(given, key, file, kind)
  for key, name in generation_keys.LISTS.items():
    if given.get(key) is not None:
      out[name] = _ids(given[key], key, file)
  if given.get('forced_eos_token_id') is not None:
    forced = given['forced_eos_token_id']
    if isinstance(forced, list) and len(forced) == 1:
      forced = forced[0]
    named = {'forced_eos_token_id': forced}
    out['forced_last'] = _typed(named, 'forced_eos_token_id', file, int)
  biases = (*_sequence_bias(given, file), *_bad_words(given, file, eos_ids))
  if biases:
    out['biases'] = biases
  beams = {} if speech else _beams(given, file, asked)
  out |= beams or _sampling(given, file, asked)
  return {**out, **asked}


def length(
  given: Mapping[str, Any], file: str, asked: int | None, prompt: int
) -> int:
  """How many tokens are written at most.

  Args:
    given: the file's settings.
    file: its name, for errors.
    asked: what the caller wants; None for the file's, or `DEFAULT_LENGTH`.
    prompt: tokens of the longest prompt, which `max_length` counts too.

  Raises:
    ConfigError: if the prompt leaves no room.
  """
  if asked is not None:
    return asked
  if given.get('max_new_tokens') is not None:
    return _typed(given, 'max_new_tokens', file, int)
  if given.get('max_length') is None:
    return DEFAULT_LENGTH
  room = _typed(given, 'max_length', file, int) - prompt
  if room < 1:
    raise ConfigError(
      f'{file}: max_length is {given["max_length"]}, but the prompt has '
      f'{prompt} tokens; pass max_new_tokens'
    )
  return room


def refuse_unread(given: Mapping[str, Any], file: str) -> None:
  """Refuses settings of a family whose writing transformers gives none.

  Ids and what changes nothing stay.

  Raises:
    ConfigError: for any other setting.
  """
  check(given, file)
  unread = set() if given.get('do_sample') else {*generation_keys.SAMPLING}
  if given.get('num_beams') in (None, 1):
    unread |= {*generation_keys.BEAMS}
  changing = {*generation_keys.HONOURED} - {*generation_keys.IDS} - unread
  for key in sorted(set(given) & changing):
    neutral = (None, *generation_keys.NEUTRAL.get(key, ()))
    if given[key] not in neutral:
      raise ConfigError(
        f'{file}: {key} is {given[key]!r}, which transformers does not read '
        'for this family; pass it where the text is written, and remove it '
        'from the file'
      )


def check(
  given: Mapping[str, Any],
  file: str,
  asked: Mapping[str, Any] | None = None,
  *,
  speech: bool = False,
) -> None:
  """Refuses what is not honoured.

  Args:
    given: the file's settings.
    file: its name, for errors.
    asked: arguments of the caller's; a key that one of them stands for is not
      looked at.
    speech: whether the model writes down what is said.

  Raises:
    ConfigError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  asked = asked or {}
  only = dict(generation_keys.ONLY)
  known = {*generation_keys.KEYS, *generation_keys.IRRELEVANT}
  if speech:
    own = generation_keys.SPEECH
    known |= {*own, *generation_keys.ONLY_SPEECH}
    only = {k: v for k, v in only.items() if k not in own}
    only |= generation_keys.ONLY_SPEECH
  if _samples(given, asked) and not speech:
    only |= generation_keys.ONLY_SAMPLING
  if 'beam_size' in asked:
    only.pop('num_beams', None)
  if not speech and _beam_size(given, file, asked) > 1:
    only |= generation_keys.ONLY_BEAMS
  unknown = sorted(set(given) - known)
  if unknown:
    raise ConfigError(
      f'{file}: mmjax does not know {", ".join(unknown)}; remove them from the '
      'file if they change nothing, or write with transformers'
    )
  for key, values in only.items():
    value = given.get(key)
    if value is not None and value not in values:
      raise ConfigError(
        f'{file}: {key} is {value!r}; mmjax writes only with '
        f'{" or ".join(map(repr, values or (None,)))} here; remove it from the '
        'file if you do not need it, or write with transformers'
      )


def _beam_size(
  given: Mapping[str, Any], file: str, asked: Mapping[str, Any]
) -> int:
  if 'beam_size' in asked:
    return asked['beam_size']
  if given.get('num_beams') is None:
    return 1
  size = _typed(given, 'num_beams', file, int)
  if size < 1:
    raise ConfigError(f'{file}: num_beams is {size}; give at least 1')
  return size


def _beams(
  given: Mapping[str, Any], file: str, asked: Mapping[str, Any]
) -> dict[str, Any]:
  """Beam search as transformers does it; {} where there is one beam."""
  size = _beam_size(given, file, asked)
  if size == 1:
    return {}
  if _samples(given, asked):
    where = 'temperature' if 'temperature' in asked else f'{file}: do_sample'
    raise ConfigError(
      f'{where} asks for sampling, which excludes {size} beams; pass '
      'temperature=0 for these, or beam_size=1 to sample'
    )
  penalty = 1.0
  if given.get('length_penalty') is not None:
    penalty = _typed(given, 'length_penalty', file, (int, float))
  return {
    'beam_size': size,
    'length_penalty': penalty,
    'early_stopping': _early_stopping(given, file),
  }


def _early_stopping(given: Mapping[str, Any], file: str) -> bool | str:
  value = given.get('early_stopping')
  if value is None:
    return False
  if value == 'never' or isinstance(value, bool):
    return value
  raise ConfigError(
    f'{file}: early_stopping is {value!r}; mmjax reads only true, false and '
    "'never'"
  )


def _samples(given: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
  if 'temperature' in asked:
    return asked['temperature'] != 0
  return bool(given.get('do_sample'))


def _sampling(
  given: Mapping[str, Any], file: str, asked: Mapping[str, Any]
) -> dict[str, Any]:
  """Temperature and filters; none where the likeliest token is taken."""
  if not _samples(given, asked):
    return {}
  # What transformers takes where a file that samples is silent.
  silent = {'temperature': 1.0, 'top_p': 1.0, 'top_k': 0}
  if given.get('do_sample'):
    silent['top_k'] = 50
  return {
    key: default
    if given.get(key) is None
    else _typed(given, key, file, int if key == 'top_k' else (int, float))
    for key, default in silent.items()
  }


def _bad_words(
  given: Mapping[str, Any], file: str, eos_ids: Sequence[int]
) -> list[tuple[tuple[int, ...], float]]:
  """Words that are never written; a text may end all the same."""
  words = given.get('bad_words_ids') or []
  _check_list(words, 'bad_words_ids', file)
  read = [_ids(word, 'bad_words_ids', file) for word in words]
  ends = [(one,) for one in eos_ids]
  return [(word, float('-inf')) for word in read if word not in ends]


def _sequence_bias(
  given: Mapping[str, Any], file: str
) -> list[tuple[tuple[int, ...], float]]:
  pairs = given.get('sequence_bias') or []
  _check_list(pairs, 'sequence_bias', file)
  out = []
  for pair in pairs:
    if not (
      isinstance(pair, list)
      and len(pair) == 2
      and isinstance(pair[1], int | float)
    ):
      raise ConfigError(
        f'{file}: sequence_bias has {pair!r}; mmjax reads pairs of a list of '
        'ids and a number'
      )
    out.append((_ids(pair[0], 'sequence_bias', file), float(pair[1])))
  return out


def _check_list(value: Any, key: str, file: str) -> None:
  if not isinstance(value, list):
    raise ConfigError(f'{file}: {key} is {value!r}; mmjax reads only a list')


def _ids(value: Any, key: str, file: str) -> tuple[int, ...]:
  if not isinstance(value, list) or not all(type(v) is int for v in value):
    raise ConfigError(f'{file}: {key} has {value!r}; mmjax reads lists of ids')
  return tuple(value)


def _typed(given: Mapping[str, Any], key: str, file: str, kind: Any) -> Any:
  value = given[key]
  if not isinstance(value, kind) or isinstance(value, bool):
    name = 'a whole number' if kind is int else 'a number'
    raise ConfigError(f'{file}: {key} is {value!r}; mmjax reads only {name}')
  return value
