"""Published models that write text about pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import base, language_models, names
from mmjax.types import Array, Batch

# Two ways to name the same: transformers 4.52 to 4.57, and before 5.
ALIASES = (
  (r'model\.(?=vision_tower|multi_modal_projector)', ''),
  (r'model\.language_model\.', 'language_model.model.'),
  (r'lm_head\.', 'language_model.lm_head.'),
  (r'vision_tower\.vision_model\.', 'vision_tower.'),
)
_SEPARATE = {'tie_word_embeddings': False}
TIES = (
  names.Tie(
    'language_model.model.embed_tokens.weight',
    'language_model.lm_head.weight',
    {**_SEPARATE, 'text_config': _SEPARATE},
  ),
)


class PublishedVisionLanguage(language_models.PublishedWriter):
  """LLaVA and its kin: pictures of one size, each as many tokens.

  A prompt says where its pictures are seen, by the model's own placeholder,
  such as `<image>`.
  """

  def logits(
    self, pictures: Sequence[Any], texts: str | Sequence[str]
  ) -> Array:
    """Logits [B, T, V] of the token after each of a text.

    Args:
      pictures: see `generate`.
      texts: one for each entry of `pictures`.
    """
    batch, _ = self.read(pictures, texts)
    return self._reader(self.params, batch)['text_logits']

  def generate(
    self,
    pictures: Sequence[Any],
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int | None = None,
    seed: int = 0,
    **settings: Any,
  ) -> list[str]:
    """Writes on from prompts, as generation_config.json says.

    Without the file, or where it is silent, greedily.

    Args:
      pictures: one or a list; for each prompt a picture as `pixels` takes it,
        or a list of them, in the order of its placeholders.
      prompts: one or as many as there are entries in `pictures`.
      max_new_tokens: what is written at most; None for what the file says, or
        64.
      seed: of sampling.
      **settings: come before the file's: `temperature` (0 is greedy), `top_k`,
        `top_p`, `beam_size`, `repetition_penalty` and others of
        `mmjax.models.writing.Writer.generate`.

    Returns:
      What was written after each prompt.

    Raises:
      ConfigError: if pictures and prompts, or a prompt's placeholders, differ
        in number; or for a setting of the file's that mmjax refuses.
    """
    batch, rows = self.read(pictures, prompts)
    prompt = int(batch['text_mask'].sum(axis=1).max())
    program = self.compiled(
      'generate', **self.generation_settings(max_new_tokens, prompt, settings)
    )
    written = program(self.params, batch, rng=jax.random.key(seed))
    return self.decode(rows, written)

  def read(
    self, pictures: Any, texts: str | Sequence[str]
  ) -> tuple[Batch, list[list[int]]]:
    """What the module reads of pictures and texts, see `generate`.

    Returns:
      A batch, and the ids of each text without its placeholders.
    """
    texts = base.listed(texts)
    rows = [base.listed(entry) for entry in base.listed(pictures)]
    if len(rows) != len(texts):
      raise ConfigError(
        f'{len(rows)} entries of pictures do not go with {len(texts)} texts; '
        'give one entry, a picture or a list, for each text'
      )
    seen, grids = self.look(rows)
    ids = [
      self._expanded(text, of_text)
      for text, of_text in zip(texts, grids, strict=True)
    ]
    text, mask = base.padded(ids, self.pad_id, step=language_models.STEP)
    batch = {'text': jnp.asarray(text), 'text_mask': jnp.asarray(mask), **seen}
    batch |= self.located(ids, text.shape[1], grids)
    places = self.module.placeholders
    words = [[i for i in row.tolist() if i not in places] for row in ids]
    return batch, words

  def _expanded(self, text: str, grids: Sequence[packing.Grid]) -> np.ndarray:
    """Ids of a text, with one placeholder a token of its pictures."""
    places = self.module.placeholders
    given = self.encode(text, len(grids))
    have = [one for one in given if one in places]
    want = [places[grid.video] for grid in grids]
    if have != want:
      raise ConfigError(
        f'a text has the placeholders {have}, but its pictures need {want}; it '
        f'is {text!r}'
      )
    left = iter(grids)
    return np.concatenate(
      [[one] * (next(left).tokens if one in places else 1) for one in given]
    ).astype(np.int32)

  def look(
    self, rows: list[list[Any]]
  ) -> tuple[Batch, list[list[packing.Grid]]]:
    """What the module sees of pictures.

    Args:
      rows: the pictures of each text.

    Returns:
      Keys of the batch, and for each picture of each text, its tokens.

    Raises:
      ConfigError: if the preprocessing gives another size than the model reads.
    """
    vision = self.vision_config()
    side = vision['image_size']
    most = max(len(row) for row in rows)
    images = np.zeros((len(rows), most, side, side, 3), np.float32)
    for row, pictures in enumerate(rows):
      if pictures:
        pixels = self.pixels(pictures)
        if pixels.shape[1:] != images.shape[2:]:
          raise ConfigError(
            f'{self.preparing()[1]} makes images of {pixels.shape[1:3]} '
            f'pixels, but by config.json the model reads {(side, side)}; take '
            'both files from one model'
          )
        images[row, : len(pictures)] = pixels
    grid = packing.Grid(1, 1, self.tokens_per_picture())
    grids = [[grid] * len(row) for row in rows]
    return ({'image': jnp.asarray(images)} if most else {}), grids

  def tokens_per_picture(self) -> int:
    """How many tokens stand for a picture."""
    vision = self.vision_config()
    number = (vision['image_size'] // vision['patch_size']) ** 2
    return number + self.module.vision.class_token - self.module.skipped

  def located(
    self,
    ids: Sequence[np.ndarray],
    length: int,
    grids: Sequence[Sequence[packing.Grid]],
  ) -> Batch:
    """Keys of the batch that say where tokens are; here none.

    Args:
      ids: of each text, without padding.
      length: of the texts with padding.
      grids: of the pictures of each text.
    """
    return {}

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the encoder, with its defaults."""
    raise NotImplementedError

  def encode(self, text: str, number: int) -> list[int]:
    """Ids of a text, with one placeholder for each of its pictures.

    Args:
      text: has them here, by name.
      number: of its pictures.
    """
    return self.tokenizer.encode(text).ids


def inputs(vision: Mapping[str, Any]) -> Batch:
  """Shapes of one example.

  Args:
    vision: the config of the encoder.
  """
  side, channels = vision['image_size'], vision['num_channels']
  return {
    'image': jax.ShapeDtypeStruct((1, 1, side, side, channels), jnp.float32),
    'text': jax.ShapeDtypeStruct((1, 2), jnp.int32),
  }
