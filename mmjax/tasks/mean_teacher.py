"""The task of agreeing with the EMA of the model's parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.data.features import Feature
from mmjax.objectives import presence
from mmjax.tasks import views
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
)


@dataclasses.dataclass(frozen=True)
class Consistency:
  """Squared distance of the probabilities of a model and of its EMA.

  Mean teacher (Tarvainen & Valpola 2017, eq. 2). The teacher reads the other
  view, the student the model's own. The loss is multiplied by
  exp(-5 (1 - t)^2) while t rises from 0 to 1 in the first `ramp_steps` steps
  (their appendix B), since an untrained teacher has nothing to teach. Unlike
  theirs, the teacher has no dropout.

  Attributes:
    target: the category.
    field: feature that the model reads, the student's view.
    other: feature of the teacher's view; '' for the same arrays.
    ramp_steps: number of steps until the loss has its whole weight.
  """

  compares: ClassVar[tuple[str, ...]] = ()
  teacher: ClassVar[str] = 'ema'

  target: str
  field: str
  other: str
  ramp_steps: int

  def count(self, batch: Batch) -> Array:
    """Number of examples that have both views."""
    return self._mask(batch).sum(dtype=jnp.float32)

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
    """The loss; as metrics `agreement` of the classes, and the `ramp`."""
    del apply, rng, axis_name
    mask = self._mask(batch)  # [B]
    name = f'{self.target}_output'
    view = views.swap(batch, self.field, self.other) if self.other else batch
    taught = jax.lax.stop_gradient(apply_teacher(view)[name])  # [B, C]
    own = presence.get_output(outputs, name)
    own, taught = ops.zero_masked(own, mask), ops.zero_masked(taught, mask)
    difference = jax.nn.softmax(own) - jax.nn.softmax(taught)
    ramp = self._ramp(step)
    losses = ramp * jnp.square(difference).sum(axis=-1)  # [B]
    agrees = jnp.argmax(own, axis=-1) == jnp.argmax(taught, axis=-1)
    return ops.masked_mean(losses, mask), {
      'agreement': ops.masked_mean(agrees, mask),
      'ramp': ramp,
      'items': Items(losses, mask),
    }

  def _mask(self, batch: Batch) -> Array:
    fields = (self.field, self.other) if self.other else (self.field,)
    return presence.joint_mask(batch, *fields)

  def _ramp(self, step: Array) -> Array:
    """The factor of the loss, from exp(-5) to 1."""
    if not self.ramp_steps:
      return jnp.ones(())
    rise = jnp.minimum(step.astype(jnp.float32) / self.ramp_steps, 1.0)
    return jnp.exp(-5 * jnp.square(1 - rise))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacher(views.OfViews):
  """Learns classes from records without labels, by agreeing with the EMA.

  `classify` beside learns from the labels. `train.ema_decay` is the teacher's.

  Attributes:
    target: feature of the kind category, of one class a record.
    field: feature that the model reads.
    other: feature of the same field, with an augmentation of its own, that the
      teacher reads; '' for the same arrays.
    ramp_steps: number of steps until the loss has its whole weight.
  """

  name: ClassVar[str] = 'mean_teacher'
  setting: ClassVar[str] = 'other'

  other: str = 'other'
  ramp_steps: int = 0

  def objective(self, features: Mapping[str, Feature]) -> Consistency:
    del features
    self.check_settings()
    return Consistency(self.target, self.field, self.other, self.ramp_steps)
