"""Published models that caption, answer, and match pictures with texts."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, generation
from mmjax.types import Array, Batch


class PublishedImageTextModel(base.Pretrained):
  """BLIP and its kin; a checkpoint does what it was trained for."""

  def caption(
    self,
    pictures: Any,
    prompt: str = '',
    *,
    max_new_tokens: int = 20,
    **settings: Any,
  ) -> list[str]:
    """Describes pictures.

    Args:
      pictures: see `pixels`.
      prompt: what each caption begins with.
      max_new_tokens: what is written after it at most.
      **settings: further arguments of `models.EncoderDecoder.generate`, such as
        `beam_size`.

    Raises:
      ConfigError: if the checkpoint writes no captions.
    """
    writes = isinstance(self.module, models.EncoderDecoder)
    self._check(writes and self.module.question is None, 'caption')
    images = self.pixels(pictures)
    start = self.tokenizer.encode(prompt, add_special_tokens=False).ids
    ids = jnp.asarray([[self.module.bos_id, *start]] * len(images), jnp.int32)
    batch = {
      'image': images,
      'prompt': ids,
      'prompt_mask': jnp.ones(ids.shape, bool),
    }
    written = self._write('caption', batch, max_new_tokens, settings)
    return [self._decode([*start, *ids]) for ids in written]

  def answer(
    self,
    pictures: Any,
    questions: str | Sequence[str],
    *,
    max_new_tokens: int = 20,
    **settings: Any,
  ) -> list[str]:
    """Answers a question about each picture.

    Args:
      pictures: see `pixels`; one for each question.
      questions: as many.
      max_new_tokens: what is written at most.
      **settings: further arguments of `models.EncoderDecoder.generate`.

    Raises:
      ConfigError: if the checkpoint answers no questions, or there are not as
        many pictures as questions.
    """
    writes = isinstance(self.module, models.EncoderDecoder)
    self._check(writes and self.module.question is not None, 'answer')
    batch = self._pairs(pictures, questions, 'question')
    written = self._write('answer', batch, max_new_tokens, settings)
    return [self._decode(ids) for ids in written]

  def match(self, pictures: Any, texts: str | Sequence[str]) -> Array:
    """How probable it is that each picture and text belong together, [B].

    Args:
      pictures: see `pixels`; one for each text.
      texts: as many.

    Raises:
      ConfigError: if the checkpoint matches nothing, or there are not as many
        pictures as texts.
    """
    self._check(self._matches, 'match')
    batch = self._pairs(pictures, texts, 'text')
    logits = self.compiled('match')(self.params, batch)
    return jax.nn.softmax(logits)[:, 1]

  def encode_image(self, pictures: Any) -> Array:
    """Unit vectors [B, E] of pictures, of a checkpoint that matches."""
    self._check(self._matches, 'embed')
    return self.compiled('encode_image')(self.params, self.pixels(pictures))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Unit vectors [B, E] of texts, of a checkpoint that matches."""
    self._check(self._matches, 'embed')
    return self.compiled('encode_text')(self.params, *self.tokenize(texts))

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], T being the longest text's."""
    encoded = self.tokenizer.encode_batch(base.listed(texts))
    ids, mask = base.padded(
      [one.ids for one in encoded], self._special('pad_token_id', 0)
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def _matches(self) -> bool:
    return isinstance(self.module, models.ImageTextMatcher)

  def _check(self, able: bool, what: str) -> None:
    if not able:
      raise ConfigError(
        f'the checkpoint is a {self.config.get("architectures")}, which does '
        f'not {what}; open one that was trained to'
      )

  def _pairs(self, pictures: Any, texts: Any, name: str) -> Batch:
    images = self.pixels(pictures)
    ids, mask = self.tokenize(texts)
    if len(images) != len(ids):
      raise ConfigError(
        f'{len(images)} pictures and {len(ids)} texts make no pairs; give as '
        'many of each'
      )
    return {'image': images, name: ids, f'{name}_mask': mask}

  def _write(
    self, task: str, batch: Batch, length: int, settings: dict[str, Any]
  ) -> list[list[int]]:
    generation.refuse_unread(*generation.read(self.files, self.config))
    generate = self.compiled(
      'generate',
      task=task,
      length=length,
      eos_id=self._special('sep_token_id', 102),
      pad_id=self._special('pad_token_id', 0),
      **settings,
    )
    written = jax.device_get(generate(self.params, batch))
    return [
      ids[mask].tolist()
      for ids, mask in zip(written.tokens, written.mask, strict=True)
    ]

  def _decode(self, ids: list[int]) -> str:
    return self.tokenizer.decode(ids, skip_special_tokens=True)

  def _special(self, name: str, default: int) -> int:
    return (self.config.get('text_config') or {}).get(name, default)
