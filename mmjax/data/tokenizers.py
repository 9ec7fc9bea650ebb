"""Converts text to token ids and back, with the `tokenizers` library.

A sequence is `<bos> words <eos> <pad> ...`. mmjax's tokenizers work on bytes,
so that no text is unknown to them, and give the four special tokens the ids 0
to 3. Other `tokenizer.json` files have other ids, so use the tokenizer's
`pad_id`, `bos_id` and `eos_id`. Some tokenizers (SigLIP's) have no `<bos>`.
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

# Names of these tokens in published tokenizers, tried in this order.
_KNOWN_NAMES = {
  'pad': ('<pad>', '[PAD]', '<|pad|>', '<|finetune_right_pad_id|>'),
  'bos': ('<bos>', '<s>', '[CLS]', '<|startoftext|>', '<|begin_of_text|>'),
  'eos': ('<eos>', '</s>', '[SEP]', '<|endoftext|>', '<|end_of_text|>'),
}


class Tokenizer:
  """Encodes text into arrays of a fixed length and decodes ids to text.

  Attributes:
    pad_id: id of the padding.
    bos_id: first id of texts that a model learns to write, None without one.
    eos_id: id that ends a sequence.
    vocab_size: number of ids, which is the largest id plus one.
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
      tokenizer: any `tokenizers.Tokenizer`; it is copied.
      pad: name of the padding token; None to find it.
      bos: name of the token that starts a text that the model writes, if not
        that of all texts; or its id, if it has no name (BLIP).
      eos: name of the token that ends a sequence; None to find it.

    Raises:
      ConfigError: if a named token or an end of text is not in the vocabulary.
    """
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())  # A copy.
    tokenizer.no_truncation()
    separate_words(tokenizer)
    self.pad_id, start_id, self.eos_id = _find_special_ids(
      tokenizer, {'pad': pad, 'bos': None, 'eos': eos}
    )
    if isinstance(bos, str):
      bos = _find_id(tokenizer, bos, 'bos')
    self.bos_id = start_id if bos is None else bos
    # '<eos>' in a user's text is encoded as characters, not as the end of text.
    tokenizer.encode_special_tokens = True
    # First ids of a text that the model writes, and of one that is input.
    self._first_ids = [
      [] if lead is None else [lead] for lead in (self.bos_id, start_id)
    ]
    _store_specials(tokenizer, self.pad_id, self._first_ids[1], self.eos_id)
    self._tokenizer = tokenizer
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    self.vocab_size = max(*vocabulary.values(), self.bos_id or 0) + 1
    self._specials = {self.pad_id, self.bos_id, self.eos_id}
    self._leading_space = self._decode(self._encode('a')).startswith(' ')

  def encode(
    self, text: str, length: int, *, as_input: bool = False
  ) -> tuple[np.ndarray, np.ndarray]:
    """Encodes one text, cut or padded to a length; `<eos>` is never cut.

    Args:
      text: any text, '' included.
      length: number of ids, `<bos>` and `<eos>` included; at least 2.
      as_input: whether the text is an input, such as a question, which starts
        as the tokenizer starts all texts; otherwise the model writes it, and it
        starts with `bos_id`.

    Returns:
      ids [length] int32, and a mask [length] bool that is True on `<bos>`, the
      words and `<eos>`.
    """
    if length < 2:
      raise ConfigError(
        f'length {length} leaves no room for <bos> and <eos>; use 2 or more'
      )
    lead = self._first_ids[as_input]
    words = self._encode(text)[: length - 1 - len(lead)]
    row = [*lead, *words, self.eos_id]
    ids = np.full(length, self.pad_id, np.int32)
    ids[: len(row)] = row
    return ids, np.arange(length) < len(row)

  def encode_words(self, text: str) -> list[int]:
    """Encodes a text without special ids."""
    return self._encode(text)

  def count(self, text: str, *, as_input: bool = False) -> int:
    """Counts the ids of an uncut text, `<bos>` and `<eos>` included.

    Args:
      text: any text.
      as_input: whether the text is an input, as in `encode`.
    """
    return len(self._encode(text)) + len(self._first_ids[as_input]) + 1

  def decode(self, ids: Sequence[int] | np.ndarray) -> str:
    """Decodes ids [T] up to the first `<eos>`, without special tokens."""
    ids = [int(i) for i in ids]
    if ids and ids[0] == self.bos_id:
      ids = ids[1:]  # First: some tokenizers start and end with one token.
    if self.eos_id in ids:
      ids = ids[: ids.index(self.eos_id)]
    text = self._decode([i for i in ids if i not in self._specials])
    if self._leading_space and text.startswith(' '):
      text = text[1:]
    return text

  def decode_token(self, token_id: int) -> str:
    """Decodes one id, also that of a special token."""
    return self._tokenizer.decode([token_id], skip_special_tokens=False)

  def tokenize(self, text: str) -> list[str]:
    """Splits a text into tokens, as the vocabulary spells them."""
    return self._tokenizer.encode(text, add_special_tokens=False).tokens

  def find_id(self, token: str) -> int | None:
    """Returns the id of a token of the vocabulary; None without it."""
    return self._tokenizer.token_to_id(token)

  def save(self, path: str | os.PathLike) -> None:
    """Writes a `tokenizer.json` for `load` and other libraries."""
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
    """Reads a `tokenizer.json` of mmjax or of another library.

    Args:
      path: path of the file.
      pad: name of the padding token; None to take it from a
        tokenizer_config.json beside the file, or to find it.
      bos: name, or id, of the token that starts a text that the model writes.
      eos: name of the token that ends a sequence; None to find it, likewise.
      lower_case: whether texts are lower-cased first.

    Raises:
      ConfigError: if there is no such file, it can't be read, or a special
        token is not found.
    """
    if not os.path.exists(path := os.fspath(path)):
      raise ConfigError(f'there is no tokenizer at {path}')
    try:
      tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # The library raises Exception itself.
      raise ConfigError(f'{path} is not a tokenizer.json: {error}') from error
    if lower_case:
      tokenizer = add_lower_case(tokenizer)
    named = _read_config(path)
    # SigLIP attends to padding, so the published token is needed.
    pad = pad or find_named(tokenizer, named, 'pad')
    ids = map(tokenizer.token_to_id, _KNOWN_NAMES['eos'])
    if all(number is None for number in ids):
      eos = eos or find_named(tokenizer, named, 'eos')
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
    # The library doesn't pickle this setting.
    self._tokenizer.encode_special_tokens = True

  def __repr__(self) -> str:
    return f'Tokenizer(vocab_size={self.vocab_size})'


def make_byte_tokenizer() -> Tokenizer:
  """Makes a tokenizer with one id per byte: 4 + b for byte b.

  Ids 0 to 3 are the special tokens.

  >>> tokenizer = make_byte_tokenizer()
  >>> tokenizer.vocab_size
  260
  >>> ids, mask = tokenizer.encode('A', 5)
  >>> ids.tolist(), mask.sum().item()
  ([1, 69, 2, 0, 0], 3)
  """
  pieces = SPECIALS + tuple(_spell_byte(byte) for byte in range(256))
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

  The same texts, in any order, give the same tokenizer. Texts are split at
  whitespace and punctuation. Every word includes the space before it, which is
  added to the first word, so that a word has the same id in any position.

  Args:
    texts: texts to learn from.
    vocab_size: largest number of ids, at least 260 (256 bytes and 4 special
      tokens); few texts give fewer ids.
    lower: whether texts are lower-cased before they are encoded.

  Raises:
    ConfigError: if vocab_size is below 260.
  """
  if vocab_size < 260:
    raise ConfigError(
      f'vocab_size {vocab_size} is below 260: 256 bytes and 4 special tokens; '
      'raise it or use make_byte_tokenizer()'
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


def _spell_byte(byte: int) -> str:
  """Returns the printable character of byte-level tokenizers for a byte."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  if byte in printable:
    return chr(byte)
  others = [b for b in range(256) if b not in printable]
  return chr(256 + others.index(byte))


def _find_id(tokenizer: tokenizers.Tokenizer, name: str, role: str) -> int:
  token_id = tokenizer.token_to_id(name)
  if token_id is None:
    raise ConfigError(f'the tokenizer has no token {name!r} to use as {role}')
  return token_id


def find_named(
  tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], role: str
) -> str | None:
  """Finds the special token that a tokenizer_config.json names.

  Args:
    tokenizer: a tokenizer of the library.
    settings: content of the file.
    role: 'pad' or 'eos'.

  Returns:
    The token; None if the file names none or the tokenizer doesn't have it.
  """
  token = settings.get(f'{role}_token')
  token = token.get('content') if isinstance(token, dict) else token
  return token if token and tokenizer.token_to_id(token) is not None else None


def _read_config(path: str) -> dict[str, Any]:
  """Reads the tokenizer_config.json beside a file; {} without one."""
  path_beside = Path(path).with_name('tokenizer_config.json')
  if not path_beside.exists():
    return {}
  try:
    settings = json.loads(path_beside.read_bytes())
  except ValueError as error:
    raise ConfigError(f'{path_beside} is broken or cut off: {error}') from error
  if not isinstance(settings, dict):
    raise ConfigError(f'{path_beside} holds {settings!r}, not an object')
  return settings


def separate_words(tokenizer: tokenizers.Tokenizer) -> None:
  """Makes a tokenizer write spaces where words end by a mark (CLIP's `</w>`).

  Its own file says only how bytes become text. Decoders that are of another
  kind stay.

  Args:
    tokenizer: tokenizer of the library; changed in place.
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


def add_lower_case(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
  """Copies a tokenizer of the library, and lower-cases texts first."""
  tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
  steps = [normalizers_lib.Lowercase(), tokenizer.normalizer]
  tokenizer.normalizer = normalizers_lib.Sequence(list(filter(None, steps)))
  return tokenizer


def _find_special_ids(
  tokenizer: tokenizers.Tokenizer, choices: dict[str, str | None]
) -> tuple[int, int | None, int]:
  """Finds the ids of pad, bos and eos: by choice, in the file, or by name.

  Without a padding token, the end of text is the padding, as in CLIP; the mask
  distinguishes them.
  """
  role_ids: dict[str, int | None] = {}
  if tokenizer.padding:
    role_ids['pad'] = tokenizer.padding['pad_id']
    tokenizer.no_padding()
  sample = tokenizer.encode('a')
  words = np.flatnonzero(np.equal(sample.special_tokens_mask, 0))
  first, last = (words[0], words[-1]) if words.size else (0, len(sample.ids))
  before, after = sample.ids[:first], sample.ids[last + 1 :]
  if before or after:
    role_ids['bos'] = before[0] if before else None
  if after:
    role_ids['eos'] = after[-1]
  for role, names in _KNOWN_NAMES.items():
    if choices[role] is not None:
      role_ids[role] = _find_id(tokenizer, choices[role], role)
    ids = [tokenizer.token_to_id(name) for name in names]
    role_ids.setdefault(role, next((i for i in ids if i is not None), None))
    if role_ids[role] is None and role == 'eos':
      raise ConfigError(
        f'the tokenizer has no {role} token among {", ".join(names)}; name '
        f"one of its tokens: Tokenizer.load(path, {role}='...')"
      )
  if role_ids['pad'] is None:
    role_ids['pad'] = role_ids['eos']
  return role_ids['pad'], role_ids['bos'], role_ids['eos']


def _store_specials(
  tokenizer: tokenizers.Tokenizer, pad: int, lead: list[int], eos: int
) -> None:
  """Stores the special tokens in the fields that a saved file has for them."""
  tokenizer.enable_padding(
    pad_id=pad, pad_token=tokenizer.id_to_token(pad), length=None
  )
  before = [(tokenizer.id_to_token(i), i) for i in lead]
  after = (tokenizer.id_to_token(eos), eos)
  tokenizer.post_processor = processors.TemplateProcessing(
    single=[*(name for name, _ in before), '$A', after[0]],
    special_tokens=sorted({*before, after}),
  )
