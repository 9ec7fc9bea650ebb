"""Published models that generate text."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import decoders
from mmjax.data import chat_ids, chat_messages
from mmjax.data.chat_templates import ChatTemplate, Message
from mmjax.decoders import streaming
from mmjax.errors import ConfigError
from mmjax.pretrained import base, chats, generation_settings
from mmjax.types import Array, Batch

# Prompts are padded to a multiple of this, so that few lengths are compiled.
PAD_MULTIPLE = 16


class PublishedWriter(base.Pretrained):
  """Base of published models that generate text."""

  @functools.cached_property
  def eos_ids(self) -> tuple[int, ...]:
    """Ids that end a text; empty if the folder names none."""
    value = self.special_id('eos_token_id')
    if value is None:
      return ()
    return tuple(base.as_list(value))

  @functools.cached_property
  def pad_id(self) -> int:
    """Id of the padding; if the folder names none, an id that ends a text."""
    value = self.special_id('pad_token_id')
    if value is None or value < 0:
      return self.eos_ids[0] if self.eos_ids else 0
    return value

  def decode(self, prompts: Sequence[Sequence[int]], written: Any) -> list[str]:
    """Decodes generated ids to texts, without the prompts.

    Args:
      prompts: ids of each prompt, without padding. Prompt and new ids are
        decoded together, which keeps the space between them.
      written: `mmjax.decoders.Generated`.
    """
    texts = []
    for row, prompt in enumerate(prompts):
      new = np.asarray(written.tokens[row])[np.asarray(written.mask[row])]
      prompt_text = self.tokenizer.decode(list(prompt))
      text = self.tokenizer.decode([*prompt, *new.tolist()])
      new_text = self.tokenizer.decode(new.tolist())
      is_continued = text.startswith(prompt_text)
      texts.append(text.removeprefix(prompt_text) if is_continued else new_text)
    return texts

  @functools.cached_property
  def chat_template(self) -> ChatTemplate:
    """The folder's own chat template.

    Raises:
      ConfigError: if it has none.
    """
    return chats.find_template(self.files, self.config)

  def chat(
    self,
    messages: Sequence[Message],
    *,
    template: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    **overrides: Any,
  ) -> str:
    """Answers the last message of a conversation.

    The folder's chat template writes the conversation, as in transformers; the
    answer ends with the token with which the template ends one.

    Args:
      messages: messages, such as {'role': 'user', 'content': 'what is it?'}; a
        content may also be a list with images, see
        `mmjax.data.chat_messages.separate`.
      template: name of the template, where the folder has several; None for its
        default.
      tools: descriptions of tools, as JSON schemas, for templates that write
        them.
      variables: further variables of the template, such as `enable_thinking`.
      max_new_tokens: largest number of new tokens; None for the file's, or 64.
      seed: seed of sampling.
      stop: strings that end the answer, and don't belong to it.
      **overrides: arguments that override the file's, as in `generate`.

    Raises:
      ConfigError: if the folder has no chat template, or it refuses the
        messages; it names the turn.
    """
    prompt = chats.render_prompt(
      self.chat_template,
      messages,
      name=template,
      tools=tools,
      variables=variables,
    )
    (answer,) = self.continue_batch(
      *self.prepare_prompts([prompt], max_new_tokens),
      max_new_tokens=max_new_tokens,
      seed=seed,
      stop=stop,
      eos_id=self.chat_end_ids,
      **overrides,
    )
    return answer

  def score_options(
    self,
    messages: Sequence[Message],
    options: Sequence[str],
    *,
    template: str | None = None,
    variables: Mapping[str, Any] | None = None,
  ) -> dict[str, float]:
    """Log-probability of each option as the answer to a conversation.

    An option is the whole answer, with the token that ends it; the likeliest is
    `max(scores, key=scores.get)`. The conversation is computed once.

    Args:
      messages: messages, as for `chat`.
      options: the answers to choose from.
      template: name of the template, as for `chat`.
      variables: further variables of the template.

    Returns:
      The log-probabilities by option, in their order.

    Raises:
      ConfigError: as `chat` does; or for no option, or one twice.
    """
    options = chat_messages.check_options(options)
    settings = {'name': template, 'variables': variables}
    prompt = chats.render_prompt(self.chat_template, messages, **settings)
    rows = [
      self._tokenize_option(
        prompt.text,
        chats.write_answered(self.chat_template, messages, option, **settings),
      )
      for option in options
    ]
    ids, mask = base.pad_rows(rows, self.pad_id, multiple_of=PAD_MULTIPLE // 2)
    batch, _ = self.prepare_prompts([prompt], ids.shape[1])
    scores = self.jit_method('score_options', text_kind='continue')(
      self.params, batch, options=ids[None], options_mask=mask[None]
    )
    return dict(zip(options, np.asarray(scores)[0].tolist(), strict=True))

  def _tokenize_option(self, prompt: str, answered: str) -> list[int]:
    """Tokens of an answer: those behind the prompt in the whole conversation.

    Where the tokenizer merges the two, the answer's are those of its own text.
    """
    before, ids = map(self.tokenize_chat, (prompt, answered))
    ids = (
      ids[len(before) :]
      if ids[: len(before)] == before
      else self.tokenizer.encode(
        answered[len(prompt) :], add_special_tokens=False
      ).ids
    )
    ends = [at for at, one in enumerate(ids) if one in self.chat_end_ids]
    return ids[: ends[0] + 1] if ends else ids

  @functools.cached_property
  def chat_end_ids(self) -> tuple[int, ...]:
    """Ids that end an answer: of a text, and of the assistant's turn."""
    ends = chat_ids.find_end(self.tokenizer, self.chat_template)
    return tuple(dict.fromkeys([*self.eos_ids, *ends]))

  def tokenize_chat(self, text: str) -> list[int]:
    """Tokenizes a text by a chat template, whose special tokens it knows."""
    return self.tokenize_rows([text], add_special_tokens=False)[0]

  def prepare_prompts(
    self,
    prompts: Sequence[chats.RenderedPrompt],
    max_new_tokens: int | None = None,
  ) -> tuple[Batch, list[list[int]]]:
    """Makes the input of the module from conversations.

    Args:
      prompts: conversations, as a chat template wrote them.
      max_new_tokens: largest number of tokens that will be written, for which
        padding leaves room; None for the file's, or 64.

    Returns:
      A batch, whose arrays have zeros behind where an example is shorter, and
      the ids of each text without placeholders of images.

    Raises:
      ConfigError: if the model doesn't continue texts.
    """
    raise ConfigError(
      f'a {self.config.get("model_type")} does not continue conversations; '
      'use generate'
    )

  def continue_batch(
    self,
    batch: Batch,
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | None = None,
    seed: int | Sequence[int] = 0,
    stop: str | Sequence[str] = (),
    **overrides: Any,
  ) -> list[str]:
    """Continues prompts that are prepared.

    Args:
      batch: with `text_mask` [B, T].
      rows: ids of each text without placeholders of images.
      max_new_tokens: largest number of new tokens, as in `generate`.
      seed: seed, as in `generate`.
      stop: stop, as in `generate`.
      **overrides: as in `generate`.
    """
    prompt_length = int(batch['text_mask'].sum(axis=1).max())
    arguments = self.generation_arguments(
      max_new_tokens, prompt_length, overrides
    )
    if stop := streaming.check_stop(stop, overrides):
      arguments |= self._watch_for(stop, len(rows), arguments)
    program = self.jit_method('generate', **arguments)
    written = program(self.params, batch, rng=decoders.make_keys(seed))
    texts = self.decode(rows, written)
    return [streaming.cut(text, stop) for text in texts]

  def _watch_for(
    self, stop: Sequence[str], number: int, arguments: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Arguments with which texts end early, at a stop string."""
    if arguments.get('beam_size', 1) > 1:
      return {}  # Its texts are written all the way, then cut.
    strings = streaming.stop_strings_of(self.tokenizer)
    strings.start(number, stop, base.as_list(arguments['eos_id']))
    return {'on_tokens': strings}

  @functools.cached_property
  def generation_file(self) -> tuple[Mapping[str, Any], str]:
    """The file's settings of generation, and its name."""
    return generation_settings.read(self.files, self.config)

  def generation_arguments(
    self,
    max_new_tokens: int | None,
    prompt_length: int,
    overrides: Mapping[str, Any],
  ) -> dict[str, Any]:
    """Arguments of the module's `generate`: the caller's, then the file's.

    Args:
      max_new_tokens: largest number of new tokens; None for the file's.
      prompt_length: number of tokens of the longest prompt.
      overrides: further arguments of the caller's.

    Raises:
      ConfigError: for a setting of the file that mmjax refuses.
    """
    file_settings, file = self.generation_file
    return {
      'eos_id': self.eos_ids,
      'pad_id': self.pad_id,
      'text_kind': 'continue',
      **generation_settings.arguments(
        file_settings, file, overrides, eos_ids=self.eos_ids
      ),
      'max_new_tokens': self.find_max_new_tokens(max_new_tokens, prompt_length),
    }

  def find_max_new_tokens(
    self, max_new_tokens: int | None, prompt_length: int
  ) -> int:
    """Largest number of new tokens, as in `generation_arguments`."""
    return generation_settings.find_max_new_tokens(
      *self.generation_file, max_new_tokens, prompt_length
    )

  @functools.cached_property
  def _forward(self):
    return jax.jit(
      lambda params, batch: self.module.apply(
        {'params': params}, batch, train=False
      )
    )

  def special_id(self, name: str) -> Any:
    """A special id; generation_config.json takes precedence."""
    file_settings, _ = self.generation_file
    text = self.config.get('text_config') or {}
    for section in (file_settings, self.config, text):
      if section.get(name) is not None:
        return section[name]
    return None


class PublishedLanguageModel(PublishedWriter):
  """GPT-2, Llama and similar models."""

  def logits(self, texts: str | Sequence[str]) -> Array:
    """Logits [B, T, V] of the next token at each position of texts."""
    ids, mask = self.tokenize(texts)
    batch = {'text': ids, 'text_mask': mask}
    return self._forward(self.params, batch)['text_logits']

  def generate(
    self,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int | None = None,
    seed: int | Sequence[int] = 0,
    stop: str | Sequence[str] = (),
    **overrides: Any,
  ) -> list[str]:
    """Continues prompts, with the settings of generation_config.json.

    Greedy, unless the file or an argument says otherwise.

    Args:
      prompts: the exact text that the model reads, one or several; no chat
        template is added, see `chat`.
      max_new_tokens: largest number of new tokens; None for the file's, or 64.
      seed: seed of sampling; or one for each prompt, so that what a prompt
        gets does not depend on the others.
      stop: strings that end a text, and don't belong to it.
      **overrides: arguments that override the file's: `temperature` (0 is
        greedy), `top_k`, `top_p`, `beam_size`, `repetition_penalty` and more of
        `mmjax.models.generation.TextGenerator.generate`.

    Returns:
      The continuation of each prompt.

    Raises:
      ConfigError: for a setting of the file that mmjax refuses, or another
        number of seeds.
    """
    return self.continue_batch(
      *self._prepare(self.tokenize_rows(prompts), max_new_tokens),
      max_new_tokens=max_new_tokens,
      seed=seed,
      stop=stop,
      **overrides,
    )

  def prepare_prompts(
    self,
    prompts: Sequence[chats.RenderedPrompt],
    max_new_tokens: int | None = None,
  ) -> tuple[Batch, list[list[int]]]:
    if any(prompt.media for prompt in prompts):
      raise ConfigError('the model reads no images; leave them out')
    rows = [self.tokenize_chat(prompt.text) for prompt in prompts]
    return self._prepare(rows, max_new_tokens)

  def _prepare(
    self, rows: list[list[int]], max_new_tokens: int | None
  ) -> tuple[Batch, list[list[int]]]:
    number = self.find_max_new_tokens(max_new_tokens, max(map(len, rows)))
    ids, mask = self._pad(rows, number)
    return {'text': ids, 'text_mask': mask}, rows

  def tokenize(
    self, texts: str | Sequence[str], max_new_tokens: int = 1
  ) -> tuple[Array, Array]:
    """Tokenizes texts to ids [B, T] and a mask [B, T], padded on the right.

    Args:
      texts: one text or several.
      max_new_tokens: number of tokens to generate, for which positions are
        left.
    """
    return self._pad(self.tokenize_rows(texts), max_new_tokens)

  def _pad(
    self, rows: Sequence[Sequence[int]], max_new_tokens: int
  ) -> tuple[Array, Array]:
    most = self.module.decoder.max_length - max_new_tokens + 1
    ids, mask = base.pad_rows(
      rows, self.pad_id, multiple_of=PAD_MULTIPLE, most=most
    )
    return jnp.asarray(ids), jnp.asarray(mask)
