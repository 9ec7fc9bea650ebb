"""The task of learning from another, trained model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmjax import evaluators, ops
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, check_choice
from mmjax.objectives import presence
from mmjax.tasks import base, classify, views
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
  Positive,
)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """Distance of a model's output to that of a frozen teacher.

  Of logits, the Kullback-Leibler divergence of the softmax of both at a
  temperature, times its square, so that the gradient's size doesn't depend on
  it (Hinton et al. 2015, section 2). Of embeddings, 1 - cosine, or the mean
  squared difference of their numbers. Both models read the same arrays,
  augmentation included (Beyer et al. 2022).

  Attributes:
    output: name of the output of both, [B, n].
    inputs: features that an example must have.
    distance: 'divergence' of logits, 'cosine' or 'squared' of embeddings.
    temperature: of the divergence.
  """

  compares: ClassVar[tuple[str, ...]] = ()
  teacher: ClassVar[str] = 'frozen'

  output: str
  inputs: tuple[str, ...]
  distance: str
  temperature: float = 1.0

  def count(self, batch: Batch) -> Array:
    """Number of examples that the teacher can read."""
    return presence.joint_mask(batch, *self.inputs).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    apply_teacher: Callable[[Batch], Outputs],
    step: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss; as metric `agreement` of the classes, or the `cosine`."""
    del apply, rng, step, axis_name
    mask = presence.joint_mask(batch, *self.inputs)  # [B]
    taught = jax.lax.stop_gradient(apply_teacher(batch)[self.output])  # [B, n]
    own = ops.zero_masked(presence.get_output(outputs, self.output), mask)
    taught = ops.zero_masked(taught, mask)
    if self.distance == 'divergence':
      losses = self._divergence(own, taught)
      agrees = jnp.argmax(own, axis=-1) == jnp.argmax(taught, axis=-1)
      metrics = {'agreement': ops.masked_mean(agrees, mask)}
    else:
      cosine = (_normalise(own) * _normalise(taught)).sum(axis=-1)  # [B]
      squared = jnp.square(own - taught).mean(axis=-1)
      losses = 1 - cosine if self.distance == 'cosine' else squared
      metrics = {'cosine': ops.masked_mean(cosine, mask)}
    metrics['items'] = Items(losses, mask)
    return ops.masked_mean(losses, mask), metrics

  def _divergence(self, own: Array, taught: Array) -> Array:
    """KL(teacher || student) [B] at the temperature, times its square."""
    own, taught = (
      jax.nn.log_softmax(logits / self.temperature) for logits in (own, taught)
    )
    products = jnp.exp(taught) * (taught - own)  # [B, C]
    return products.sum(axis=-1) * self.temperature**2


def _normalise(vectors: Array) -> Array:
  """Unit vectors [B, E]; 0 for 0, with a gradient of 0."""
  squares = jnp.square(vectors).sum(axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


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
      embedding of the field `target`, from which a linear layer on the fused
      fields predicts.
    target: the category, or the field that the teacher embeds.
    temperature: of the softmax of both, with kind='logits'.
    distance: of features, 'cosine' or 'squared'.
    width: E, size of the teacher's embedding, with kind='features'.
    teacher_inputs: by feature that the teacher reads, the feature that gives
      its array, such as {'image': 'teacher_image'}; None for
      dict(image='image').
  """

  ability: ClassVar[str] = 'predict what its teacher does'
  methods: ClassVar[Mapping[str, Any]] = classify.Classify.methods
  predict_flag: ClassVar[base.PredictFlag | None] = (
    classify.Classify.predict_flag
  )

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

  def objective(self) -> Distillation:
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
    return Distillation(
      self._output,
      tuple(self._reads.values()),
      'divergence' if self.kind == 'logits' else self.distance,
      self.temperature,
    )

  def needs(self) -> tuple[str, ...]:
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

  def evaluators(self, split: base.Split) -> dict[str, evaluators.Evaluator]:
    is_measured = any(
      task.classifies == self.target
      for task in split.tasks.values()
      if task is not self
    )
    if not self.classifies or is_measured:
      return {}
    return classify.make_evaluators(self.target, split)

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
