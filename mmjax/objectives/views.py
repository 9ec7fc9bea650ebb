"""Learning from examples without labels, by two views of each."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.objectives import presence, text
from mmjax.types import (
  FEATURE_ENDINGS,
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

  Mean teacher (Tarvainen & Valpola 2017, eq. 2). The teacher reads what the
  model reads, the student the other view in a pass of its own, so that it
  learns to be invariant to what the augmentation of that view changes. The loss
  is multiplied by exp(-5 (1 - t)^2) while t rises from 0 to 1 in the first
  `ramp_steps` steps (their appendix B), since an untrained teacher has nothing
  to teach. Unlike theirs, the teacher has no dropout.

  Attributes:
    target: the category.
    feature: feature that the model reads, the teacher's view.
    other: feature of the student's view; '' for the same arrays, without
      another pass.
    ramp_steps: number of steps until the loss has its whole weight.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()
  teacher: ClassVar[str] = 'ema'
  scheduled: ClassVar[bool] = True

  target: str
  feature: str
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
    del axis_name
    mask = self._mask(batch)  # [B]
    name = f'{self.target}_output'
    taught = jax.lax.stop_gradient(apply_teacher(batch)[name])  # [B, C]
    if self.other:
      view = swap(batch, self.feature, self.other)
      outputs = apply(view, train=True, rngs={'dropout': rng})
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
    features = (self.feature, self.other) if self.other else (self.feature,)
    return presence.joint_mask(batch, *features)

  def _ramp(self, step: Array) -> Array:
    """The factor of the loss, from exp(-5) to 1."""
    if not self.ramp_steps:
      return jnp.ones(())
    rise = jnp.minimum(step.astype(jnp.float32) / self.ramp_steps, 1.0)
    return jnp.exp(-5 * jnp.square(1 - rise))


@dataclasses.dataclass(frozen=True)
class PseudoLabeling:
  """Cross-entropy of a strong view against the class of a weak one.

  FixMatch (Sohn et al. 2020, eq. 4). The class that the model predicts from the
  weakly augmented view is the target of the strongly augmented one, where its
  probability is above the threshold. Labels aren't read: examples with a label
  count like all others.

  The weak view's prediction is that of the training pass, so it has the same
  dropout, and no gradient. The mean is over all examples that have both views,
  also those below the threshold.

  Attributes:
    target: the category.
    feature: feature that the model reads, the weak view.
    strong: feature of the strong view.
    threshold: probability that the predicted class has to exceed.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  target: str
  feature: str
  strong: str
  threshold: float

  def count(self, batch: Batch) -> Array:
    """Number of examples that have both views."""
    mask = presence.joint_mask(batch, self.feature, self.strong)
    return mask.sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and the fraction `confident` above the threshold."""
    del axis_name
    mask = presence.joint_mask(batch, self.feature, self.strong)  # [B]
    name = f'{self.target}_output'
    weak = ops.zero_masked(presence.get_output(outputs, name), mask)  # [B, C]
    probabilities = jax.nn.softmax(jax.lax.stop_gradient(weak))
    labels = jnp.argmax(probabilities, axis=-1)  # [B]
    confident = probabilities.max(axis=-1) > self.threshold
    swapped = swap(batch, self.feature, self.strong)
    strong = apply(swapped, train=True, rngs={'dropout': rng})[name]
    losses = text.cross_entropy(ops.zero_masked(strong, mask), labels)  # [B]
    losses = jnp.where(confident, losses, 0.0)
    return ops.masked_mean(losses, mask), {
      'confident': ops.masked_mean(confident, mask),
      'items': Items(losses, mask),
    }


def swap(batch: Batch, feature: str, view: str) -> Batch:
  """A batch in which the model reads another view of a field.

  Args:
    batch: arrays by name.
    feature: feature that the model reads.
    view: feature whose arrays take the place of those of `feature`.
  """
  own = [f'{feature}{ending}' for ending in FEATURE_ENDINGS]
  return {key: x for key, x in batch.items() if key not in own} | {
    f'{feature}{ending}': batch[f'{view}{ending}']
    for ending in FEATURE_ENDINGS
    if f'{view}{ending}' in batch
  }
