"""SentencePiece models, written without its library.

The fields' numbers are those of sentencepiece_model.proto.
"""

import struct
from collections.abc import Iterable

from mmjax.pretrained import sentence_pieces

Piece = tuple[str, float, int]


def model(pieces: Iterable[Piece], kind: int, unknown: int) -> bytes:
  """The bytes of a .model file.

  Args:
    pieces: text, score and kind of each.
    kind: UNIGRAM or PAIRS of `sentence_pieces`.
    unknown: id of the piece for unknown text.
  """
  out = b''.join(_field(1, _piece(*one)) for one in pieces)
  trainer = _whole(3, kind) + _whole(40, unknown)
  normalizer = _field(1, b'identity') + _whole(3, 1)
  return out + _field(2, trainer) + _field(3, normalizer)


def pieces(words: Iterable[str], letters: Iterable[str]) -> list[Piece]:
  """Words, each part that they begin with, and letters."""
  parts = [f'▁{word}'[:i] for word in words for i in range(2, len(word) + 2)]
  texts = dict.fromkeys(['▁', *letters, *parts])
  normal = sentence_pieces.NORMAL
  return [(text, -float(i), normal) for i, text in enumerate(texts, 1)]


def special(texts: Iterable[str], kind: int) -> list[Piece]:
  """Pieces of one kind that have no score."""
  return [(text, 0.0, kind) for text in texts]


def of_bytes() -> list[Piece]:
  """A piece a byte."""
  return special((f'<0x{i:02X}>' for i in range(256)), sentence_pieces.BYTE)


def _piece(text: str, score: float, kind: int) -> bytes:
  number = struct.pack('<f', score)
  return _field(1, text.encode()) + b'\x15' + number + _whole(3, kind)


def _field(number: int, content: bytes) -> bytes:
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def _whole(number: int, value: int) -> bytes:
  return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
  out = []
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*out, value])
