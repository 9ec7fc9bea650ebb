"""Tokenizers from the files that a model's folder has of them."""

import tokenizers

# What is encoded once, so that a tokenizer that can't do so is refused early.
_PROBE = 'a É1.'


def parsed(content: bytes, name: str) -> tokenizers.Tokenizer:
  """The tokenizer that a tokenizer.json holds, without padding or truncation.

  Args:
    content: of the file.
    name: of the file, for errors.

  Raises:
    ValueError: if it is broken.
  """
  try:
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode(_PROBE)
  except (KeyboardInterrupt, SystemExit, GeneratorExit):
    raise
  except BaseException as error:  # The library raises Exception, and panics.
    raise ValueError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error
  return tokenizer
