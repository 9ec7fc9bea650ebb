"""The task of matching images and texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmjax.tasks import align, base
from mmjax.types import Array


def encode_image(run: base.TrainedModel, image: Any) -> Array:
  """Unit vectors of one image or several, as `embed` of `Align`."""
  return align.embed(run, image=image)


def encode_text(run: base.TrainedModel, texts: str | Sequence[str]) -> Array:
  """Unit vectors of one text or several, as `embed` of `Align`."""
  return align.embed(run, text=texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrastive(align.Align):
  """Images and texts that belong together get similar vectors.

  Attributes:
    features: names of the features.
    anchor: feature that is compared with each other one; '' for all pairs.
    kind: loss, 'softmax' (CLIP) or 'sigmoid' (SigLIP).
    tile: number of candidates whose logits are computed at once; 0 for all.
    ring: whether devices pass their candidates around a ring.
    negatives: feature of wrong texts, see `Align`.
    score: 'cosine' or 'maxsim', see `Align`.
  """

  ability: ClassVar[str] = 'embed images and texts'
  methods: ClassVar[Mapping[str, Any]] = {
    **align.Align.methods,
    'encode_image': encode_image,
    'encode_text': encode_text,
  }

  features: Sequence[str] = ('image', 'text')
