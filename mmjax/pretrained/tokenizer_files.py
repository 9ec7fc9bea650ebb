"""Tokenizers from the files of a model's folder.

Newer folders have the whole tokenizer in tokenizer.json. Older ones have a
vocabulary in other files, from which a class of transformers builds the
tokenizer, see `tokenizer_classes`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tokenizers as tokenizers_lib

from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  special_tokens,
  tokenizer_classes,
  tokenizer_pieces,
  tokenizer_settings,
)

FILE = 'tokenizer.json'
# Binary files of tokenizers.
PIECES = (tokenizer_pieces.UNIGRAM, tokenizer_pieces.PAIRS)

# All files that a vocabulary may be read from, besides tokenizer.json.
VOCABULARIES = tuple(
  dict.fromkeys(
    file for kind in tokenizer_classes.CLASSES.values() for file in kind.files
  )
)

# A text to encode once, so that a broken tokenizer is refused early.
_PROBE = 'a É1.'


def parse(content: bytes, name: str) -> tokenizers_lib.Tokenizer:
  """Parses a tokenizer.json; the result has no padding or truncation.

  Args:
    content: the bytes of the file.
    name: name of the file, for errors.

  Raises:
    ConfigError: if it is broken.
  """

  def read() -> tokenizers_lib.Tokenizer:
    tokenizer = tokenizers_lib.Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer

  return _build_checked(read, name)


def build(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> tokenizers_lib.Tokenizer:
  """Builds the tokenizer of a folder without tokenizer.json, as transformers.

  Args:
    files: the folder's small files by name.
    config: all of config.json.

  Raises:
    ConfigError: if a file is missing or broken, or the class of the tokenizer
      is one that mmjax can't build.
  """
  settings = configs.parse(
    files.get(tokenizer_settings.FILE, b'{}'), tokenizer_settings.FILE
  )
  tokenizer_settings.check(settings)
  name = tokenizer_classes.find_name(config, settings)
  kind = tokenizer_classes.CLASSES.get(name)
  if kind is None:
    raise ConfigError(
      f"the model's folder had no {FILE}, which mmjax needs of a {name} "
      f'({tokenizer_settings.FILE}: tokenizer_class); {_WRITTEN}'
    )
  missing = [file for file in kind.files if file not in files]
  if missing:
    raise ConfigError(
      f"the model's folder had no {FILE}, which this needs, and no "
      f'{" and no ".join(missing)}, which a {name} can be made of; put the '
      'published files there and load again'
    )
  tokens = special_tokens.read(files, kind.tokens)
  return _build_checked(
    lambda: kind.build(files, settings, tokens), ' or '.join(kind.files)
  )


def _build_checked(
  make: Callable[[], tokenizers_lib.Tokenizer], name: str
) -> tokenizers_lib.Tokenizer:
  """Calls `make` and tries the tokenizer; errors name the file."""
  try:
    tokenizer = make()
    tokenizers.separate_words(tokenizer)
    tokenizer.encode(_PROBE)
  except (KeyboardInterrupt, SystemExit, GeneratorExit, ConfigError):
    raise
  except BaseException as error:  # The library raises Exception, and panics.
    raise ConfigError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error
  return tokenizer


_WRITTEN = (
  f'put the published {FILE} there, or let transformers write one: '
  'AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)'
)
