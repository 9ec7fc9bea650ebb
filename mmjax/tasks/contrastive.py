"""The task of matching images and texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import Array, Ring, Tile


def encode_image(run: base.TrainedModel, image: Any) -> Array:
  """Unit vectors [B, E] of one image or several."""
  return run.predict(predict.embed_images, run.image_batch(image))


def encode_text(run: base.TrainedModel, texts: str | Sequence[str]) -> Array:
  """Unit vectors [B, E] of one text or several."""
  batch = run.text_batch('text', texts, run.preprocess.text_length)
  return run.predict(predict.embed_texts, batch)


def rank_texts(
  run: base.TrainedModel, image: Any, texts: Sequence[str], beam_size: int
) -> list[str]:
  """Lines of texts with their cosine to an image, the highest first."""
  del beam_size
  scores = np.asarray(encode_text(run, texts) @ encode_image(run, image)[0])
  ranked = (f'{scores[i]:6.3f}  {texts[i]}' for i in np.argsort(-scores))
  return ['cosine  text', *ranked]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(base.Task):
  """Images and texts that belong together get similar vectors.

  The model returns `image_embedding`, `text_embedding` and `logit_scale`, for
  the sigmoid loss also `logit_bias`.

  Attributes:
    kind: loss, 'softmax' (CLIP) or 'sigmoid' (SigLIP).
    tile: number of candidates whose logits are computed at once; 0 for all.
    ring: whether devices pass their candidates around a ring.
  """

  ability: ClassVar[str] = 'embed images and texts'
  batch_keys: ClassVar[tuple[str, ...]] = ('text',)
  rows: ClassVar[tuple[base.Row, ...]] = (
    base.Row(
      'image to text R@1', 'retrieval/image_to_text_r1', 'retrieval/chance_r1'
    ),
    base.Row(
      'text to image R@1', 'retrieval/text_to_image_r1', 'retrieval/chance_r1'
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {
    'encode_image': encode_image,
    'encode_text': encode_text,
  }
  prompt: ClassVar[base.Prompt | None] = base.Prompt(
    'text', rank_texts, length='text_length'
  )

  kind: str = 'softmax'
  tile: Tile = 0
  ring: Ring = False

  def objective(self) -> objectives.Contrastive:
    return objectives.Contrastive(self.kind, self.tile, self.ring)

  def needs(self) -> tuple[str, ...]:
    return self.objective().needs()

  def evaluators(self, split: base.Split) -> dict[str, evaluators.Evaluator]:
    name = f'{split.prefix}retrieval'
    retrieval = evaluators.Retrieval(
      predict.embed_images(split.model),
      predict.embed_texts(split.model),
      split.source,
      split.preprocess,
      gallery_by=split.config.eval.gallery_by,
      name=name,
      **split.settings(),
    )
    return {name: retrieval}
