"""From a run's folder back to its model, without the experiment file."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mmjax.config import settings
from mmjax.data import images, tokenizers
from mmjax.data import preprocess as preprocessing
from mmjax.errors import ConfigError
from mmjax.models import from_config, predict
from mmjax.pretrained import base, hub
from mmjax.runs import checkpoints
from mmjax.types import Array, Batch, Params

# What each objective teaches a model to do.
_ABILITIES = {
  'captioning': 'caption an image',
  'vqa_classification': 'answer a question',
  'vqa_generation': 'answer a question',
  'contrastive': 'embed images and texts',
}


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
  """A trained model with all that belongs to it.

  `module` and `params` are all that JAX code needs; the methods take images
  and texts. An image is a file's path, a Pillow image or uint8 [H, W, 3].

  Attributes:
    config: what the run was started with.
    module: a Linen module.
    params: its parameters; the EMA, where the run kept one.
    preprocess: images, texts and questions to arrays.
    step: step of the checkpoint that the parameters are from.
    is_ema: whether they are the EMA.
  """

  config: Any
  module: nn.Module
  params: Params
  preprocess: preprocessing.Preprocessor
  step: int
  is_ema: bool

  def __repr__(self) -> str:
    number = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    return (
      f'<run of {self.config.experiment}: {type(self.module).__name__}, '
      f'{number:,} parameters>'
    )

  def check_able(self, what: str) -> None:
    """Refuses what the model was not trained to do.

    Args:
      what: such as 'caption an image'.

    Raises:
      ConfigError: it says what the model can do.
    """
    able = [
      _ABILITIES[name]
      for name, settings in self.config.objectives.items()
      if settings.get('weight', 1.0)
    ]
    if what not in able:
      raise ConfigError(
        f'the model cannot {what}; it can {" and ".join(dict.fromkeys(able))}'
      )

  @property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """Texts to ids and back."""
    return self.preprocess.tokenizer

  def encode_image(self, image: Any) -> Array:
    """Unit vectors [B, E] of one image or several."""
    self.check_able('embed images and texts')
    return self._embed_images(self.params, self.image_batch(image))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Unit vectors [B, E] of one text or several."""
    self.check_able('embed images and texts')
    batch = self.text_batch('text', texts, self.preprocess.text_length)
    return self._embed_texts(self.params, batch)

  def caption(self, image: Any, *, beam_size: int = 1) -> list[str]:
    """A caption of each image; greedy, or the best of a beam."""
    self.check_able('caption an image')
    length = self.preprocess.text_length
    return self._write('caption', self.image_batch(image), length, beam_size)

  def answer(
    self, image: Any, questions: str | Sequence[str], *, beam_size: int = 1
  ) -> list[str]:
    """An answer to each image's question."""
    self.check_able('answer a question')
    batch = self.question_batch(image, questions)
    if self.preprocess.answers:
      chosen = np.argmax(self.answer_logits(batch), axis=-1)
      return [self.preprocess.answers[i] for i in chosen]
    length = self.preprocess.answer_length
    return self._write('answer', batch, length, beam_size)

  def answer_logits(self, batch: Batch) -> Array:
    """Logits [B, C] of `preprocess.answers`, for `question_batch`."""
    return self._answer_logits(self.params, batch)

  def image_batch(self, image: Any) -> Batch:
    """Arrays of images, as the model takes them."""
    arrays = [
      self.preprocess.encode_image(images.to_array(one))
      for one in base.as_list(image)
    ]
    return {
      'image': np.stack(arrays),
      'image_mask': np.ones(len(arrays), bool),
    }

  def question_batch(self, image: Any, questions: str | Sequence[str]) -> Batch:
    """Arrays of images and of a question about each."""
    length = self.preprocess.question_length
    asked = self.text_batch('question', questions, length, read=True)
    batch = self.image_batch(image)
    if len(asked['question']) != len(batch['image']):
      raise ConfigError(
        f'there are {len(batch["image"])} images and '
        f'{len(asked["question"])} questions; give one question for each'
      )
    return batch | asked

  def text_batch(
    self,
    key: str,
    texts: str | Sequence[str],
    length: int,
    *,
    read: bool = False,
  ) -> Batch:
    """Arrays `key` and its mask [B, length], see `Tokenizer.encode`."""
    pairs = [
      self.tokenizer.encode(text, length, as_input=read)
      for text in base.as_list(texts)
    ]
    ids, masks = zip(*pairs, strict=True)
    return {key: np.stack(ids), f'{key}_mask': np.stack(masks)}

  def _write(
    self, task: str, batch: Batch, length: int, beam_size: int
  ) -> list[str]:
    # What starts a text is not written.
    write = self._writer(task, length - 1, beam_size)
    return [self.tokenizer.decode(ids) for ids in write(self.params, batch)]

  @functools.cached_property
  def _embed_images(self) -> Callable[..., Array]:
    return jax.jit(predict.embed_images(self.module))

  @functools.cached_property
  def _embed_texts(self) -> Callable[..., Array]:
    return jax.jit(predict.embed_texts(self.module))

  @functools.cached_property
  def _answer_logits(self) -> Callable[..., Array]:
    return jax.jit(predict.answer_logits(self.module))

  @functools.cached_property
  def _writer(self) -> Callable[..., Callable[..., Array]]:
    @functools.lru_cache
    def make(task: str, length: int, beam_size: int):
      return jax.jit(
        predict.write(
          self.module, task=task, length=length, beam_size=beam_size
        )
      )

    return make


def load(workdir: Path | str) -> Run:
  """Opens a run's folder.

  Raises:
    ConfigError: if it isn't a run's folder, or has no checkpoint yet.
  """
  workdir = Path(workdir)
  if not (workdir / 'config.json').exists():
    raise ConfigError(
      f'{workdir} is not a run: it has no config.json; give the --workdir of '
      'an experiment'
    )
  if not hub.is_run(workdir):
    raise ConfigError(
      f'{workdir} is not a run: it has no preprocess.json; a published model '
      'is opened with mmjax.load'
    )
  # Fields that are newer than the run have their defaults.
  config = settings.complete(settings.from_json(workdir / 'config.json'))
  tokenizer = tokenizers.Tokenizer.load(
    workdir / 'tokenizer.json', bos=config.data.bos
  )
  preprocess = preprocessing.Preprocessor.load(
    workdir / 'preprocess.json', tokenizer
  )
  step = checkpoints.newest(workdir)
  return Run(
    config=config,
    module=from_config.build(config, preprocess),
    params=checkpoints.load_params(workdir, step=step),
    preprocess=preprocess,
    step=step,
    is_ema=checkpoints.has_ema(workdir, step),
  )
