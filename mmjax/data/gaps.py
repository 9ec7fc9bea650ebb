"""Texts with gaps, which a masked language model fills."""

import numpy as np

from mmjax.data import tokenizers
from mmjax.errors import ConfigError

# How people write a gap, and names of its token in published tokenizers.
GAP = '[MASK]'
_KNOWN_NAMES = (GAP, '<mask>')


def find_mask_id(tokenizer: tokenizers.Tokenizer) -> int | None:
  """Finds the id of a tokenizer's token for a gap; None without one."""
  ids = map(tokenizer.find_id, _KNOWN_NAMES)
  return next((i for i in ids if i is not None), None)


def encode(
  tokenizer: tokenizers.Tokenizer,
  text: str,
  length: int,
  *,
  as_input: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Encodes a text in which each `[MASK]` is a gap of one token.

  >>> tokenizer = tokenizers.make_byte_tokenizer()
  >>> ids, mask, gaps = encode(tokenizer, 'b[MASK]d', 6)
  >>> ids.tolist(), gaps.tolist()
  ([1, 102, 0, 104, 2, 0], [False, False, True, False, False, False])

  Args:
    tokenizer: tokenizer of the text.
    text: the text.
    length: number of ids, special ones included.
    as_input: whether it is an input, as in `Tokenizer.encode`.

  Returns:
    ids [length] int32, which are that of padding in gaps; the mask [length];
    and bool [length], True in gaps.

  Raises:
    ConfigError: if there is no gap, or the text is too long.
  """
  pieces = text.split(GAP)
  if len(pieces) < 2:
    raise ConfigError(f'{text!r} has no gap to fill; write {GAP} for one')
  # Where the space before a word is part of its token, it is part of the gap.
  joins = len(tokenizer.encode_words('a a')) == 2
  words: list[int | None] = []
  for i, piece in enumerate(pieces):
    if joins and i + 1 < len(pieces):
      piece = piece.removesuffix(' ')
    words += [None] * bool(i) + _encode_piece(tokenizer, piece, first=not i)
  ids, mask = tokenizer.encode('', length, as_input=as_input)
  front = int(mask.sum()) - 1
  if front + len(words) + 1 > length:
    raise ConfigError(
      f'{text!r} has {front + len(words) + 1} tokens, more than the {length} '
      'that the model reads; shorten it'
    )
  ids[front + len(words)] = tokenizer.eos_id
  ids[front : front + len(words)] = [
    tokenizer.pad_id if word is None else word for word in words
  ]
  gaps = np.zeros(length, np.bool_)
  gaps[front : front + len(words)] = [word is None for word in words]
  return ids, np.arange(length) < front + len(words) + 1, gaps


def _encode_piece(
  tokenizer: tokenizers.Tokenizer, piece: str, *, first: bool
) -> list[int]:
  """Encodes what follows a gap; a comma there does not begin a word."""
  if first or not piece or piece[0].isalnum() or piece[0].isspace():
    return tokenizer.encode_words(piece)
  before = tokenizer.encode_words('a')
  return tokenizer.encode_words(f'a{piece}')[len(before) :]
