"""The task of learning from another, trained model."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, check_choice
from mmjax.tasks import base, classify, views
from mmjax.types import (
  Positive,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(base.Task):
  """The model learns the outputs of another, trained model, the teacher.

  No label is needed; with `classify` beside, it learns from labels too. The
  teacher is read from its folder at each start of the run, and is neither
  trained nor saved: a trained student doesn't need it.

  Attributes:
    teacher: folder of a run, with kind='features' also of a published
      model or its name on the Hugging Face hub.
    kind: 'logits' of the classes of `target`; or 'features', the teacher's
      embedding of the feature `target`, from which a linear layer on the fused
      features predicts.
    target: the category, or the feature that the teacher embeds.
    temperature: temperature of the softmax of both, with kind='logits'.
    distance: distance of features, 'cosine' or 'squared'.
    width: E, size of the teacher's embedding, with kind='features'.
    teacher_inputs: by feature that the teacher reads, the feature that gives
      its array, such as {'image': 'teacher_image'}; None for
      dict(image='image').
  """

  ability: ClassVar[str] = 'predict what its teacher does'
  methods: ClassVar[Mapping[str, Any]] = classify.Classify.methods
  predict_use: ClassVar[base.PredictUse | None] = classify.Classify.predict_use

  teacher: str = ''
  kind: str = 'logits'
  target: str = ''
  temperature: Positive = 1.0
  distance: str = 'cosine'
  width: int = 0
  teacher_inputs: Mapping[str, str] | None = None

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return classify.make_report_rows(self.target) if self.classifies else ()

  @property
  def classifies(self) -> str:
    return self.target if self.kind == 'logits' else ''

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.Distillation:
    del features
    check_choice(self.kind, ('logits', 'features'), 'tasks.distill.kind')
    check_choice(self.distance, ('cosine', 'squared'), 'tasks.distill.distance')
    for name in ('teacher', 'target'):
      if not getattr(self, name):
        raise ConfigError(f"tasks.distill.{name}='' is missing; set it")
    if self.kind == 'features' and self.width < 1:
      raise ConfigError(
        f"tasks.distill.width={self.width}: kind='features' needs the size of "
        "the teacher's embedding, such as 512"
      )
    if self.kind == 'logits' and self.width:
      raise ConfigError(
        f"tasks.distill.width={self.width} and kind='logits': classes have no "
        "width; leave it out, or set kind='features'"
      )
    return objectives.Distillation(
      self._output,
      tuple(self._reads.values()),
      'divergence' if self.kind == 'logits' else self.distance,
      self.temperature,
    )

  def batch_keys(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(self._reads.values()))

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    if self.kind == 'features':
      return {self._name: self.width}
    feature = views.check_target('tasks.distill', self.target, features)
    return {self.target: len(feature.classes or (0,))}

  def find_teacher(self, features: Mapping[str, Feature]) -> base.TeacherSpec:
    return base.TeacherSpec(
      self.teacher,
      'apply_head' if self.kind == 'logits' else 'embed',
      self.target,
      self._output,
      self.output_sizes(features)[self._name],
      self._reads,
    )

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    is_measured = any(
      task.classifies == self.target
      for task in context.tasks.values()
      if task is not self
    )
    if not self.classifies or is_measured:
      return {}
    return classify.make_evaluators(self.target, context)

  @property
  def _name(self) -> str:
    """The target of the model's linear layer."""
    return self.target if self.kind == 'logits' else f'{self.target}_features'

  @property
  def _output(self) -> str:
    return f'{self._name}_output'

  @property
  def _reads(self) -> Mapping[str, str]:
    return self.teacher_inputs or {'image': 'image'}
