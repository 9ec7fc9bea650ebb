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
ROLES = tokenizer_settings.ROLES

_DECODER = 'added_tokens_decoder'
# Where the names of further special tokens stand, the newer key first.
_FURTHER = ('extra_special_tokens', 'additional_special_tokens')
_WHOLE = re.compile('[^\ud800-\udfff]+')
_FLAGS = ('lstrip', 'rstrip', 'single_word', 'normalized', 'special')


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """What a folder's files say of tokens that a text is never cut within.

  Attributes:
    numbered: by id, the tokens whose ids the files give.
    named: by key, such as 'eos_token' or 'image_token'.
    further: special tokens without a key; None if no file lists any.
  """

  numbered: Mapping[int, tokenizers.AddedToken]
  named: Mapping[str, tokenizers.AddedToken]
  further: tuple[tokenizers.AddedToken, ...] | None

  def name(self, key: str) -> str | None:
    """How the token of a key is written; None if there is none."""
    return self.named[key].content if key in self.named else None

  def needed(self, key: str) -> str:
    """How the token of a key is written, where there has to be one.

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
  """The tokens that a folder's files name.

  Args:
    files: by name.
    defaults: by key, the tokens that the tokenizer's class names itself.

  Raises:
    ConfigError: if a file has something else where a token belongs.
  """
  settings = _object(files, SETTINGS)
  listed = [_listed(settings, SETTINGS)]
  values: dict[str, Any] = {**defaults, **_keyed(settings)}
  named_in = dict.fromkeys(values, SETTINGS)
  numbered = {}
  if _DECODER in settings:
    numbered = _decoder(settings[_DECODER])
  else:
    older = _object(files, MAP)
    listed.append(_listed(older, MAP))
    values |= _keyed(older)
    named_in |= dict.fromkeys(_keyed(older), MAP)
  named = {
    key: _token(value, f'{named_in[key]}: {key}')
    for key, value in sorted(values.items(), key=_rank)
    if value is not None
  }
  further = next((one for one in listed if one), None)
  if _DECODER not in settings:
    known = {one.content for one in (*named.values(), *(further or ()))}
    numbered = _added(_object(files, ADDED), known)
  return SpecialTokens(numbered, named, further)


def add(
  tokenizer: tokenizers.Tokenizer,
  tokens: SpecialTokens,
  vocabulary: str,
  otherwise: Iterable[tokenizers.AddedToken] = (),
) -> None:
  """Adds the tokens to a tokenizer, in the order of transformers.

  Args:
    tokenizer: changed in place.
    tokens: the ones to add; those that the vocabulary has keep its ids.
    vocabulary: name of the file that the vocabulary is from, for errors.
    otherwise: further special tokens where the files list none.

  Raises:
    ConfigError: if a token can't have the id that the files give it.
  """
  special = {one.content for one in tokens.named.values()}
  adding: dict[str, tokenizers.AddedToken] = {}
  for _, one in sorted(tokens.numbered.items()):
    adding[one.content] = (
      changed(one, special=True) if one.content in special else one
    )
  further = otherwise if tokens.further is None else tokens.further
  for one in (*tokens.named.values(), *further):
    adding.setdefault(one.content, one)
  tokenizer.add_tokens(list(adding.values()))
  for number, one in tokens.numbered.items():
    got = tokenizer.token_to_id(one.content)
    if got != number:
      raise ConfigError(
        f'{one.content!r} should have the id {number} by {SETTINGS} or '
        f'{ADDED}, but it has {got} by {vocabulary}; take all files of the '
        'tokenizer from one model'
      )


def changed(one: tokenizers.AddedToken, **flags: bool) -> tokenizers.AddedToken:
  """A copy of a token with other flags, such as `special`."""
  own = {name: getattr(one, name) for name in _FLAGS}
  return tokenizers.AddedToken(one.content, **{**own, **flags})


def surround(
  tokenizer: tokenizers.Tokenizer,
  settings: Mapping[str, Any],
  tokens: SpecialTokens,
) -> None:
  """Puts around texts what `add_bos_token` and `add_eos_token` say."""
  first = _asked(settings, tokens, 'bos')
  last = _asked(settings, tokens, 'eos')
  ends = dict.fromkeys([*first, *last])
  if ends:
    before, after = ([f'{one}:0' for one in part] for part in (first, last))
    again = [f'{one}:1' for one in first], [f'{one}:1' for one in last]
    single = [*before, '$A:0', *after]
    tokenizer.post_processor = processors.TemplateProcessing(
      single=single,
      pair=[*single, *again[0], '$B:1', *again[1]],
      special_tokens=[(one, tokenizer.token_to_id(one)) for one in ends],
    )


def _keyed(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The values of a file that are tokens with a key of their own."""
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
  """Roles first, in their order; the rest as the file has them."""
  return ROLES.index(item[0]) if item[0] in ROLES else len(ROLES)


def _listed(
  settings: Mapping[str, Any], file: str
) -> tuple[tokenizers.AddedToken, ...]:
  for key in _FURTHER:
    given = settings.get(key)
    if given and not isinstance(given, dict):
      if not isinstance(given, list):
        raise ConfigError(f'{file}: {key} is {given!r:.60}, not a list')
      return tuple(_token(one, f'{file}: {key}') for one in given)
  return ()


def _decoder(given: Any) -> dict[int, tokenizers.AddedToken]:
  where = f'{SETTINGS}: {_DECODER}'
  if not isinstance(given, dict):
    raise ConfigError(f'{where} is {given!r:.60}, not an object')
  out = {}
  for number, value in given.items():
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
      raise ConfigError(f'{where} has the key {number!r:.60}, not an id')
    if not isinstance(value, dict):
      raise ConfigError(f'{where}: {number} is {value!r:.60}, not an object')
    out[int(number)] = _token(value, f'{where}: {number}', special=False)
  return out


def _added(
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


def _token(
  given: Any, where: str, *, special: bool = True
) -> tokenizers.AddedToken:
  """A token as files write it: its text, or an object with flags."""
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
  """Whether a value is a text that UTF-8 has: no half of a surrogate pair."""
  return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
  return configs.parsed(files[name], name) if name in files else {}


def _asked(
  settings: Mapping[str, Any], tokens: SpecialTokens, role: str
) -> list[str]:
  token = tokens.name(f'{role}_token')
  wanted = tokenizer_settings.switch(settings, f'add_{role}_token', False)
  return [token] if wanted and token is not None else []
