"""Text to token ids and back, over the `tokenizers` library.

A sequence reads `<bos> words <eos> <pad> ...`. Tokenizers made here work on
bytes, so that no text is unknown to them, and give the four special tokens the
ids 0 to 3; a foreign `tokenizer.json` keeps its own ids, which is why code
should ask the tokenizer for `pad_id`, `bos_id` and `eos_id`. Some (SigLIP's)
start a sequence with its first word.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from tokenizers import normalizers as normalizers_lib

from mmjax.errors import ConfigError

PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
SPECIALS = ('<pad>', '<bos>', '<eos>', '<unk>')

# Beside a published tokenizer.json.
_SETTINGS = 'tokenizer_config.json'
# What published tokenizers call these tokens, tried in this order.
_NAMES = {
  'pad': ('<pad>', '[PAD]', '<|pad|>', '<|finetune_right_pad_id|>'),
  'bos': ('<bos>', '<s>', '[CLS]', '<|startoftext|>', '<|begin_of_text|>'),
  'eos': ('<eos>', '</s>', '[SEP]', '<|endoftext|>', '<|end_of_text|>'),
}


class Tokenizer:
  """Encodes text into arrays of a fixed length and decodes ids to text.

  Attributes:
    pad_id: id that fills a sequence up.
    bos_id: id that every text starts with which a model learns to write; None
      if there is none.
    eos_id: id that ends a sequence.
    vocab_size: number of ids, that is one more than the largest.
  """

  def __init__(
    self,
    tokenizer: tokenizers.Tokenizer,
    *,
    pad: str | None = None,
    bos: str | int | None = None,
    eos: str | None = None,
  ):
    """Wraps a tokenizer of the library.

    Args:
      tokenizer: any `tokenizers.Tokenizer`; it is copied, not changed.
      pad: name of its padding token, where it can't be guessed.
      bos: name of the token that starts a text that is written, where that
        isn't the one that the tokenizer starts all texts with; or its id, where
        the tokenizer has no name for it (BLIP).
      eos: name of the token that ends a sequence.

    Raises:
      ConfigError: a special token is neither given nor found.
    """
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    separate_words(tokenizer)
    self.pad_id, own, self.eos_id = _special_ids(
      tokenizer, {'pad': pad, 'bos': None, 'eos': eos}
    )
    if isinstance(bos, str):
      bos = _id(tokenizer, bos, 'bos')
    self.bos_id = own if bos is None else bos
    # '<eos>' typed by a user is seven characters, not the end of the text.
    tokenizer.encode_special_tokens = True
    # What starts a text that is written, and one that is only read.
    self._leads = [
      [] if start is None else [start] for start in (self.bos_id, own)
    ]
    _remember_specials(tokenizer, self.pad_id, self._leads[1], self.eos_id)
    self._tokenizer = tokenizer
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    self.vocab_size = max(*vocabulary.values(), self.bos_id or 0) + 1
    self._specials = {self.pad_id, self.bos_id, self.eos_id}
    self._leading_space = self._decode(self._encode('a')).startswith(' ')

  def encode(
    self, text: str, length: int, *, read: bool = False
  ) -> tuple[np.ndarray, np.ndarray]:
    """Encodes one text, cut or filled up to a length; `<eos>` always fits.

    Args:
      text: any text, '' included.
      length: number of ids, `<bos>` and `<eos>` among them; at least 2.
      read: whether it is only read, as a question is, so that it starts as the
        tokenizer starts all texts.

    Returns:
      ids [length] int32, and a mask [length] bool that is True on `<bos>`, the
      words and `<eos>`.
    """
    if length < 2:
      raise ConfigError(
        f'length {length} leaves no room for <bos> and <eos>; use 2 or more'
      )
    lead = self._leads[read]
    words = self._encode(text)[: length - 1 - len(lead)]
    row = [*lead, *words, self.eos_id]
    ids = np.full(length, self.pad_id, np.int32)
    ids[: len(row)] = row
    return ids, np.arange(length) < len(row)

  def count(self, text: str, *, read: bool = False) -> int:
    """Number of ids that `text` takes uncut, `<bos>` and `<eos>` included.

    Args:
      text: any text.
      read: as of `encode`.
    """
    return len(self._encode(text)) + len(self._leads[read]) + 1

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    """Text of ids [T]: up to the first `<eos>`, special tokens dropped."""
    ids = [int(i) for i in ids]
    if ids and ids[0] == self.bos_id:
      ids = ids[1:]  # First: some tokenizers start and end with one token.
    if self.eos_id in ids:
      ids = ids[: ids.index(self.eos_id)]
    text = self._decode([i for i in ids if i not in self._specials])
    if self._leading_space and text.startswith(' '):
      text = text[1:]
    return text

  def tokens(self, text: str) -> list[str]:
    """The pieces that `text` is cut into, as the vocabulary spells them."""
    return self._tokenizer.encode(text, add_special_tokens=False).tokens

  def save(self, path: str | os.PathLike) -> None:
    """Writes a `tokenizer.json`, which `load` and other libraries read."""
    self._tokenizer.save(os.fspath(path))

  @classmethod
  def load(
    cls,
    path: str | os.PathLike,
    *,
    pad: str | None = None,
    bos: str | int | None = None,
    eos: str | None = None,
    lower_case: bool = False,
  ) -> 'Tokenizer':
    """Reads a `tokenizer.json`, ours or a foreign one.

    Args:
      path: the file.
      pad: name of its padding token, where neither a tokenizer_config.json
        beside the file names it nor it can be guessed.
      bos: name, or id, of the token that starts a text that is written.
      eos: name of the token that ends a sequence.
      lower_case: whether texts become lower case first.

    Raises:
      ConfigError: there is no such file.
      ConfigError: it can't be read, or a special token is not found.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
      raise ConfigError(f'there is no tokenizer at {path}')
    try:
      tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # The library raises Exception itself.
      raise ConfigError(f'{path} is not a tokenizer.json: {error}') from error
    if lower_case:
      tokenizer = lowering(tokenizer)
    if pad is None:
      # SigLIP attends to padding, so it has to be the published one.
      pad = named_pad(tokenizer, _settings_beside(path))
    return cls(tokenizer, pad=pad, bos=bos, eos=eos)

  def _encode(self, text: str) -> list[int]:
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def _decode(self, ids: list[int]) -> str:
    return self._tokenizer.decode(ids, skip_special_tokens=True)

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Tokenizer):
      return NotImplemented
    return self._tokenizer.to_str() == other._tokenizer.to_str()

  def __hash__(self) -> int:
    return hash(self._tokenizer.to_str())

  def __setstate__(self, state: dict) -> None:
    self.__dict__ = state
    # The library's own pickling forgets this switch.
    self._tokenizer.encode_special_tokens = True

  def __repr__(self) -> str:
    return f'Tokenizer(vocab_size={self.vocab_size})'


def byte_tokenizer() -> Tokenizer:
  """One id a byte: id 4 + b for byte b, after the four special tokens.

  >>> tokenizer = byte_tokenizer()
  >>> tokenizer.vocab_size
  260
  >>> ids, mask = tokenizer.encode('A', 5)
  >>> ids.tolist(), mask.sum().item()
  ([1, 69, 2, 0, 0], 3)
  """
  pieces = SPECIALS + tuple(_spell(byte) for byte in range(256))
  vocabulary = {piece: i for i, piece in enumerate(pieces)}
  tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
  tokenizer.add_special_tokens(list(SPECIALS))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = decoders.ByteLevel()
  return Tokenizer(tokenizer)


def train_bpe(
  texts: Iterable[str], vocab_size: int, *, lower: bool = False
) -> Tokenizer:
  """Learns byte-pair merges (Sennrich et al., 2016) from texts.

  The same texts, in any order, give the same tokenizer. Words are split at
  whitespace and punctuation and carry the space before them, the first word of
  a text included, so that a word has one id wherever it stands.

  Args:
    texts: what to learn from.
    vocab_size: most ids to use, at least 260 (256 bytes and 4 special tokens);
      fewer come out where the texts are too few.
    lower: whether text is lower-cased before it is encoded.
  """
  if vocab_size < 260:
    raise ConfigError(
      f'vocab_size {vocab_size} is below 260: 256 bytes and 4 special tokens; '
      'raise it or use byte_tokenizer()'
    )
  tokenizer = tokenizers.Tokenizer(models.BPE())
  if lower:
    tokenizer.normalizer = normalizers_lib.Lowercase()
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=list(SPECIALS),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  return Tokenizer(tokenizer)


def _spell(byte: int) -> str:
  """The printable character that byte-level tokenizers write for a byte."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  if byte in printable:
    return chr(byte)
  others = [b for b in range(256) if b not in printable]
  return chr(256 + others.index(byte))


def _id(tokenizer: tokenizers.Tokenizer, name: str, role: str) -> int:
  found = tokenizer.token_to_id(name)
  if found is None:
    raise ConfigError(f'the tokenizer has no token {name!r} to use as {role}')
  return found


def named_pad(
  tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any]
) -> str | None:
  """The padding token that a tokenizer_config.json names, if there is one.

  Args:
    tokenizer: of the library.
    settings: what the file holds.
  """
  token = settings.get('pad_token')
  token = token.get('content') if isinstance(token, dict) else token
  known = token is not None and tokenizer.token_to_id(token) is not None
  return token if known else None


def _settings_beside(path: str) -> dict[str, Any]:
  """What the tokenizer_config.json beside a file holds; {} without one."""
  beside = Path(path).with_name(_SETTINGS)
  if not beside.exists():
    return {}
  try:
    settings = json.loads(beside.read_bytes())
  except ValueError as error:
    raise ConfigError(f'{beside} is broken or cut off: {error}') from error
  if not isinstance(settings, dict):
    raise ConfigError(f'{beside} holds {settings!r}, not an object')
  return settings


def separate_words(tokenizer: tokenizers.Tokenizer) -> None:
  """Makes a tokenizer write spaces where words end by a mark (CLIP's `</w>`).

  Its own file says only how bytes become text. Decoders that are of another
  kind stay.

  Args:
    tokenizer: of the library; changed in place.
  """
  mark = getattr(tokenizer.model, 'end_of_word_suffix', None)
  if mark and isinstance(tokenizer.decoder, decoders.ByteLevel):
    tokenizer.decoder = decoders.Sequence(
      [
        tokenizer.decoder,
        decoders.Replace(mark, ' '),
        decoders.Replace(tokenizers.Regex(r'\A\s+|\s+\z'), ''),
      ]
    )


def lowering(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
  """A copy of a tokenizer of the library that makes texts lower case first."""
  tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
  normalizers = [tokenizers.normalizers.Lowercase(), tokenizer.normalizer]
  tokenizer.normalizer = tokenizers.normalizers.Sequence(
    [one for one in normalizers if one is not None]
  )
  return tokenizer


def _special_ids(
  tokenizer: tokenizers.Tokenizer, given: dict[str, str | None]
) -> tuple[int, int | None, int]:
  """Ids of pad, bos, eos: as given, as the file says, or by their names.

  Without a padding token the end of text, whose mask tells them apart, fills
  up, as in CLIP.
  """
  found: dict[str, int | None] = {}
  if tokenizer.padding:
    found['pad'] = tokenizer.padding['pad_id']
    tokenizer.no_padding()
  sample = tokenizer.encode('a')
  words = np.flatnonzero(np.equal(sample.special_tokens_mask, 0))
  first, last = (words[0], words[-1]) if words.size else (0, len(sample.ids))
  before, after = sample.ids[:first], sample.ids[last + 1 :]
  if before or after:
    found['bos'] = before[0] if before else None
  if after:
    found['eos'] = after[-1]
  for role, names in _NAMES.items():
    if given[role] is not None:
      found[role] = _id(tokenizer, given[role], role)
    ids = [tokenizer.token_to_id(name) for name in names]
    found.setdefault(role, next((i for i in ids if i is not None), None))
    if found[role] is None and role == 'eos':
      raise ConfigError(
        f'the tokenizer has no {role} token among {", ".join(names)}; name '
        f"one of its tokens: Tokenizer.load(path, {role}='...')"
      )
  if found['pad'] is None:
    found['pad'] = found['eos']
  return found['pad'], found['bos'], found['eos']


def _remember_specials(
  tokenizer: tokenizers.Tokenizer, pad: int, lead: list[int], eos: int
) -> None:
  """Writes the special tokens where a saved file keeps them."""
  tokenizer.enable_padding(
    pad_id=pad, pad_token=tokenizer.id_to_token(pad), length=None
  )
  before = [(tokenizer.id_to_token(i), i) for i in lead]
  after = (tokenizer.id_to_token(eos), eos)
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[*(name for name, _ in before), '$A', after[0]],
    special_tokens=sorted({*before, after}),
  )
