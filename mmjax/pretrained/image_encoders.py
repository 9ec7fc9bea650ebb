"""Published models that encode images, and some of them classify."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.pretrained import base, configs
from mmjax.types import Array, Tokens


class ImageEncoder(base.Pretrained):
  """ViT and its kin."""

  def encode_image(self, pictures: Any) -> Tokens:
    """Tokens of pictures, see `pixels`: values [B, N, D], pooled [B, D]."""
    return self.compiled('encode_image')(self.params, self.pixels(pictures))

  @functools.cached_property
  def labels(self) -> Sequence[str]:
    """Names of the C classes, in order; none without a classifier."""
    return configs.labels(self.config)[: self.module.num_classes]

  def class_logits(self, pictures: Any) -> Array:
    """Logits [B, C] of pictures.

    Raises:
      ValueError: if the model has no classifier.
    """
    if not self.module.num_classes:
      raise ValueError(
        'the checkpoint has no classifier; open one whose architectures are '
        'ForImageClassification, or use encode_image'
      )
    return self.compiled('classify')(self.params, self.pixels(pictures))

  def classify(
    self, pictures: Any, top: int = 1
  ) -> list[list[tuple[str, float]]]:
    """The likeliest classes of each picture, with their probabilities.

    Args:
      pictures: see `pixels`.
      top: how many classes of each.

    Returns:
      For each picture (label, probability) pairs, the likeliest first.

    Raises:
      ValueError: if the model has no classifier.
    """
    chances = np.asarray(jax.nn.softmax(self.class_logits(pictures)))
    best = np.argsort(-chances, axis=1, kind='stable')[:, :top]
    return [
      [(self.labels[i], float(row[i])) for i in places]
      for row, places in zip(chances, best, strict=True)
    ]
