"""The task of predicting a record's number, or its vector."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data.features import Feature, Number, Vector
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base
from mmjax.types import Positive


def regress(run: base.TrainedModel, **values: Any) -> np.ndarray:
  """Numbers [B, D] in the records' unit, from some of the inputs.

  Args:
    run: the trained model.
    **values: one value or several of each input; the others count as absent.
  """
  task = base.find_task(run, Regress)
  feature = run.preprocessor[task.target]
  batch = base.prepare_inputs(run, values)
  outputs = np.asarray(
    run.predict(predict.make_output, batch, target=task.target)
  )
  return outputs * np.atleast_1d(feature.std) + np.atleast_1d(feature.mean)


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  del texts, beam_size
  return [', '.join(f'{number:.6g}' for number in regress(run, **inputs)[0])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regress(base.Task):
  """The model predicts a number of each record, or a vector.

  It returns `TARGET_output` [B, D]; its method `apply_head(batch, target)`
  gives the same.

  Attributes:
    target: feature of the kind number or vector.
    kind: loss, 'squared', 'absolute' or 'huber'.
    delta: error from which Huber's loss is linear, in standard deviations.
  """

  ability: ClassVar[str] = 'predict a number'
  methods: ClassVar[Mapping[str, Any]] = {'regress': regress}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse('', _lines)

  target: str = ''
  kind: str = 'squared'
  delta: Positive = 1.0

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return (
      base.ReportRow(
        f'{self.target} absolute error',
        f'{self.target}/absolute_error',
        f'{self.target}/mean_absolute_error',
        lower_is_better=True,
      ),
    )

  def objective(self, features: Mapping[str, Feature]) -> objectives.Regression:
    del features
    if not self.target:
      raise ConfigError("tasks.regress.target='' names no feature to predict")
    return objectives.Regression(self.target, self.kind, self.delta)

  def batch_keys(self) -> tuple[str, ...]:
    return (self.target,)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    feature = base.get_target(self.target, features, (Number, Vector))
    return {self.target: np.size(feature.mean) if feature.is_fitted else 1}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}{self.target}'
    numbers = evaluators.Numbers(
      predict.make_output(context.model, target=self.target),
      context.source,
      context.preprocessor,
      target=self.target,
      inputs=context.inputs,
      name=name,
      **context.settings(),
    )
    return {name: numbers}
