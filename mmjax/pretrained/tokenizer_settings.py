"""Settings of tokenizer_config.json: read, refused or irrelevant.

transformers applies the settings to the tokenizer of tokenizer.json, or builds
a tokenizer from them and older files, see `tokenizer_files`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import decoders

from mmjax.errors import ConfigError
from mmjax.pretrained import sections

FILE = 'tokenizer_config.json'
# Keys of special tokens that any model may have.
ROLES = tuple(
  f'{role}_token' for role in ('bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask')
)
# Besides, any key that ends in `_token` names a special token.
SECTION = sections.Section(
  read=(
    'add_bos_token',
    'add_eos_token',
    'add_prefix_space',
    'added_tokens_decoder',
    'additional_special_tokens',
    'clean_up_tokenization_spaces',
    'do_lower_case',
    'extra_ids',
    'extra_special_tokens',
    'language',
    'legacy',
    'model_max_length',
    'model_specific_special_tokens',
    'padding_side',
    'predict_timestamps',
    'split_special_tokens',
    'strip_accents',
    'task',
    'tokenize_chinese_chars',
    'tokenizer_class',
    'truncation_side',
  ),
  # Keys that would replace a part of the tokenizer, or its file.
  only={
    'clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output': (
      False
    ),
    'fast_tokenizer_files': None,
    'fix_mistral_regex': False,
    'gguf_file': None,
    'init_inputs': [],
    'merges': None,
    'post_processor': None,
    'sp_model_kwargs': {},
    'tokenizer_object': None,
    'tokenizer_padding': None,
    'tokenizer_truncation': None,
    'vocab': None,
  },
  # Keys about chats, errors in bytes, names of files and classes, and arguments
  # of callers of transformers.
  irrelevant=(
    '_commit_hash',
    'auto_map',
    'backend',
    'bos_token_id',
    'chat_control_tokens',
    'chat_template',
    'clean_text',
    'default_chat_template',
    'device_map',
    'do_basic_tokenize',
    'eos_token_id',
    'errors',
    'files_loaded',
    'from_slow',
    'is_local',
    'keep_accents',
    'local_files_only',
    'max_len',
    'max_length',
    'merges_file',
    'model_input_names',
    'model_type',
    'name_or_path',
    'never_split',
    'normalizer_file',
    'pad_to_multiple_of',
    'pad_token_id',
    'pad_token_type_id',
    'padding',
    'processor_class',
    'response_schema',
    'response_template',
    'return_attention_mask',
    'return_token_type_ids',
    'spaces_between_special_tokens',
    'special_tokens_map_file',
    'stride',
    'subfolder',
    'tokenizer_file',
    'tokenizer_type',
    'transformers_version',
    'trim_offsets',
    'truncation',
    'truncation_strategy',
    'trust_remote_code',
    'unk_id',
    'unk_token_id',
    'use_default_system_prompt',
    'use_fast',
    'verbose',
    'vocab_file',
    'vocab_size',
    'wordpieces_prefix',
  ),
)

# Replacements of `clean_up_tokenization_spaces` in decoded texts.
_CLEANED = (
  (' .', '.'),
  (' ?', '?'),
  (' !', '!'),
  (' ,', ','),
  (" ' ", "'"),
  (" n't", "n't"),
  (" 'm", "'m"),
  (" 's", "'s"),
  (" 've", "'ve"),
  (" 're", "'re"),
)
_SIDES = ('left', 'right')
# Setting -> the field of a `BertNormalizer` that it replaces.
_NORMALIZER = {
  'do_lower_case': 'lowercase',
  'strip_accents': 'strip_accents',
  'tokenize_chinese_chars': 'handle_chinese_chars',
}


def check(settings: Mapping[str, Any]) -> None:
  """Refuses keys that are unknown, and values that are not read.

  Args:
    settings: contents of tokenizer_config.json.

  Raises:
    ConfigError: for an unknown key, naming all of them, or a refused value.
  """
  tokens = sorted(
    key
    for key in settings
    if key in ROLES or (key.endswith('_token') and not key.startswith('add_'))
  )
  named = settings.get('model_specific_special_tokens') or {}
  if not isinstance(named, dict):
    raise ConfigError(
      f'{FILE}: model_specific_special_tokens is {named!r:.60}, not an object'
    )
  for key, value in (*((key, settings[key]) for key in tokens), *named.items()):
    text = value.get('content') if isinstance(value, dict) else value
    if not isinstance(text, str) and value is not None:
      raise ConfigError(
        f'{FILE}: {key} is {value!r:.60}, not a token: a text, or an object '
        'with the text as content'
      )
  section = sections.Section(
    {*SECTION.read, *tokens}, SECTION.only, SECTION.irrelevant
  )
  try:
    sections.check_file(settings, section, FILE)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  for key in ('padding_side', 'truncation_side'):
    read_side(settings, key)


def apply(tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]) -> None:
  """Changes a tokenizer as its settings say.

  With `split_special_tokens`, special tokens in a text are split like other
  text. `clean_up_tokenization_spaces` changes decoded texts, except with BPE.
  First and last tokens are those of tokenizer.json: beside it, transformers
  does not read `add_bos_token` and `add_eos_token`.

  Args:
    tokenizer: tokenizer of tokenizer.json.
    settings: contents of tokenizer_config.json.

  Raises:
    ConfigError: if a key or value is not known, or the two files contradict
      each other.
  """
  check(settings)
  _check_agreement(tokenizer, settings)
  if read_switch(settings, 'split_special_tokens', False):
    tokenizer.encode_special_tokens = True
  pairs = isinstance(tokenizer.model, tokenizers.models.BPE)
  if read_switch(settings, 'clean_up_tokenization_spaces', False) and not pairs:
    tokenizer.decoder = decoders.Sequence(
      [
        tokenizer.decoder or decoders.WordPiece(prefix='\0', cleanup=False),
        decoders.Fuse(),
        *(decoders.Replace(*pair) for pair in _CLEANED),
      ]
    )


def read_side(settings: Mapping[str, Any], key: str) -> str:
  """Reads the side of padding or truncation; right by default.

  Args:
    settings: contents of tokenizer_config.json.
    key: `padding_side` or `truncation_side`.

  Raises:
    ConfigError: if it is neither left nor right.
  """
  value = settings.get(key)
  if value is not None and value not in _SIDES:
    raise ConfigError(
      f'{FILE}: {key} is {value!r:.60}, not one of {", ".join(_SIDES)}'
    )
  return value or 'right'


def read_switch(
  settings: Mapping[str, Any], key: str, default: bool | None
) -> bool | None:
  """Reads a setting: true or false, or null unless the default is true.

  Args:
    settings: contents of tokenizer_config.json.
    key: name of the setting.
    default: value of a missing setting; if it is true, null is refused.

  Raises:
    ConfigError: if the value is none of these.
  """
  value = settings.get(key, default)
  if not isinstance(value, bool) and (value is not None or default):
    raise ConfigError(f'{FILE}: {key} is {value!r:.60}, not true or false')
  return value


def _check_agreement(
  tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]
) -> None:
  steps = json.loads(tokenizer.to_str())
  pairs = [
    ('BertNormalizer', setting, field) for setting, field in _NORMALIZER.items()
  ]
  pairs.append(('ByteLevel', 'add_prefix_space', 'add_prefix_space'))
  for kind, setting, field in pairs:
    part = steps['pre_tokenizer' if kind == 'ByteLevel' else 'normalizer']
    for step in _iterate_steps(part):
      is_same = settings.get(setting) in (None, step.get(field))
      if step.get('type') == kind and not is_same:
        raise ConfigError(
          f'{FILE}: {setting} is {settings[setting]!r}, but {field} in '
          f'tokenizer.json is {step.get(field)!r}; take both files from one '
          'model, or write one value in both'
        )
  added = settings.get('added_tokens_decoder') or {}
  for number, token in added.items() if isinstance(added, dict) else ():
    text = token.get('content') if isinstance(token, dict) else None
    known = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if str(known) != number:
      raise ConfigError(
        f'{FILE}: added_tokens_decoder gives {text!r:.60} the id {number:.20}, '
        f'but the tokenizer gives it {known}; take all of its files from one '
        'model'
      )


def _iterate_steps(
  part: Mapping[str, Any] | None,
) -> Iterator[Mapping[str, Any]]:
  """Yields a step of a tokenizer, and the steps in it."""
  if part is None:
    return
  yield part
  for name in ('normalizers', 'pretokenizers'):
    for step in part.get(name) or ():
      yield from _iterate_steps(step)
