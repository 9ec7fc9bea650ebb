"""Published models that read and write text."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.pretrained import base, generation
from mmjax.types import Array

# Prompts are padded to a multiple of it, so that few lengths are compiled.
STEP = 16


class PublishedWriter(base.Pretrained):
  """What published models that write text have in common."""

  @functools.cached_property
  def eos_ids(self) -> tuple[int, ...]:
    """Ids that end a text; none where the folder names none."""
    given = self.special('eos_token_id')
    if given is None:
      return ()
    return tuple(base.listed(given))

  @functools.cached_property
  def pad_id(self) -> int:
    """The id that fills up; where the folder names none, one that ends."""
    given = self.special('pad_token_id')
    if given is None or given < 0:
      return self.eos_ids[0] if self.eos_ids else 0
    return given

  def decode(self, prompts: Sequence[Sequence[int]], written: Any) -> list[str]:
    """Texts of what was written, without the prompts.

    Args:
      prompts: ids of each prompt, without padding; what begins a word after
        them is read as such.
      written: `mmjax.decoders.Generated`.
    """
    texts = []
    for row, prompt in enumerate(prompts):
      new = np.asarray(written.tokens[row])[np.asarray(written.mask[row])]
      before = self.tokenizer.decode(list(prompt))
      whole = self.tokenizer.decode([*prompt, *new.tolist()])
      alone = self.tokenizer.decode(new.tolist())
      known = whole.startswith(before)
      texts.append(whole.removeprefix(before) if known else alone)
    return texts

  @functools.cached_property
  def generation(self) -> tuple[Mapping[str, Any], str]:
    """Settings of writing, and the name of the file that has them."""
    return generation.read(self.files, self.config)

  def generation_settings(
    self, max_new_tokens: int | None, prompt: int, asked: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Arguments of the module's `generate`: the caller's, then the file's.

    Args:
      max_new_tokens: see `generate`.
      prompt: how many tokens the longest prompt has.
      asked: further arguments of the caller's.

    Raises:
      ConfigError: for a setting of the file's that mmjax refuses.
    """
    given, file = self.generation
    return {
      'eos_id': self.eos_ids,
      'pad_id': self.pad_id,
      'task': 'continue',
      **generation.arguments(given, file, asked, eos_ids=self.eos_ids),
      'length': generation.length(given, file, max_new_tokens, prompt),
    }

  @functools.cached_property
  def _reader(self):
    return jax.jit(
      lambda params, batch: self.module.apply(
        {'params': params}, batch, train=False
      )
    )

  def special(self, name: str) -> Any:
    """A special id, where generation goes first."""
    given, _ = self.generation
    text = self.config.get('text_config') or {}
    for place in (given, self.config, text):
      if place.get(name) is not None:
        return place[name]
    return None


class PublishedLanguageModel(PublishedWriter):
  """GPT-2, Llama and their kin."""

  def logits(self, texts: str | Sequence[str]) -> Array:
    """Logits [B, T, V] of the token after each of a text, see `tokenize`."""
    ids, mask = self.tokenize(texts)
    batch = {'text': ids, 'text_mask': mask}
    return self._reader(self.params, batch)['text_logits']

  def generate(
    self,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int | None = None,
    seed: int = 0,
    **settings: Any,
  ) -> list[str]:
    """Writes on from prompts, as generation_config.json says.

    Without the file, or where it is silent, greedily.

    Args:
      prompts: one or several; each is read as it is.
      max_new_tokens: what is written at most; None for what the file says, or
        64.
      seed: of sampling.
      **settings: come before the file's: `temperature` (0 is greedy), `top_k`,
        `top_p`, `beam_size`, `repetition_penalty` and others of
        `mmjax.models.writing.Writer.generate`.

    Returns:
      What was written after each prompt.

    Raises:
      ConfigError: for a setting of the file's that mmjax refuses.
    """
    encoded = self._encoded(prompts)
    asked = self.generation_settings(
      max_new_tokens, max(map(len, encoded)), settings
    )
    ids, mask = self._padded(encoded, asked['length'])
    program = self.compiled('generate', **asked)
    written = program(
      self.params, {'text': ids, 'text_mask': mask}, rng=jax.random.key(seed)
    )
    rows = [
      row[kept].tolist()
      for row, kept in zip(np.asarray(ids), np.asarray(mask), strict=True)
    ]
    return self.decode(rows, written)

  def tokenize(
    self, texts: str | Sequence[str], room: int = 1
  ) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], padded on the right.

    Args:
      texts: one or several.
      room: how many tokens will follow; the model's longest text is not
        filled up beyond what leaves it.
    """
    return self._padded(self._encoded(texts), room)

  def _encoded(self, texts: str | Sequence[str]) -> list[list[int]]:
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    return [one.ids for one in encoded]

  def _padded(
    self, rows: Sequence[Sequence[int]], room: int
  ) -> tuple[Array, Array]:
    most = self.module.decoder.max_length - room + 1
    ids, mask = base.padded(rows, self.pad_id, step=STEP, most=most)
    return jnp.asarray(ids), jnp.asarray(mask)
