"""The task of learning classes from the model's own confident predictions."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mmjax import objectives
from mmjax.data.features import Feature
from mmjax.tasks import views
from mmjax.types import Fraction

# No probability exceeds 1.


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabels(views.OfViews):
  """Learns classes from records without labels, by two views (FixMatch).

  `classify` beside learns from the labels.

  Attributes:
    target: feature of the kind category, of one class a record.
    feature: feature that the model reads, with a weak augmentation.
    strong: feature of the same field with a strong augmentation.
    threshold: probability above which a prediction is a target.
  """

  name: ClassVar[str] = 'pseudo_labels'
  setting: ClassVar[str] = 'strong'

  strong: str = 'strong'
  threshold: Fraction = 0.95

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.PseudoLabeling:
    del features
    self.check_settings()
    return objectives.PseudoLabeling(
      self.target, self.feature, self.strong, self.threshold
    )
