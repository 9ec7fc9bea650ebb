"""Settings of generation, from generation_config.json.

Every key is honoured, refused unless its value changes nothing, or irrelevant.
A model without the file may have the same keys in its config.json. Keys are
refused when text is generated, so that a model can always be loaded, to encode
or to score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, generation_keys

FILE = 'generation_config.json'
# Number of new tokens if neither the caller nor a file gives one.
DEFAULT_LENGTH = 64


def read(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
  """Reads a model's generation settings, and the name of their file.

  Args:
    files: the small files of the model's folder, by name.
    config: the model's config.json, which is read if there is no
      generation_config.json: its top level, then its `text_config`.
  """
  if FILE in files:
    return configs.parse(files[FILE], FILE), FILE
  text = {
    key: value
    for key, value in (config.get('text_config') or {}).items()
    if generation_keys.OLD_DEFAULTS.get(key) != value
  }
  file_settings = {
    key: part[key]
    for part in (text, config)
    for key in generation_keys.KEYS
    if part.get(key) is not None
  }
  return file_settings, 'config.json'


def arguments(
  file_settings: Mapping[str, Any],
  file: str,
  overrides: Mapping[str, Any],
  *,
  eos_ids: Sequence[int],
  speech: bool = False,
) -> dict[str, Any]:
  """Makes the arguments of the module's `generate`.

  Args:
    file_settings: the file's settings.
    file: its name, for errors.
    overrides: the caller's arguments, which take precedence over the file's.
    eos_ids: ids that end a text.
    speech: whether the model transcribes speech.

  Raises:
    ConfigError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  check(file_settings, file, overrides, speech=speech)
  out: dict[str, Any] = {}
  for key, (name, kind) in generation_keys.DIRECT.items():
    if file_settings.get(key) is not None:
      out[name] = _read_number(file_settings, key, file, kind)
  for key, name in generation_keys.LISTS.items():
    if file_settings.get(key) is not None:
      out[name] = _read_ids(file_settings[key], key, file)
  if file_settings.get('forced_eos_token_id') is not None:
    forced = file_settings['forced_eos_token_id']
    if isinstance(forced, list) and len(forced) == 1:
      forced = forced[0]
    named = {'forced_eos_token_id': forced}
    out['forced_last'] = _read_number(named, 'forced_eos_token_id', file, int)
  biases = (
    *_sequence_bias(file_settings, file),
    *_bad_words(file_settings, file, eos_ids),
  )
  if biases:
    out['biases'] = biases
  beams = {} if speech else _beam_arguments(file_settings, file, overrides)
  out |= beams or _sampling_arguments(file_settings, file, overrides)
  return {**out, **overrides}


def find_max_new_tokens(
  file_settings: Mapping[str, Any],
  file: str,
  max_new_tokens: int | None,
  prompt_length: int,
) -> int:
  """Largest number of new tokens.

  Args:
    file_settings: the file's settings.
    file: its name, for errors.
    max_new_tokens: the number that the caller asked for; None for the file's,
      or `DEFAULT_LENGTH`.
    prompt_length: number of tokens of the longest prompt, which `max_length`
      includes.

  Raises:
    ConfigError: if the prompt is as long as `max_length` or longer, or a
      number is below 1.
  """
  where = '' if max_new_tokens is not None else f'{file}: '
  if max_new_tokens is None and file_settings.get('max_new_tokens') is not None:
    max_new_tokens = _read_number(file_settings, 'max_new_tokens', file, int)
  if max_new_tokens is not None:
    if max_new_tokens < 1:
      raise ConfigError(
        f'{where}max_new_tokens is {max_new_tokens}; give at least 1'
      )
    return max_new_tokens
  if file_settings.get('max_length') is None:
    return DEFAULT_LENGTH
  room = _read_number(file_settings, 'max_length', file, int) - prompt_length
  if room < 1:
    raise ConfigError(
      f'{file}: max_length is {file_settings["max_length"]}, but the prompt '
      f'has {prompt_length} tokens; pass max_new_tokens'
    )
  return room


def refuse_unread(file_settings: Mapping[str, Any], file: str) -> None:
  """Refuses settings of a family for which transformers ignores them.

  Ids and settings that change nothing are allowed.

  Raises:
    ConfigError: for any other setting.
  """
  check(file_settings, file)
  unread = (
    set() if file_settings.get('do_sample') else {*generation_keys.SAMPLING}
  )
  if file_settings.get('num_beams') in (None, 1):
    unread |= {*generation_keys.BEAMS}
  changing = {*generation_keys.HONOURED} - {*generation_keys.IDS} - unread
  for key in sorted(set(file_settings) & changing):
    neutral = (None, *generation_keys.NEUTRAL.get(key, ()))
    if file_settings[key] not in neutral:
      raise ConfigError(
        f'{file}: {key} is {file_settings[key]!r}, which transformers does not '
        'read for this family; pass it where the text is written, and remove '
        'it from the file'
      )


def check(
  file_settings: Mapping[str, Any],
  file: str,
  overrides: Mapping[str, Any] | None = None,
  *,
  speech: bool = False,
) -> None:
  """Refuses settings that mmjax does not honour.

  Args:
    file_settings: the file's settings.
    file: its name, for errors.
    overrides: the caller's arguments; a key that one of them replaces is not
      checked.
    speech: whether the model transcribes speech.

  Raises:
    ConfigError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  overrides = overrides or {}
  only = dict(generation_keys.ONLY)
  known = {*generation_keys.KEYS, *generation_keys.IRRELEVANT}
  if speech:
    speech_keys = generation_keys.SPEECH
    known |= {*speech_keys, *generation_keys.ONLY_SPEECH}
    only = {k: v for k, v in only.items() if k not in speech_keys}
    only |= generation_keys.ONLY_SPEECH
  if _is_sampling(file_settings, overrides) and not speech:
    only |= generation_keys.ONLY_SAMPLING
  if 'beam_size' in overrides:
    only.pop('num_beams', None)
  if not speech and _beam_size(file_settings, file, overrides) > 1:
    only |= generation_keys.ONLY_BEAMS
  unknown = sorted(set(file_settings) - known)
  if unknown:
    raise ConfigError(
      f'{file}: mmjax does not know {", ".join(unknown)}; remove them from the '
      'file if they change nothing, or write with transformers'
    )
  for key, values in only.items():
    value = file_settings.get(key)
    if value is not None and value not in values:
      raise ConfigError(
        f'{file}: {key} is {value!r}; mmjax writes only with '
        f'{" or ".join(map(repr, values or (None,)))} here; remove it from the '
        'file if you do not need it, or write with transformers'
      )


def _beam_size(
  file_settings: Mapping[str, Any], file: str, overrides: Mapping[str, Any]
) -> int:
  if 'beam_size' in overrides:
    return overrides['beam_size']
  if file_settings.get('num_beams') is None:
    return 1
  size = _read_number(file_settings, 'num_beams', file, int)
  if size < 1:
    raise ConfigError(f'{file}: num_beams is {size}; give at least 1')
  return size


def _beam_arguments(
  file_settings: Mapping[str, Any], file: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Arguments of beam search, as in transformers; {} for one beam."""
  size = _beam_size(file_settings, file, overrides)
  if size == 1:
    return {}
  if _is_sampling(file_settings, overrides):
    where = (
      'temperature' if 'temperature' in overrides else f'{file}: do_sample'
    )
    raise ConfigError(
      f'{where} asks for sampling, which excludes {size} beams; pass '
      'temperature=0 for these, or beam_size=1 to sample'
    )
  penalty = 1.0
  if file_settings.get('length_penalty') is not None:
    penalty = _read_number(file_settings, 'length_penalty', file, (int, float))
  return {
    'beam_size': size,
    'length_penalty': penalty,
    'scoring': 'transformers',
    'early_stopping': _early_stopping(file_settings, file),
  }


def _early_stopping(file_settings: Mapping[str, Any], file: str) -> bool | str:
  value = file_settings.get('early_stopping')
  if value is None:
    return False
  if value == 'never' or isinstance(value, bool):
    return value
  raise ConfigError(
    f'{file}: early_stopping is {value!r}; mmjax reads only true, false and '
    "'never'"
  )


def _is_sampling(
  file_settings: Mapping[str, Any], overrides: Mapping[str, Any]
) -> bool:
  if 'temperature' in overrides:
    return overrides['temperature'] != 0
  return bool(file_settings.get('do_sample'))


def _sampling_arguments(
  file_settings: Mapping[str, Any], file: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
  """Temperature and filters of sampling; {} for greedy decoding."""
  if not _is_sampling(file_settings, overrides):
    return {}
  # The defaults of transformers where `do_sample` is true.
  defaults = {'temperature': 1.0, 'top_p': 1.0, 'top_k': 0}
  if file_settings.get('do_sample'):
    defaults['top_k'] = 50
  return {
    key: default
    if file_settings.get(key) is None
    else _read_number(
      file_settings, key, file, int if key == 'top_k' else (int, float)
    )
    for key, default in defaults.items()
  }


def _bad_words(
  file_settings: Mapping[str, Any], file: str, eos_ids: Sequence[int]
) -> list[tuple[tuple[int, ...], float]]:
  """Sequences that are never generated; those that end a text are allowed."""
  words = file_settings.get('bad_words_ids') or []
  _check_list(words, 'bad_words_ids', file)
  sequences = [_read_ids(word, 'bad_words_ids', file) for word in words]
  ends = [(eos_id,) for eos_id in eos_ids]
  return [(word, float('-inf')) for word in sequences if word not in ends]


def _sequence_bias(
  file_settings: Mapping[str, Any], file: str
) -> list[tuple[tuple[int, ...], float]]:
  pairs = file_settings.get('sequence_bias') or []
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
    out.append((_read_ids(pair[0], 'sequence_bias', file), float(pair[1])))
  return out


def _check_list(value: Any, key: str, file: str) -> None:
  if not isinstance(value, list):
    raise ConfigError(f'{file}: {key} is {value!r}; mmjax reads only a list')


def _read_ids(value: Any, key: str, file: str) -> tuple[int, ...]:
  if not isinstance(value, list) or not all(type(v) is int for v in value):
    raise ConfigError(f'{file}: {key} has {value!r}; mmjax reads lists of ids')
  return tuple(value)


def _read_number(
  file_settings: Mapping[str, Any], key: str, file: str, kind: Any
) -> Any:
  value = file_settings[key]
  if not isinstance(value, kind) or isinstance(value, bool):
    name = 'a whole number' if kind is int else 'a number'
    raise ConfigError(f'{file}: {key} is {value!r}; mmjax reads only {name}')
  return value
