"""Reads a SentencePiece model: the protocol buffer in a .model file.

Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226. Fields have the
numbers of sentencepiece_model.proto; those that mmjax doesn't need are skipped.
"""

import dataclasses
import math
import struct
from collections.abc import Iterator
from typing import Any

from mmjax.errors import ConfigError

UNIGRAM, PAIRS = 1, 2  # Kinds of models.
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # Kinds of pieces.

# Number of each field that is read -> its default.
_TRAINER: dict[int, int | bytes] = {
  3: UNIGRAM,  # model_type
  35: 0,  # byte_fallback
  40: 0,  # unk_id
  41: 1,  # bos_id
  42: 2,  # eos_id
  45: b'<unk>',  # unk_piece
  46: b'<s>',  # bos_piece
  47: b'</s>',  # eos_piece
}
_NORMALIZER: dict[int, int | bytes] = {
  2: b'',  # precompiled_charsmap
  3: 1,  # add_dummy_prefix
  4: 1,  # remove_extra_whitespaces
  5: 1,  # escape_whitespaces
}
# Wire types of fields.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Largest number of bytes of a varint.
_LONGEST = 10


@dataclasses.dataclass(frozen=True)
class Piece:
  """A piece of the vocabulary; its id is its index."""

  text: str
  score: float
  kind: int


@dataclasses.dataclass(frozen=True)
class Model:
  """The contents of a .model file.

  Attributes:
    pieces: the vocabulary.
    kind: UNIGRAM or PAIRS.
    unknown: id of the piece for unknown text.
    begin: id of the piece that begins texts; negative if there is none.
    end: id of the piece that ends texts; negative if there is none.
    names: pieces for unknown text, the beginning and the end.
    falls_back: whether text without a piece becomes bytes.
    charsmap: rules of normalising characters; empty for none.
    prefixes: whether a space is put before a text.
    trims: whether spaces at the ends and repeated ones are removed.
    escapes: whether spaces become U+2581.
  """

  pieces: tuple[Piece, ...]
  kind: int
  unknown: int
  begin: int
  end: int
  names: tuple[str, str, str]
  falls_back: bool
  charsmap: bytes
  prefixes: bool
  trims: bool
  escapes: bool

  def added_pieces(self) -> list[Piece]:
    """Pieces that are never split: control and user-defined ones."""
    return [piece for piece in self.pieces if piece.kind in (CONTROL, USER)]


def parse(content: bytes, name: str) -> Model:
  """Parses a .model file.

  Args:
    content: the bytes of the file.
    name: name of the file, for errors.

  Raises:
    ConfigError: if it is broken, or holds something else.
  """
  try:
    return _read_model(content)
  except (ValueError, struct.error) as error:
    raise ConfigError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error


def _read_model(content: bytes) -> Model:
  pieces = []
  trainer, normalizer = dict(_TRAINER), dict(_NORMALIZER)
  for number, value in _iterate_fields(content):
    if number == 1:
      pieces.append(_read_piece(_as_bytes(value)))
    elif number == 2:
      _update(trainer, _as_bytes(value))
    elif number == 3:
      _update(normalizer, _as_bytes(value))
  unknown = trainer[40]
  if len({piece.text for piece in pieces}) < len(pieces):
    raise ConfigError('it has a piece twice')
  if not 0 <= unknown < len(pieces):
    raise ConfigError(f'of {len(pieces)} pieces, {unknown} is for unknown text')
  return Model(
    tuple(pieces),
    kind=trainer[3],
    unknown=unknown,
    begin=trainer[41],
    end=trainer[42],
    names=tuple(trainer[number].decode() for number in (45, 46, 47)),
    falls_back=bool(trainer[35]),
    charsmap=normalizer[2],
    prefixes=bool(normalizer[3]),
    trims=bool(normalizer[4]),
    escapes=bool(normalizer[5]),
  )


def _update(settings: dict[int, Any], content: bytes) -> None:
  """Updates settings with the fields of a message, by their numbers."""
  for number, value in _iterate_fields(content):
    if number in settings:
      whole = isinstance(settings[number], int)
      settings[number] = _as_signed(value) if whole else _as_bytes(value)


def _read_piece(content: bytes) -> Piece:
  text, score, kind = '', 0.0, NORMAL
  for number, value in _iterate_fields(content):
    if number == 1:
      text = _as_bytes(value).decode()
    elif number == 2:
      score = _as_float(value)
    elif number == 3:
      kind = _as_whole(value)
  if not text or not NORMAL <= kind <= BYTE or not math.isfinite(score):
    raise ConfigError(f'it has the piece {text!r:.60}, {score}, of kind {kind}')
  return Piece(text, score, kind)


def _iterate_fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
  """Yields number and value of each field of a message."""
  at = 0
  while at < len(content):
    tag, at = _read_varint(content, at)
    number, kind = tag >> 3, tag & 7
    value: int | bytes
    if kind == _VARINT:
      value, at = _read_varint(content, at)
    else:
      size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
      if kind == _BYTES:
        size, at = _read_varint(content, at)
      if size is None or number == 0:
        raise ConfigError(f'a field cannot begin at byte {at}')
      value, at = content[at : at + size], at + size
      if at > len(content):
        raise ConfigError('a field is longer than the file')
    yield number, value


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
  """Reads a varint (7 bits per byte, lowest first); also returns its end."""
  value = 0
  for i, byte in enumerate(content[at : at + _LONGEST]):
    value |= (byte & 0x7F) << (7 * i)
    if byte < 0x80:
      return value, at + i + 1
  raise ConfigError(f'the whole number at byte {at} does not end')


def _as_bytes(value: int | bytes) -> bytes:
  if not isinstance(value, bytes):
    raise ConfigError(f'a field holds {value}, not bytes')
  return value


def _as_float(value: int | bytes) -> float:
  return struct.unpack('<f', _as_bytes(value))[0]


def _as_signed(value: int | bytes) -> int:
  """Reads a signed 64-bit integer."""
  value = _as_whole(value)
  return value - 2**64 if value >= 2**63 else value


def _as_whole(value: int | bytes) -> int:
  if not isinstance(value, int):
    raise ConfigError('a field holds bytes, not a whole number')
  return value
