"""Published models that generate text."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.pretrained import base, generation
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
        template is added.
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
    rows = self.tokenize_rows(prompts)
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
