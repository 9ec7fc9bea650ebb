"""The task of predicting a record's class, or its classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data.features import Category, Feature
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base, pseudo_labels
from mmjax.types import Array, Fraction

_SHOWN = 5


def class_logits(run: base.TrainedModel, target: str, **values: Any) -> Array:
  """Logits [B, C] of a target's classes, from some of the inputs.

  Args:
    run: the trained model.
    target: feature of the class.
    **values: one value or several of each input; the others count as absent.
  """
  batch = base.prepare_inputs(run, values)
  return run.predict(predict.make_output, batch, target=target)


def classify(run: base.TrainedModel, **values: Any) -> list[Any]:
  """The likeliest class of each, or with several classes those above 1/2."""
  feature = run.preprocessor[_find_target(run)]
  logits = np.asarray(class_logits(run, feature.name, **values))
  if feature.multi_label:
    return [
      [feature.classes[i] for i in np.flatnonzero(row > 0)] for row in logits
    ]
  return [feature.classes[i] for i in np.argmax(logits, axis=1)]


def _find_target(run: base.TrainedModel) -> str:
  """The category that the run's model predicts.

  Raises:
    ConfigError: if it predicts none.
  """
  for task in run.tasks.values():
    if task.classifies:
      return task.classifies
  raise ConfigError(run.unable(Classify.ability))


def make_report_rows(target: str) -> tuple[base.ReportRow, ...]:
  """Rows of `mmjax report` for the classes of a target."""
  return (
    base.ReportRow(
      f'{target} right', f'{target}/accuracy', f'{target}/majority_accuracy'
    ),
    base.ReportRow(
      f'{target} mAP',
      f'{target}/average_precision',
      f'{target}/chance_average_precision',
    ),
  )


def make_evaluators(
  target: str, context: base.EvalContext
) -> dict[str, evaluators.Evaluator]:
  """The evaluator of the classes of a target."""
  name = f'{context.prefix}{target}'
  thresholds = [
    task.threshold
    for task in context.tasks.values()
    if isinstance(task, pseudo_labels.PseudoLabels) and task.target == target
  ]
  classes = evaluators.Classes(
    predict.make_output(context.model, target=target),
    context.source,
    context.preprocessor,
    target=target,
    inputs=context.inputs,
    name=name,
    threshold=thresholds[0] if thresholds else None,
    **context.settings(),
  )
  return {name: classes}


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """Lines of the likeliest classes with their probabilities."""
  del texts, beam_size
  feature = run.preprocessor[_find_target(run)]
  logits = np.asarray(class_logits(run, feature.name, **inputs)[0], np.float64)
  if feature.multi_label:
    probabilities = 1 / (1 + np.exp(-logits))
  else:
    probabilities = np.exp(logits - np.logaddexp.reduce(logits))
  return [
    f'  prob  {feature.name}',
    *(
      f'{probabilities[i]:6.1%}  {feature.classes[i]}'
      for i in np.argsort(-probabilities)[:_SHOWN]
    ),
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classify(base.Task):
  """The model predicts the class of each record, or each of its classes.

  It returns `TARGET_output` [B, C]; its method `apply_head(batch, target)`
  gives the same.

  Attributes:
    target: feature of the kind category.
    label_smoothing: fraction of the target that is spread over all classes.
  """

  ability: ClassVar[str] = 'classify'
  methods: ClassVar[Mapping[str, Any]] = {
    'classify': classify,
    'class_logits': class_logits,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse('', _lines)

  target: str = ''
  label_smoothing: Fraction = 0.0

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return make_report_rows(self.target)

  @property
  def classifies(self) -> str:
    return self.target

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.Classification:
    del features
    if not self.target:
      raise ConfigError("tasks.classify.target='' names no feature to predict")
    return objectives.Classification(self.target, self.label_smoothing)

  def batch_keys(self) -> tuple[str, ...]:
    return (self.target,)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    feature = base.get_target(self.target, features, (Category,))
    return {self.target: len(feature.classes or (0,))}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    return make_evaluators(self.target, context)
