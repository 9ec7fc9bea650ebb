"""Runs and published models that chat, by one interface, for a server."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np

from mmjax.data import chat_tokenizers
from mmjax.errors import ConfigError
from mmjax.inference import opened as opened_lib
from mmjax.pretrained import chats, language_models
from mmjax.runs import rebuild
from mmjax.tasks import base as tasks_base
from mmjax.tasks import chat as chat_task
from mmjax.tasks import chat_inputs
from mmjax.types import Batch, Params

# Fewest tokens of a prompt's arrays; further sizes are twice the one before.
SMALLEST = 64
# Default of the most tokens that any model may read and write together.
LONGEST = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedPrompt:
  """The model inputs of a conversation that is to be answered.

  Attributes:
    batch: arrays of one example, padded to one of few sizes.
    length: number of tokens, without padding.
  """

  batch: Batch
  length: int


class ChatModel(Protocol):
  """What answers conversations.

  Attributes:
    module: a Linen module whose `text_kinds` have 'continue'.
    params: its parameters.
    end_ids: ids that end an answer.
    sampling: `temperature`, `top_k`, `top_p` and `repetition_penalty`, where a
      request has none.
    logit_processors: the model's other fields of
      `mmjax.decoders.LogitProcessors`.
    max_length: most tokens of a conversation with its answer.
  """

  module: nn.Module
  params: Params
  end_ids: tuple[int, ...]
  sampling: Mapping[str, float]
  logit_processors: Mapping[str, Any]
  max_length: int

  def prepare(self, messages: Sequence[Mapping[str, Any]]) -> PreparedPrompt:
    """Makes arrays of a conversation.

    Args:
      messages: messages, as for `mmjax.data.chat_messages.separate`.

    Raises:
      ConfigError: if the model refuses them.
    """

  def decode(self, ids: Sequence[int]) -> str:
    """The text of an answer."""

  def decode_token(self, token_id: int) -> str:
    """The text of one token."""


class PromptTooLongError(ConfigError):
  """A conversation of as many tokens as the model reads, or more."""


def check_chats(opened: opened_lib.Opened) -> None:
  """Refuses a model that does not chat.

  Raises:
    ConfigError: naming the model.
  """
  if opened.is_run:
    can = 'chat' in dir(opened.model)
  else:
    can = isinstance(opened.model, language_models.PublishedWriter)
  if not can:
    raise ConfigError(
      f'{opened.name} does not chat; give a run of the task chat, or a '
      'published model with a chat template'
    )


def open_chat_model(
  opened: opened_lib.Opened, max_length: int | None = None
) -> ChatModel:
  """The model that an opened one is.

  Args:
    opened: a run of the task chat, or a published model with a chat template.
    max_length: most tokens of a conversation with its answer; None for the
      model's own, at most `LONGEST`.

  Raises:
    ConfigError: if it does not chat, or has fewer positions.
  """
  check_chats(opened)
  model = opened.model
  decoder = model.module.decoder
  if max_length is None:
    max_length = min(decoder.max_length, LONGEST)
  elif max_length > decoder.max_length:
    raise ConfigError(
      f'--max_length={max_length} is more than the {decoder.max_length} '
      'positions of the decoder; make it smaller'
    )
  if isinstance(model, rebuild.Run):
    return RunThatChats(model, max_length)
  published = PublishedChatModel(model, max_length)
  # What these can't read is refused before anyone asks.
  _ = published.end_ids, published.sampling, published.logit_processors
  return published


@dataclasses.dataclass(frozen=True, eq=False)
class PublishedChatModel:
  """A published model; see `ChatModel`."""

  model: language_models.PublishedWriter
  max_length: int

  @property
  def module(self) -> nn.Module:
    return self.model.module

  @property
  def params(self) -> Params:
    return self.model.params

  @property
  def end_ids(self) -> tuple[int, ...]:
    return self.model.chat_end_ids

  @functools.cached_property
  def _settings(self) -> dict[str, Any]:
    settings = self.model.generation_arguments(1, 1, {})
    if settings.get('beam_size', 1) > 1:
      raise ConfigError(
        f'{self.model.generation_file[1]} asks for beam search, but answers '
        'are written token by token; remove num_beams from it'
      )
    # Of requests that sample, where the file does not.
    sampling = self.model.generation_arguments(1, 1, {'temperature': 1.0})
    return {**sampling, 'temperature': settings.get('temperature', 0.0)}

  @property
  def sampling(self) -> dict[str, float]:
    return {
      name: self._settings.get(name, default)
      for name, default in _NEUTRAL.items()
    }

  @property
  def logit_processors(self) -> dict[str, Any]:
    left_out = {'eos_id', 'pad_id', 'text_kind', 'max_new_tokens', *_NEUTRAL}
    return {k: v for k, v in self._settings.items() if k not in left_out}

  def prepare(self, messages: Sequence[Mapping[str, Any]]) -> PreparedPrompt:
    prompt = chats.render_prompt(self.model.chat_template, messages)
    batch, _ = self.model.prepare_prompts([prompt], 1)
    length = int(batch['text_mask'].sum())
    size = find_size(length, self.max_length)
    width = batch['text'].shape[1]

    def pad(path: Any, leaf: Any) -> np.ndarray:
      is_text = path[0].key not in _MEDIA and leaf.shape[1] == width
      return _pad(np.asarray(leaf), size if is_text else None)

    return PreparedPrompt(jax.tree.map_with_path(pad, dict(batch)), length)

  def decode(self, ids: Sequence[int]) -> str:
    return self.model.tokenizer.decode(list(ids))

  def decode_token(self, token_id: int) -> str:
    return self.model.tokenizer.decode([token_id], skip_special_tokens=False)


@dataclasses.dataclass(frozen=True, eq=False)
class RunThatChats:
  """A run of the task chat; see `ChatModel`."""

  run: rebuild.Run
  max_length: int

  @property
  def module(self) -> nn.Module:
    return self.run.module

  @property
  def params(self) -> Params:
    return self.run.params

  @property
  def end_ids(self) -> tuple[int, ...]:
    return tuple(chat_tokenizers.get_end_ids(self.run.tokenizer))

  @property
  def sampling(self) -> dict[str, float]:
    return dict(_NEUTRAL)

  @property
  def logit_processors(self) -> dict[str, Any]:
    return {}

  def prepare(self, messages: Sequence[Mapping[str, Any]]) -> PreparedPrompt:
    task = tasks_base.find_task(self.run, chat_task.Chat)
    feature = self.run.preprocessor[task.target]
    turns, images = chat_inputs.read(messages, feature)
    length = 0

    def pad(number: int) -> int:
      nonlocal length
      length = number
      return find_size(number, self.max_length)

    batch = chat_task.make_batch(self.run, turns, images, 1, pad)
    return PreparedPrompt(batch, length)

  def decode(self, ids: Sequence[int]) -> str:
    return self.run.tokenizer.decode(list(ids))

  def decode_token(self, token_id: int) -> str:
    return self.run.tokenizer.decode_token(token_id)


# Keys of batches with images and sounds, which have sizes of their own.
_MEDIA = (
  'image',
  'image_layout',
  'patches',
  'spectrogram',
  'spectrogram_mask',
)
# Greedy and without a penalty.
_NEUTRAL: Mapping[str, float] = {
  'temperature': 0.0,
  'top_k': 0,
  'top_p': 1.0,
  'repetition_penalty': 1.0,
}


def find_size(number: int, most: int) -> int:
  """Size of the arrays of so many tokens: a power of two, or the largest.

  Raises:
    PromptTooLongError: if no token could follow.
  """
  if number >= most:
    raise PromptTooLongError(
      f'the conversation has {number} tokens, but the model reads and writes '
      f'{most} at most; make it shorter'
    )
  return min(most, max(SMALLEST, _round_up(number)))


def _round_up(number: int) -> int:
  """The next power of two."""
  return 1 << (number - 1).bit_length()


def _pad(array: np.ndarray, size: int | None = None) -> np.ndarray:
  """Pads or cuts [1, n, ...] to `size`, by default the next power of two."""
  size = size or _round_up(array.shape[1])
  number = min(array.shape[1], size)
  out = np.zeros((1, size, *array.shape[2:]), array.dtype)
  out[:, :number] = array[:, :number]
  return out
