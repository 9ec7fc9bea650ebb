"""The task of predicting a class from each modality alone, beside all."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Category, Feature
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unimodal(base.Task):
  """Each modality also predicts the class by itself, with a weight.

  Gradient blending (Wang et al. 2020), beside `classify`: the weights say which
  modalities are to learn more, and the accuracy of each alone, trained in the
  same run, what the fusion gains over it. The model has
  `unimodal_outputs=True`.

  Attributes:
    target: feature of the kind category, of one class a record.
    weights: weights of each encoder's loss, by its name, from 0 on.
  """

  ability: ClassVar[str] = 'classify by one modality'

  target: str = ''
  weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return tuple(
      base.ReportRow(
        f'{self.target} from {name} alone right',
        f'{self.target}_of_{name}/accuracy',
        f'{self.target}_of_{name}/majority_accuracy',
      )
      for name in self.weights
    )

  def objective(self, features: Mapping[str, Feature]) -> objectives.Unimodal:
    del features
    if not self.target:
      raise ConfigError("tasks.unimodal.target='' names no feature to predict")
    if not self.weights:
      raise ConfigError(
        'tasks.unimodal.weights is empty; give the weight of each encoder'
      )
    for name, weight in self.weights.items():
      is_number = type(weight) in (int, float)
      if not is_number or weight < 0:
        raise ConfigError(
          f'tasks.unimodal.weights.{name}={weight!r} is not a number from 0 on'
        )
    return objectives.Unimodal(self.target, tuple(sorted(self.weights.items())))

  def batch_keys(self) -> tuple[str, ...]:
    return (self.target,)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    feature: Any = base.get_target(self.target, features, (Category,))
    if feature.multi_label:
      raise ConfigError(
        f'tasks.unimodal.target={self.target!r} has several classes a record; '
        'use a target with one'
      )
    return {self.target: len(feature.classes or (0,))}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    return {
      f'{context.prefix}{self.target}_of_{name}': evaluators.Classes(
        predict.make_output(context.model, target=self.target, encoder=name),
        context.source,
        context.preprocessor,
        target=self.target,
        inputs=tuple(context.model.encoder_inputs[name]),
        name=f'{context.prefix}{self.target}_of_{name}',
        **context.settings(),
      )
      for name in self.weights
    }
