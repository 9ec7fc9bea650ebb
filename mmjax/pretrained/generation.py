"""How a published model writes, by its generation_config.json.

Every key is honoured, refused unless its value changes nothing, or irrelevant.
A model without the file may have the same keys in its config.json. What is
refused is refused where text is written, so that a model can always be loaded,
to encode or to score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.pretrained import configs

FILE = 'generation_config.json'
# New tokens where neither the caller nor a file says how many.
DEFAULT_LENGTH = 64

# Keys that are honoured, and what they are here: arguments of
# `mmjax.models.writing.Writer.generate`.
_DIRECT = {
  'repetition_penalty': ('repetition_penalty', (int, float)),
  'no_repeat_ngram_size': ('no_repeat_ngram', int),
  'min_length': ('min_length', int),
  'min_new_tokens': ('min_new_tokens', int),
  'forced_bos_token_id': ('forced_first', int),
}
_LISTS = {
  'suppress_tokens': 'suppress',
  'begin_suppress_tokens': 'suppress_first',
}
_SAMPLING = ('temperature', 'top_k', 'top_p')
IDS = (
  'bos_token_id',
  'decoder_start_token_id',
  'eos_token_id',
  'pad_token_id',
)
LENGTHS = ('max_length', 'max_new_tokens')
HONOURED = (
  *_DIRECT,
  *_LISTS,
  *_SAMPLING,
  *IDS,
  *LENGTHS,
  'bad_words_ids',
  'do_sample',
  'forced_eos_token_id',
  'sequence_bias',
)

# Keys that are refused, and the values that change nothing, besides null.
ONLY: dict[str, tuple[Any, ...]] = {
  'assistant_early_exit': (),
  'assistant_ensemble_weight': (),
  'constraints': (),
  'dola_layers': (),
  'encoder_no_repeat_ngram_size': (0,),
  'encoder_repetition_penalty': (1.0,),
  'exponential_decay_length_penalty': (),
  'force_bos_token_to_be_generated': (False,),
  'force_words_ids': (),
  'forced_decoder_ids': (),
  'guidance_scale': (1.0,),
  'max_time': (),
  'num_beams': (1,),
  'num_return_sequences': (1,),
  'penalty_alpha': (0.0,),
  'prompt_lookup_num_tokens': (),
  'speculation_type': (),
  'stop_strings': (),
  'token_healing': (False,),
  'use_mtp': (False,),
  'watermarking_config': (),
}
# The same of keys that only sampling reads, and of those of beam search alone.
ONLY_SAMPLING: dict[str, tuple[Any, ...]] = {
  'epsilon_cutoff': (0.0,),
  'eta_cutoff': (0.0,),
  'min_p': (0.0,),
  'top_h': (),
  'typical_p': (1.0,),
}
ONLY_BEAMS: dict[str, tuple[Any, ...]] = {
  'diversity_penalty': (0.0,),
  'early_stopping': (False,),
  'length_penalty': (1.0,),
  'num_beam_groups': (1,),
  'renormalize_logits': (False,),
}

# Values of honoured keys that change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  'do_sample': (False,),
  'max_length': (20,),
  'min_length': (0,),
  'min_new_tokens': (0,),
  'no_repeat_ngram_size': (0,),
  'repetition_penalty': (1.0,),
}

# What concerns speed, memory, further outputs or the file itself.
IRRELEVANT = (
  '_commit_hash',
  '_from_model_config',
  '_original_object_hash',
  'assistant_confidence_threshold',
  'assistant_lookbehind',
  'cache_config',
  'cache_implementation',
  'compile_config',
  'continuous_batching_config',
  'disable_compile',
  'is_assistant',
  'low_memory',
  'max_cache_len',
  'max_matching_ngram_size',
  'num_assistant_tokens',
  'num_assistant_tokens_schedule',
  'output_attentions',
  'output_hidden_states',
  'output_logits',
  'output_scores',
  'prefill_chunk_size',
  'remove_invalid_values',
  'return_dict_in_generate',
  'target_lookbehind',
  'transformers_version',
  'use_cache',
)
# Those that Whisper has besides, see `speech_recognizers`.
SPEECH = (
  'alignment_heads',
  'forced_decoder_ids',
  'is_multilingual',
  'lang_to_id',
  'language',
  'max_initial_timestamp_index',
  'median_filter_width',
  'no_timestamps_token_id',
  'prev_sot_token_id',
  'task',
  'task_to_id',
)
ONLY_SPEECH: dict[str, tuple[Any, ...]] = {
  'do_sample': (False,),
  'prompt_ids': (),
  'return_timestamps': (False,),
}

# All keys that a config.json without a file beside it may have of these, with
# what transformers 4 wrote into every part of a config.
KEYS = (*HONOURED, *ONLY, *ONLY_SAMPLING, *ONLY_BEAMS)
_OLD_DEFAULTS = {
  'max_length': 20,
  'temperature': 1.0,
  'top_k': 50,
  'top_p': 1.0,
}


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
    if _OLD_DEFAULTS.get(key) != value
  }
  given = {
    key: part[key]
    for part in (text, config)
    for key in KEYS
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
    ValueError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  check(given, file, asked, speech=speech)
  out: dict[str, Any] = {}
  for key, (name, kind) in _DIRECT.items():
    if given.get(key) is not None:
      out[name] = _typed(given, key, file, kind)
  for key, name in _LISTS.items():
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
  out |= _sampling(given, file, asked)
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
    ValueError: if the prompt leaves no room.
  """
  if asked is not None:
    return asked
  if given.get('max_new_tokens') is not None:
    return _typed(given, 'max_new_tokens', file, int)
  if given.get('max_length') is None:
    return DEFAULT_LENGTH
  room = _typed(given, 'max_length', file, int) - prompt
  if room < 1:
    raise ValueError(
      f'{file}: max_length is {given["max_length"]}, but the prompt has '
      f'{prompt} tokens; pass max_new_tokens'
    )
  return room


def refuse_unread(given: Mapping[str, Any], file: str) -> None:
  """Refuses settings of a family whose writing transformers gives none.

  Ids and what changes nothing stay.

  Raises:
    ValueError: for any other setting.
  """
  check(given, file)
  samples = () if given.get('do_sample') else _SAMPLING
  for key in sorted(set(given) & set(HONOURED) - {*IDS, *samples}):
    if given[key] is not None and given[key] not in _NEUTRAL.get(key, ()):
      raise ValueError(
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
    ValueError: for a key that mmjax doesn't know, or a value that it refuses.
  """
  asked = asked or {}
  only = dict(ONLY)
  known = {*HONOURED, *ONLY, *ONLY_SAMPLING, *ONLY_BEAMS, *IRRELEVANT}
  if speech:
    known |= {*SPEECH, *ONLY_SPEECH}
    only = {k: v for k, v in only.items() if k not in SPEECH} | ONLY_SPEECH
  if _samples(given, asked) and not speech:
    only |= ONLY_SAMPLING
  if 'beam_size' in asked:
    del only['num_beams']
    if asked['beam_size'] > 1:
      only |= ONLY_BEAMS
  if 'length_penalty' in asked:
    only.pop('length_penalty', None)
  unknown = sorted(set(given) - known)
  if unknown:
    raise ValueError(
      f'{file}: mmjax does not know {", ".join(unknown)}; remove them from the '
      'file if they change nothing, or write with transformers'
    )
  for key, values in only.items():
    value = given.get(key)
    if value is not None and value not in values:
      raise ValueError(
        f'{file}: {key} is {value!r}; mmjax writes only with '
        f'{" or ".join(map(repr, values or (None,)))} here; remove it from the '
        'file if you do not need it, or write with transformers' + _hint(key)
      )


def _hint(key: str) -> str:
  if key in ('num_beams', *ONLY_BEAMS):
    return (
      ', whose beam search scores by another rule; beam_size=1 writes '
      "greedily, and a larger one with length_penalty is mmjax's own"
    )
  return ''


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
  if asked.get('beam_size', 1) > 1 and 'temperature' not in asked:
    raise ValueError(
      f'{file}: do_sample is True, which excludes beam_size '
      f'{asked["beam_size"]}; pass temperature=0 too'
    )
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
      raise ValueError(
        f'{file}: sequence_bias has {pair!r}; mmjax reads pairs of a list of '
        'ids and a number'
      )
    out.append((_ids(pair[0], 'sequence_bias', file), float(pair[1])))
  return out


def _check_list(value: Any, key: str, file: str) -> None:
  if not isinstance(value, list):
    raise ValueError(f'{file}: {key} is {value!r}; mmjax reads only a list')


def _ids(value: Any, key: str, file: str) -> tuple[int, ...]:
  if not isinstance(value, list) or not all(type(v) is int for v in value):
    raise ValueError(f'{file}: {key} has {value!r}; mmjax reads lists of ids')
  return tuple(value)


def _typed(given: Mapping[str, Any], key: str, file: str, kind: Any) -> Any:
  value = given[key]
  if not isinstance(value, kind) or isinstance(value, bool):
    name = 'a whole number' if kind is int else 'a number'
    raise ValueError(f'{file}: {key} is {value!r}; mmjax reads only {name}')
  return value
