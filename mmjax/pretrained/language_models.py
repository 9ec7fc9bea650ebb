"""Published models that generate text."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import chat_ids
from mmjax.data.chat_templates import ChatTemplate, Message
from mmjax.errors import ConfigError
from mmjax.pretrained import base, chats, generation
from mmjax.types import Array

# Prompts are padded to a multiple of this, so that few lengths are compiled.
STEP = 16


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
    **overrides: Any,
  ) -> str:
    """Answers the last message of a conversation.

    The folder's chat template writes the conversation, as in transformers; the
    answer ends with the token with which the template ends one.

    Args:
      messages: such as {'role': 'user', 'content': 'what is it?'}; a content
        may also be a list with images, see
        `mmjax.data.chat_messages.separate`.
      template: name of the template, where the folder has several; None for its
        default.
      tools: descriptions of tools, as JSON schemas, for templates that write
        them.
      variables: further variables of the template, such as `enable_thinking`.
      max_new_tokens: largest number of new tokens; None for the file's, or 64.
      seed: seed of sampling.
      **overrides: arguments that override the file's, as in `generate`.

    Raises:
      ConfigError: if the folder has no chat template, or it refuses the
        messages; it names the turn.
    """
    prompt = chats.make_prompt(
      self.chat_template,
      messages,
      name=template,
      tools=tools,
      variables=variables,
    )
    ends = chat_ids.find_end(self.tokenizer, self.chat_template)
    (answer,) = self.write(
      [prompt],
      max_new_tokens=max_new_tokens,
      seed=seed,
      eos_id=tuple(dict.fromkeys([*self.eos_ids, *ends])),
      **overrides,
    )
    return answer

  def write(
    self, prompts: Sequence[chats.Prompt], **settings: Any
  ) -> list[str]:
    """Continues conversations that a chat template wrote.

    Args:
      prompts: the conversations.
      **settings: arguments of `generate`.

    Raises:
      ConfigError: if the model doesn't continue texts.
    """
    raise ConfigError(
      f'a {self.config.get("model_type")} does not continue conversations; '
      'use generate'
    )

  @functools.cached_property
  def generation_file(self) -> tuple[Mapping[str, Any], str]:
    """The file's settings of generation, and its name."""
    return generation.read(self.files, self.config)

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
      'output': 'continue',
      **generation.arguments(
        file_settings, file, overrides, eos_ids=self.eos_ids
      ),
      'max_new_tokens': generation.find_max_new_tokens(
        file_settings, file, max_new_tokens, prompt_length
      ),
    }

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
    seed: int = 0,
    **overrides: Any,
  ) -> list[str]:
    """Continues prompts, with the settings of generation_config.json.

    Greedy, unless the file or an argument says otherwise.

    Args:
      prompts: the exact text that the model reads, one or several; no chat
        template is added, see `chat`.
      max_new_tokens: largest number of new tokens; None for the file's, or 64.
      seed: seed of sampling.
      **overrides: arguments that override the file's: `temperature` (0 is
        greedy), `top_k`, `top_p`, `beam_size`, `repetition_penalty` and more of
        `mmjax.models.writing.Writer.generate`.

    Returns:
      The continuation of each prompt.

    Raises:
      ConfigError: for a setting of the file that mmjax refuses.
    """
    return self._continue(
      self.tokenize_rows(prompts), max_new_tokens, seed, overrides
    )

  def write(
    self,
    prompts: Sequence[chats.Prompt],
    *,
    max_new_tokens: int | None = None,
    seed: int = 0,
    **overrides: Any,
  ) -> list[str]:
    if any(prompt.media for prompt in prompts):
      raise ConfigError('the model reads no images; leave them out')
    texts = [prompt.text for prompt in prompts]
    # The template has written the special tokens.
    rows = self.tokenize_rows(texts, add_special_tokens=False)
    return self._continue(rows, max_new_tokens, seed, overrides)

  def _continue(
    self,
    rows: Sequence[Sequence[int]],
    max_new_tokens: int | None,
    seed: int,
    overrides: Mapping[str, Any],
  ) -> list[str]:
    """Continues prompts of ids; see `generate`."""
    arguments = self.generation_arguments(
      max_new_tokens, max(map(len, rows)), overrides
    )
    ids, mask = self._pad(rows, arguments['max_new_tokens'])
    program = self.jit_method('generate', **arguments)
    written = program(
      self.params, {'text': ids, 'text_mask': mask}, rng=jax.random.key(seed)
    )
    rows = [
      row[row_mask].tolist()
      for row, row_mask in zip(np.asarray(ids), np.asarray(mask), strict=True)
    ]
    return self.decode(rows, written)

  def tokenize(
    self, texts: str | Sequence[str], room: int = 1
  ) -> tuple[Array, Array]:
    """Tokenizes texts to ids [B, T] and a mask [B, T], padded on the right.

    Args:
      texts: one text or several.
      room: number of tokens to generate; padding leaves so many positions.
    """
    return self._pad(self.tokenize_rows(texts), room)

  def _pad(
    self, rows: Sequence[Sequence[int]], room: int
  ) -> tuple[Array, Array]:
    most = self.module.decoder.max_length - room + 1
    ids, mask = base.pad_rows(rows, self.pad_id, step=STEP, most=most)
    return jnp.asarray(ids), jnp.asarray(mask)
