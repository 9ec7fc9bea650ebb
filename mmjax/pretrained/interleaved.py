"""Published language models with images or sounds among their words."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from mmjax.data import chat_ids, video_files
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import base, chats, language_models
from mmjax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class PlaceholderExpansion:
  """What replaces the placeholder of an image before a prompt is tokenised.

  Attributes:
    mark: what stands for the image in a prompt.
    parts: the texts and tokens that are read in its place, with the placeholder
      once.
  """

  mark: str
  parts: tuple[str, ...]


class PublishedInterleaved(language_models.PublishedWriter):
  """A language model with images, or other media, among its words.

  A prompt has the model's own placeholder, such as `<image>`, for each of them.

  Attributes:
    media: what they are, for errors.
    samples_videos: whether it reads video files, of which it samples frames.
  """

  media: ClassVar[str] = 'images'
  samples_videos: ClassVar[bool] = False

  @classmethod
  def read_expansion(
    cls,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    find_token: Callable[[int], str | None],
  ) -> PlaceholderExpansion | None:
    """What is read for an image; None for what stands in the prompt.

    Args:
      config: the contents of config.json.
      tokenizer_config: content of tokenizer_config.json; {} without
        the file.
      find_token: id -> the tokenizer's token, None if it has none.

    Raises:
      ConfigError: if the tokenizer lacks a token.
    """
    del config, tokenizer_config, find_token
    return None

  @functools.cached_property
  def image_text(self) -> PlaceholderExpansion | None:
    """What is read for an image, by `read_expansion`."""
    return self.read_expansion(
      self.config, self.tokenizer_config, self.tokenizer.id_to_token
    )

  def logits(self, images: Sequence[Any], texts: str | Sequence[str]) -> Array:
    """Logits [B, T, V] of the next token at each position of texts.

    Args:
      images: images of each text, as for `generate`.
      texts: one text or several, as many as entries of `images`.
    """
    batch, _ = self.prepare_batch(images, texts)
    return self._forward(self.params, batch)['text_logits']

  def generate(
    self,
    images: Sequence[Any],
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
      images: one entry or a list with an entry for each prompt: an image as for
        `pixels`, or a list of images in the order of the placeholders.
      prompts: the exact text that the model reads, one or several, as many as
        entries of `images`; no chat template is added.
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
      ConfigError: if images and prompts, or a prompt's placeholders, differ
        in number; for a setting of the file that mmjax refuses; or for
        another number of seeds.
    """
    return self.continue_batch(
      *self.prepare_batch(images, prompts),
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
    del max_new_tokens  # Rotary positions have no table to leave room in.
    return self.prepare_batch(
      [list(prompt.media) for prompt in prompts],
      [prompt.text for prompt in prompts],
      is_chat=True,
    )

  def prepare_batch(
    self, images: Any, texts: str | Sequence[str], *, is_chat: bool = False
  ) -> tuple[Batch, list[list[int]]]:
    """Makes the input of the module from images and texts, see `generate`.

    Args:
      images: images of each text.
      texts: one text or several.
      is_chat: whether a chat template wrote the texts.

    Returns:
      A batch, and the ids of each text without its placeholders.
    """
    texts = base.as_list(texts)
    rows = [base.as_list(entry) for entry in base.as_list(images)]
    if len(rows) != len(texts):
      raise ConfigError(
        f'{len(rows)} entries of {self.media} do not match {len(texts)} texts; '
        'give one entry, or a list, for each text'
      )
    has_files = any(
      isinstance(image, video_files.VideoFile) for row in rows for image in row
    )
    if has_files and not self.samples_videos:
      raise ConfigError(
        f'{type(self).__module__.rpartition(".")[2]} reads no video files in '
        'messages; pass the frames of a video, uint8 [F, H, W, 3], if it reads '
        'videos'
      )
    image_arrays, grids = self.prepare_images(rows)
    ids = [
      self._expand_placeholders(text, text_grids, is_chat=is_chat)
      for text, text_grids in zip(texts, grids, strict=True)
    ]
    text, mask = base.pad_rows(
      ids, self.pad_id, multiple_of=language_models.PAD_MULTIPLE
    )
    batch = {
      'text': jnp.asarray(text),
      'text_mask': jnp.asarray(mask),
      **image_arrays,
    }
    batch |= self.rotary_positions(ids, text.shape[1], grids)
    placeholders = self.module.placeholders
    words = [[i for i in row.tolist() if i not in placeholders] for row in ids]
    return batch, words

  def _expand_placeholders(
    self, text: str, grids: Sequence[packing.Grid], *, is_chat: bool
  ) -> np.ndarray:
    """Tokenizes a text; each token of an image gets a placeholder."""
    placeholders = self.module.placeholders
    if is_chat:
      ids = self.tokenize_chat(text)
    else:
      ids = self.tokenize_prompt(text, len(grids))
    present = [token_id for token_id in ids if token_id in placeholders]
    expected = [
      placeholders[-1 if grid.sound else int(grid.video)] for grid in grids
    ]
    if present != expected:
      raise ConfigError(
        f'a text has the placeholders {present}, but its {self.media} need '
        f'{expected}; it is {text!r}'
      )
    remaining = iter(grids)
    return np.concatenate(
      [
        [token_id] * (next(remaining).tokens if token_id in placeholders else 1)
        for token_id in ids
      ]
    ).astype(np.int32)

  def prepare_images(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """Preprocesses images.

    Args:
      rows: images of each text.

    Returns:
      Keys of the batch, and the grid of tokens of each image of each text.
    """
    raise NotImplementedError

  def rotary_positions(
    self,
    ids: Sequence[np.ndarray],
    length: int,
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Rotary positions of all tokens, as keys of the batch; none by default.

    Args:
      ids: ids of each text, without padding.
      length: length of the texts with padding.
      grids: grids of the images of each text.
    """
    return {}

  def tokenize_prompt(self, text: str, number: int) -> list[int]:
    """Tokenizes a prompt to ids, with one placeholder for each image.

    Args:
      text: the prompt, which contains the placeholders here.
      number: number of its images.
    """
    return self.tokenizer.encode(self._write_images(text)).ids

  def tokenize_chat(self, text: str) -> list[int]:
    """Tokenizes a text that a chat template wrote.

    As in transformers, it gets the tokenizer's first and last tokens unless it
    begins with the first one.
    """
    text = self._write_images(text)
    adds = not chat_ids.begins_whole(self.tokenizer, text)
    return self.tokenizer.encode(text, add_special_tokens=adds).ids

  def _write_images(self, text: str) -> str:
    """A prompt with what is read for each image in its place."""
    image = self.image_text
    return text.replace(image.mark, ''.join(image.parts)) if image else text


def is_video(image: Any) -> bool:
  """Whether an image is an array of frames."""
  return isinstance(image, np.ndarray) and image.ndim == 4
