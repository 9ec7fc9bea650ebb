"""Published models that caption, answer, and match images with texts."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import models
from mmjax.errors import ConfigError
from mmjax.pretrained import base, generation_settings
from mmjax.types import Array, Batch


class PublishedImageTextModel(base.Pretrained):
  """BLIP; a checkpoint has only the methods of the task it was trained for."""

  def caption(
    self,
    images: Any,
    prompt: str = '',
    *,
    max_new_tokens: int = 20,
    **settings: Any,
  ) -> list[str]:
    """Writes captions of images.

    Args:
      images: one image or several, as for `preprocess`.
      prompt: beginning of each caption.
      max_new_tokens: largest number of tokens after the prompt.
      **settings: further arguments of `models.EncoderDecoder.generate`, such as
        `beam_size`.

    Raises:
      ConfigError: if the checkpoint writes no captions.
    """
    self._check(self.task == 'caption', 'caption')
    pixels = self.preprocess(images)
    start = self.tokenizer.encode(prompt, add_special_tokens=False).ids
    ids = jnp.asarray([[self.module.bos_id, *start]] * len(pixels), jnp.int32)
    batch = {
      'image': pixels,
      'decoder_prompt': ids,
      'decoder_prompt_mask': jnp.ones(ids.shape, bool),
    }
    written = self._write('caption', batch, max_new_tokens, settings)
    return [self.decode([*start, *ids]) for ids in written]

  def answer(
    self,
    images: Any,
    questions: str | Sequence[str],
    *,
    max_new_tokens: int = 20,
    **settings: Any,
  ) -> list[str]:
    """Answers a question about each image.

    Args:
      images: images as for `preprocess`, one for each question.
      questions: one question or several.
      max_new_tokens: largest number of tokens of an answer.
      **settings: further arguments of `models.EncoderDecoder.generate`.

    Raises:
      ConfigError: if the checkpoint answers no questions, or images and
        questions differ in number.
    """
    self._check(self.task == 'answer', 'answer')
    batch = self._make_pairs(images, questions, 'question')
    written = self._write('answer', batch, max_new_tokens, settings)
    return [self.decode(ids) for ids in written]

  def match(self, images: Any, texts: str | Sequence[str]) -> Array:
    """Probability [B] that each image and text match.

    Args:
      images: images as for `preprocess`, one for each text.
      texts: one text or several.

    Raises:
      ConfigError: if the checkpoint was not trained to match, or images and
        texts differ in number.
    """
    self._check(self.embeds, 'match')
    batch = self._make_pairs(images, texts, 'text')
    logits = self.jit_method('match')(self.params, batch)
    return jax.nn.softmax(logits)[:, 1]

  def encode_image(self, images: Any) -> Array:
    """Encodes images to unit vectors [B, E], if the checkpoint matches."""
    self._check(self.embeds, 'embed')
    return self.jit_method('encode_image')(self.params, self.preprocess(images))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Encodes texts to unit vectors [B, E], if the checkpoint matches."""
    self._check(self.embeds, 'embed')
    return self.jit_method('encode_text')(self.params, *self.tokenize(texts))

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Tokenizes texts to ids [B, T] and a mask [B, T]."""
    ids, mask = base.pad_rows(
      self.tokenize_rows(texts),
      self._special_id('pad_token_id', 0),
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  def generation_settings(self, max_new_tokens: int) -> dict[str, int]:
    """Arguments of the module's `generate`, beside the task.

    Args:
      max_new_tokens: largest number of tokens to write.

    Raises:
      ConfigError: for a setting of generation_config.json that isn't used.
    """
    generation_settings.refuse_unread(
      *generation_settings.read(self.files, self.config)
    )
    return {
      'max_new_tokens': max_new_tokens,
      'eos_id': self._special_id('sep_token_id', 102),
      'pad_id': self._special_id('pad_token_id', 0),
    }

  @property
  def embeds(self) -> bool:
    """Whether the checkpoint was trained to match and to embed."""
    return isinstance(self.module, models.ImageTextMatcher)

  @property
  def task(self) -> str:
    """What the checkpoint was trained for: 'match', 'caption' or 'answer'."""
    if self.embeds:
      return 'match'
    return 'caption' if self.module.question is None else 'answer'

  def _check(self, is_able: bool, what: str) -> None:
    if not is_able:
      raise ConfigError(
        f'the checkpoint is a {self.config.get("architectures")}, which does '
        f'not {what}; open one that was trained to'
      )

  def _make_pairs(self, images: Any, texts: Any, name: str) -> Batch:
    pixels = self.preprocess(images)
    ids, mask = self.tokenize(texts)
    if len(pixels) != len(ids):
      raise ConfigError(
        f'{len(pixels)} images and {len(ids)} texts make no pairs; give as '
        'many of each'
      )
    return {'image': pixels, name: ids, f'{name}_mask': mask}

  def _write(
    self,
    text_kind: str,
    batch: Batch,
    max_new_tokens: int,
    settings: dict[str, Any],
  ) -> list[list[int]]:
    arguments = self.generation_settings(max_new_tokens)
    generate = self.jit_method(
      'generate', text_kind=text_kind, **arguments, **settings
    )
    written = jax.device_get(generate(self.params, batch))
    return [
      ids[mask].tolist()
      for ids, mask in zip(written.tokens, written.mask, strict=True)
    ]

  def decode(self, ids: list[int]) -> str:
    """Decodes ids without special tokens."""
    return self.tokenizer.decode(ids, skip_special_tokens=True)

  def _special_id(self, name: str, default: int) -> int:
    return (self.config.get('text_config') or {}).get(name, default)
