"""Special and added tokens of a folder without tokenizer.json.

tokenizer_config.json names them; folders older than its `added_tokens_decoder`
have special_tokens_map.json and added_tokens.json besides.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers
from tokenizers import processors

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, tokenizer_settings

SETTINGS = tokenizer_settings.FILE
ADDED = 'added_tokens.json'
MAP = 'special_tokens_map.json'
# Files that name special tokens.
FILES = (SETTINGS, ADDED, MAP)
ROLES = tokenizer_settings.ROLES

_DECODER = 'added_tokens_decoder'
# Keys with further special tokens, the newer one first.
_FURTHER = ('extra_special_tokens', 'additional_special_tokens')
_WHOLE = re.compile('[^\ud800-\udfff]+')
_FLAGS = ('lstrip', 'rstrip', 'single_word', 'normalized', 'special')


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """Tokens of a folder that the tokenizer never splits.

  Attributes:
    numbered: id -> token, for tokens whose ids the files give.
    named: key -> token; keys such as 'eos_token' or 'image_token'.
    further: special tokens without a key; None if no file lists any.
  """

  numbered: Mapping[int, tokenizers.AddedToken]
  named: Mapping[str, tokenizers.AddedToken]
  further: tuple[tokenizers.AddedToken, ...] | None

  def name(self, key: str) -> str | None:
    """Text of the token of a key; None if there is none."""
    return self.named[key].content if key in self.named else None

  def require(self, key: str) -> str:
    """Text of the token of a key that is required.

    Raises:
      ConfigError: if there is none.
    """
    if key not in self.named:
      raise ConfigError(
        f'{SETTINGS}: {key} is null, but this tokenizer needs it; take the '
        'published file'
      )
    return self.named[key].content


def read(
  files: Mapping[str, bytes], defaults: Mapping[str, str]
) -> SpecialTokens:
  """Reads the special and added tokens of a folder.

  Args:
    files: small files of the folder, by name.
    defaults: key -> default token of the tokenizer's class.

  Raises:
    ConfigError: if a file has a value that is not a token.
  """
  settings = _read_object(files, SETTINGS)
  further_by_file = [_read_further(settings, SETTINGS)]
  values: dict[str, Any] = {**defaults, **_tokens_by_key(settings)}
  sources = dict.fromkeys(values, SETTINGS)
  numbered = {}
  if _DECODER in settings:
    numbered = _read_decoder(settings[_DECODER])
  else:
    older = _read_object(files, MAP)
    further_by_file.append(_read_further(older, MAP))
    values |= _tokens_by_key(older)
    sources |= dict.fromkeys(_tokens_by_key(older), MAP)
  named = {
    key: _read_token(value, f'{sources[key]}: {key}')
    for key, value in sorted(values.items(), key=_rank)
    if value is not None
  }
  further = next((tokens for tokens in further_by_file if tokens), None)
  if _DECODER not in settings:
    known = {token.content for token in (*named.values(), *(further or ()))}
    numbered = _read_added(_read_object(files, ADDED), known)
  return SpecialTokens(numbered, named, further)


def add(
  tokenizer: tokenizers.Tokenizer,
  tokens: SpecialTokens,
  vocabulary: str,
  defaults: Iterable[tokenizers.AddedToken] = (),
) -> None:
  """Adds tokens to a tokenizer in place, in the order of transformers.

  Args:
    tokenizer: the tokenizer.
    tokens: the tokens; those in the vocabulary keep their ids.
    vocabulary: name of the file with the vocabulary, for errors.
    defaults: further special tokens if the files list none.

  Raises:
    ConfigError: if a token can't have the id that the files give it.
  """
  special = {token.content for token in tokens.named.values()}
  additions: dict[str, tokenizers.AddedToken] = {}
  for _, token in sorted(tokens.numbered.items()):
    additions[token.content] = (
      set_flags(token, special=True) if token.content in special else token
    )
  further = defaults if tokens.further is None else tokens.further
  for token in (*tokens.named.values(), *further):
    additions.setdefault(token.content, token)
  tokenizer.add_tokens(list(additions.values()))
  for number, token in tokens.numbered.items():
    actual = tokenizer.token_to_id(token.content)
    if actual != number:
      raise ConfigError(
        f'{token.content!r} should have the id {number} by {SETTINGS} or '
        f'{ADDED}, but it has {actual} by {vocabulary}; take all files of the '
        'tokenizer from one model'
      )


def add_named(tokenizer: tokenizers.Tokenizer, tokens: SpecialTokens) -> None:
  """Stops a tokenizer.json from splitting the tokens that other files name.

  Args:
    tokenizer: tokenizer of tokenizer.json; changed in place.
    tokens: the tokens that the other files name.

  Raises:
    ConfigError: if the vocabulary lacks one. transformers adds it, with an id
      for which the model has no vector.
  """
  added = {
    token.content for token in tokenizer.get_added_tokens_decoder().values()
  }
  by_key = [
    *tokens.named.items(),
    *((_FURTHER[1], token) for token in tokens.further or ()),
    *((_DECODER, token) for token in tokens.numbered.values()),
  ]
  for key, token in by_key:
    if token.content in added:
      continue
    if tokenizer.token_to_id(token.content) is None:
      raise ConfigError(
        f'{SETTINGS} or {MAP}: {key} names {token.content!r}, which '
        'tokenizer.json lacks, so that the model has no vector for it; take '
        'all files of the tokenizer from one model, or remove the name'
      )
    tokenizer.add_tokens([token])


def set_flags(
  token: tokenizers.AddedToken, **flags: bool
) -> tokenizers.AddedToken:
  """Copies a token with other flags, such as `special`."""
  values = {name: getattr(token, name) for name in _FLAGS}
  return tokenizers.AddedToken(token.content, **{**values, **flags})


def add_edge_tokens(
  tokenizer: tokenizers.Tokenizer,
  settings: Mapping[str, Any],
  tokens: SpecialTokens,
) -> None:
  """Adds first and last tokens, by `add_bos_token` and `add_eos_token`."""
  first = _edge_tokens(settings, tokens, 'bos')
  last = _edge_tokens(settings, tokens, 'eos')
  ends = dict.fromkeys([*first, *last])
  if ends:
    before, after = ([f'{token}:0' for token in part] for part in (first, last))
    second = [f'{token}:1' for token in first], [f'{token}:1' for token in last]
    single = [*before, '$A:0', *after]
    tokenizer.post_processor = processors.TemplateProcessing(
      single=single,
      pair=[*single, *second[0], '$B:1', *second[1]],
      special_tokens=[(token, tokenizer.token_to_id(token)) for token in ends],
    )


def _tokens_by_key(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Values of a file that are tokens, by key."""
  out = {
    key: value
    for key, value in settings.items()
    if key in ROLES
    or (key.endswith('_token') and isinstance(value, str | dict))
  }
  for key in (_FURTHER[0], 'model_specific_special_tokens'):
    further = settings.get(key)
    out |= further if isinstance(further, dict) else {}
  return out


def _rank(item: tuple[str, Any]) -> int:
  """Sort key: roles in their order, then other keys as in the file."""
  return ROLES.index(item[0]) if item[0] in ROLES else len(ROLES)


def _read_further(
  settings: Mapping[str, Any], file: str
) -> tuple[tokenizers.AddedToken, ...]:
  for key in _FURTHER:
    given = settings.get(key)
    if given and not isinstance(given, dict):
      if not isinstance(given, list):
        raise ConfigError(f'{file}: {key} is {given!r:.60}, not a list')
      return tuple(_read_token(token, f'{file}: {key}') for token in given)
  return ()


def _read_decoder(given: Any) -> dict[int, tokenizers.AddedToken]:
  where = f'{SETTINGS}: {_DECODER}'
  if not isinstance(given, dict):
    raise ConfigError(f'{where} is {given!r:.60}, not an object')
  out = {}
  for number, value in given.items():
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
      raise ConfigError(f'{where} has the key {number!r:.60}, not an id')
    if not isinstance(value, dict):
      raise ConfigError(f'{where}: {number} is {value!r:.60}, not an object')
    out[int(number)] = _read_token(value, f'{where}: {number}', special=False)
  return out


def _read_added(
  given: Mapping[str, Any], special: Iterable[str]
) -> dict[int, tokenizers.AddedToken]:
  out = {}
  for text, number in given.items():
    if type(number) is not int or not 0 <= number < 2**31 or not _is_text(text):
      raise ConfigError(
        f'{ADDED}: {text!r:.60} has the id {number!r:.60}, not a whole number '
        'from 0'
      )
    out[number] = tokenizers.AddedToken(
      text, normalized=text not in special, special=text in special
    )
  return out


def _read_token(
  given: Any, where: str, *, special: bool = True
) -> tokenizers.AddedToken:
  """Reads a token: a text, or an object with flags."""
  if _is_text(given):
    return tokenizers.AddedToken(given, special=True)
  content = given.get('content') if isinstance(given, dict) else None
  flags = {k: given[k] for k in _FLAGS if k in given} if content else {}
  if not (
    _is_text(content)
    and all(isinstance(value, bool) for value in flags.values())
  ):
    raise ConfigError(
      f'{where} is {given!r:.80}, not a token: a text, or an object with the '
      f'text as content and true or false as {", ".join(_FLAGS)}'
    )
  if special:
    flags['special'] = True
  return tokenizers.AddedToken(content, **flags)


def _is_text(value: Any) -> bool:
  """Whether a value is a text without lone surrogates, as UTF-8 needs."""
  return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def _read_object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
  return configs.parse(files[name], name) if name in files else {}


def _edge_tokens(
  settings: Mapping[str, Any], tokens: SpecialTokens, role: str
) -> list[str]:
  token = tokens.name(f'{role}_token')
  is_added = tokenizer_settings.read_switch(
    settings, f'add_{role}_token', False
  )
  return [token] if is_added and token is not None else []
