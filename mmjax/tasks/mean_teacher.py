"""The task of agreeing with the EMA of the model's parameters."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mmjax import objectives
from mmjax.data.features import Feature
from mmjax.tasks import views


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacher(views.OfViews):
  """Learns classes from records without labels, by agreeing with the EMA.

  `classify` beside learns from the labels. `train.ema_decay` is the teacher's.

  Attributes:
    target: feature of the kind category, of one class a record.
    feature: feature that the model reads.
    other: feature of the same field, with an augmentation of its own, that the
      student reads; '' for the same arrays.
    ramp_steps: number of steps until the loss has its whole weight.
  """

  name: ClassVar[str] = 'mean_teacher'
  setting: ClassVar[str] = 'other'

  other: str = 'other'
  ramp_steps: int = 0

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.Consistency:
    del features
    self.check_settings()
    return objectives.Consistency(
      self.target, self.feature, self.other, self.ramp_steps
    )
