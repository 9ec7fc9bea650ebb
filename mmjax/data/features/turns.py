"""Fields of conversations."""

import dataclasses
import datetime
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import (
  chat_ids,
  chat_tokenizers,
  contact_sheet,
  tokenizers,
)
from mmjax.data.features import (
  base,
  media_kinds,
  turn_checks,
  turn_media,
  turn_placeholders,
  turn_values,
  turn_words,
)
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns(base.Feature):
  """A conversation, as ids of the data set's tokenizer.

  A value is a list of {'role': str, 'content': list}; a content's items are
  texts, or {'field': NAME} for what another field of the record holds, which a
  feature of its own makes arrays of. Questions with their answers are read as
  conversations too: each is a turn of the user's, its commonest answer one of
  the assistant's. With a tokenizer that has a chat template
  beside it, as those of published chat models, the template writes the
  conversation; otherwise each turn is written as `ROLE: TEXT` and ends with
  <eos>. The arrays are int32 [T], its mask bool [T], and `NAME_loss_mask` bool
  [T], True for what the assistant says, with the token that ends its turn
  (`mmjax.data.chat_ids`).

  Attributes:
    length: T, largest number of tokens; what is longer loses its end.
    system: field of texts, such as 'captions', whose first text is the system's
      turn before the others; '' for none.
    image: feature of images (`image`, `images`, `patches` or `tiles`), or
      several, whose images stand where the conversation refers to their fields,
      each once; before the first question if they are questions. '' for none.
    video: feature of the kind `videos`, in the same way, alone or beside images
      of the kind `patches`; '' for none.
    sound: feature of the kind `sounds`, in the same way, alone or beside
      images and videos; '' for none.
    image_tokens: number of tokens of an image, or of a tile, in the model; 0
      with patches, videos and sounds, which have as many as they are large or
      long.
    placeholder: token that stands for each image, such as '<image>'; it is the
      one that the chat template writes for an image. For a template of texts
      alone, any token that the texts lack.
    video_placeholder: the same for videos.
    sound_placeholder: the same for sounds.
    image_text: texts and tokens that are read for an image, one after the
      other, such as ('<begin>', '<image>', '<end>'), with the placeholder once;
      () for the placeholder alone.
    image_mark: what the chat template writes for an image, where that is not
      the placeholder; it is read as `image_text`.
    requires_answer: whether training refuses a conversation of which no token
      is learnt, because nobody answers or the length cuts it; False for
      conversations that are only read.
    packed: whether training puts several conversations into a row where they
      fit; then there are also `NAME_segments` int32 [T], from 1 on, and
      `NAME_positions` int32 [T] (`mmjax.data.conversation_packing`).
    date: day, as 2025-01-31, that a template writes as today's, so that
      examples don't depend on when they are made.
    variables: further variables of the template, by name.
    tokenizer: tokenizer of the data set.
    media_features: the features that these settings name, by name.
  """

  kind: ClassVar[str] = 'turns'
  field_kinds: ClassVar[tuple[str, ...]] = ('turns', 'questions')
  word: ClassVar[str] = 'a conversation'
  encoder_settings: ClassVar[tuple[str, ...]] = ('image_text', 'image_mark')

  length: int = 256
  system: str = ''
  image: str | Sequence = ''
  video: str = ''
  sound: str = ''
  image_tokens: int = 0
  placeholder: str = ''
  video_placeholder: str = ''
  sound_placeholder: str = ''
  image_text: Sequence = ()
  image_mark: str = ''
  requires_answer: bool = True
  packed: bool = False
  date: str = '2025-01-31'
  variables: Mapping = dataclasses.field(default_factory=dict)
  tokenizer: Any = None
  media_features: Mapping = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    super().__post_init__()
    if self.length < 2:
      self.refuse('length', 'is not legal: at least 2')
    try:
      datetime.date.fromisoformat(self.date)
    except ValueError:
      self.refuse('date', 'is not a day, such as 2025-01-31')

  def get(self, record: Mapping[str, Any]) -> list[Mapping] | None:
    value = super().get(record)
    if not value:
      return None
    if 'question' in value[0]:
      value = list(turn_values.read_questions(value))
    texts = record['fields'].get(self.system) if self.system else None
    if isinstance(texts, Mapping):
      texts = next(iter(texts.values()), None)
    return [
      *([turn_values.make_turn('system', texts[0])] if texts else []),
      *value,
    ]

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    return turn_values.explain_fault(value)

  def list_keys(self) -> tuple[str, ...]:
    names = (
      'loss_mask',
      *(('segments', 'positions') if self.packed else ()),
      *turn_media.list_suffixes(self.media_features),
    )
    return (*super().list_keys(), *(f'{self.name}_{name}' for name in names))

  def has(self, record: Mapping[str, Any], key: str) -> bool:
    del key
    value = self.get(record) or ()
    if not self.requires_answer:
      return bool(value)
    return any(turn['role'] == 'assistant' for turn in value)

  @property
  def uses_tokenizer(self) -> bool:
    return True

  def with_tokenizer(self, tokenizer: tokenizers.Tokenizer) -> 'Turns':
    return dataclasses.replace(self, tokenizer=tokenizer)

  @property
  def media_names(self) -> tuple[str, ...]:
    """Names of the features of its images, videos or sounds."""
    return tuple(itertools.chain(*media_kinds.name_media(self).values()))

  def with_features(self, features: Mapping[str, base.Feature]) -> 'Turns':
    """Returns the feature with those of its images and others that there are.

    Raises:
      ConfigError: if they can't stand in a conversation together.
    """
    chosen = {n: features[n] for n in self.media_names if n in features}
    if chosen:
      media_kinds.check(self, chosen)
    return dataclasses.replace(self, media_features=chosen)

  @property
  def media_rooms(self) -> tuple[int, ...]:
    """How many of each feature share a row; of patches, how many tokens."""
    return tuple(map(media_kinds.count_slots, self.media_features.values()))

  def count_media(self, chosen: Sequence[Mapping]) -> tuple[int, ...]:
    """How much of `media_rooms` turns take, as `choose` returns them."""
    return tuple(
      turn_media.count_used(feature, chosen)
      for feature in self.media_features.values()
    )

  def list_texts(self, chosen: Sequence[Mapping]) -> Iterable[str]:
    for turn in chosen:
      yield turn_values.get_text(turn)

  def make_arrays(
    self,
    chosen: Sequence[Mapping],
    rng: np.random.Generator | None = None,
    *,
    flips: bool = True,
  ) -> base.Example:
    del flips
    ids, loss_mask = self.encode(chosen)
    if self.media_names:
      turn_checks.check_media(self, ids, turn_placeholders.find_ids(self))
    if rng is not None and self.requires_answer:
      turn_checks.check_loss_mask(self, ids, loss_mask)
    return self._pad(ids, loss_mask, chosen)

  def encode(
    self, chosen: Sequence[Mapping], *, prompt: bool = False
  ) -> tuple[list[int], list[bool]]:
    """Ids of a conversation, uncut, and for each whether it is learnt.

    Args:
      chosen: the turns, as `choose` returns them.
      prompt: whether what stands before an answer comes last.

    Raises:
      ConfigError: if the template fails, or a text has the placeholder; it
        names the turn.
    """
    if isinstance(self.tokenizer, chat_tokenizers.ChatTokenizer):
      written = self._write(chosen, prompt=prompt)
      pair = list(written.ids), list(written.loss_mask)
    else:
      pair = self._encode_turns(chosen, prompt=prompt)
    if not self.media_names:
      return pair
    return turn_placeholders.expand(self, chosen, *pair)

  def _encode_turns(
    self, chosen: Sequence[Mapping], *, prompt: bool
  ) -> tuple[list[int], list[bool]]:
    """Encodes turns as `ROLE: TEXT<eos>`, images' places as `image_text`."""
    encode = functools.partial(turn_placeholders.encode_part, self.tokenizer)
    return turn_words.encode(
      self.tokenizer,
      [(turn['role'], self._list_items(turn)) for turn in chosen],
      {
        kind: list(itertools.chain(*map(encode, parts)))
        for kind, parts in turn_placeholders.list_parts(self).items()
      },
      prompt=prompt,
    )

  def spell(self, chosen: Sequence[Mapping]) -> list[tuple[str, bool]]:
    """The text of each token of a conversation, and whether it is learnt."""
    if isinstance(self.tokenizer, chat_tokenizers.ChatTokenizer):
      written = self._write(chosen)
      texts = [written.text[begin:end] for begin, end in written.offsets]
      return list(zip(texts, written.loss_mask, strict=True))
    texts, loss_mask = [], self.encode(chosen)[1]
    for turn in chosen:
      for text in (f'{turn["role"]}: ', turn_values.get_text(turn)):
        texts += self.tokenizer.tokenize(text)
      texts.append('<eos>')
    return list(zip(texts, loss_mask, strict=True))

  def _write(
    self, chosen: Sequence[Mapping], *, prompt: bool = False
  ) -> chat_ids.EncodedConversation:
    """Writes a conversation by the tokenizer's chat template."""
    make = self.tokenizer.template.make_content
    marks = turn_placeholders.list_marks(self)
    parts = turn_placeholders.list_parts(self).get('image', ())
    return self.tokenizer.encode_chat(
      [
        {**turn, 'content': make(self._list_items(turn), marks)}
        for turn in chosen
      ],
      add_generation_prompt=prompt,
      completes=bool(self.media_names),
      image=(marks['image'], ''.join(parts)) if parts else None,
      now=datetime.datetime.fromisoformat(self.date),
      **self.variables,
    )

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> list[Mapping] | None:
    value = super().choose(record, rng)
    return self.place(value, record) if value else value

  def place(
    self, value: Sequence[Mapping], record: Mapping[str, Any]
  ) -> list[Mapping]:
    """Puts the images, videos or sounds of a record where turns refer to them.

    Args:
      value: the turns.
      record: its fields have these, encoded or as arrays.

    Raises:
      ConfigError: as `turn_media.place` does.
    """
    if not self.media_names:
      return list(value)
    raw = super().get(record)
    if raw and 'question' in raw[0]:
      features = self.media_features
      value = turn_media.refer_first(value, record, features)
    try:
      return turn_media.place(
        value, record, self.media_features, self.image_tokens
      )
    except ConfigError as error:
      raise ConfigError(f'{self.name}: {error}') from error

  def _list_items(self, turn: Mapping[str, Any]) -> list[Any]:
    """Texts of a turn, and parts such as {'type': 'image'} in their places."""
    if not self.media_names:
      return [turn_values.get_text(turn)]
    return turn_media.list_items(turn)

  def make_prompt_arrays(
    self, chosen: Sequence[Mapping] | None, length: int
  ) -> base.Example:
    """Makes the arrays of a conversation up to an answer.

    Args:
      chosen: the turns before the answer, as `choose` returns them; None for
        none.
      length: number of tokens of the arrays. A longer conversation is masked
        whole.
    """
    ids = self.encode(chosen, prompt=True)[0] if chosen else []
    if len(ids) > length:
      ids, chosen = [], None
    return self._pad(ids, [False] * len(ids), chosen or (), length)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pad([], [], ())

  def prepare(self, value: Any) -> base.Example:
    if isinstance(value, str) and value.strip():
      value = [{'role': 'user', 'content': [value]}]
    if fault := self.explain_fault(value):
      raise ConfigError(f'{self.name} {fault}')
    if self.media_names:
      value = self.place(value, {'fields': {}, 'metadata': {}})
    return self.make_arrays(value)

  @classmethod
  def list_all_texts(cls, value: Sequence[Mapping]) -> Iterable[str]:
    for turn in value:
      yield turn_values.get_text(turn)

  @classmethod
  def render(cls, value: Sequence[Mapping]) -> contact_sheet.Cell:
    get_text = turn_values.get_text
    return None, [f'{turn["role"]}: {get_text(turn)}' for turn in value[:4]]

  def join(self, examples: Sequence[base.Example]) -> base.Example:
    """Joins conversations; segments count on, and positions restart."""
    out = turn_words.join(self.name, examples, self.make_absent())
    return out | turn_media.join(
      self.name, examples, self.media_features, self.image_tokens
    )

  def _pad(
    self,
    ids: list[int],
    loss_mask: list[bool],
    chosen: Sequence[Mapping],
    length: int = 0,
  ) -> base.Example:
    """Makes the arrays of ids, cut to a length, by default that of the rows."""
    length = length or self.length
    images = {}
    if self.media_features:
      images = turn_media.make_arrays(
        self.name,
        ids,
        chosen,
        length,
        tuple(turn_placeholders.find_ids(self).values()),
        self.media_features,
        self.image_tokens,
      )
    arrays = turn_words.make_arrays(
      self.name, ids, loss_mask, length, self.packed
    )
    return arrays | images
