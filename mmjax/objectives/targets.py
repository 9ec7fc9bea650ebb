"""Objectives that predict a feature: its class, its classes or its numbers."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import check_choice
from mmjax.objectives import presence, text
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Fraction,
  Items,
  Metrics,
  Outputs,
  Positive,
)


@dataclasses.dataclass(frozen=True)
class _Target:
  """Predicts a feature of each example; needs the output `TARGET_output`."""

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  target: str

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the target."""
    mask = presence.presence_mask(batch, self.target)
    return mask.sum(dtype=jnp.float32)

  def _read(self, outputs: Outputs, batch: Batch) -> tuple[Array, Array, Array]:
    """Outputs [B, n], zero where masked, targets, and their mask [B]."""
    mask = presence.presence_mask(batch, self.target)
    out = presence.get_output(outputs, f'{self.target}_output')
    return ops.zero_masked(out, mask), batch[self.target], mask


@dataclasses.dataclass(frozen=True)
class Classification(_Target):
  """Cross-entropy of one class, or of each of several.

  The target is int32 [B], one class (softmax); or float32 [B, C], 1 for each
  class that an example has (a sigmoid for each, averaged over classes).
  Examples without the target are masked.

  Attributes:
    target: name of the feature that is predicted.
    label_smoothing: fraction of the target that is spread over all classes
      (Szegedy et al. 2016, section 7).
  """

  label_smoothing: Fraction = 0.0

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` as a metric."""
    del apply, rng, axis_name
    logits, labels, mask = self._read(outputs, batch)
    if labels.ndim == 1:
      labels = jnp.where(mask, labels, 0)
      losses = text.cross_entropy(logits, labels, self.label_smoothing)  # [B]
      right = jnp.argmax(logits, axis=-1) == labels
    else:
      labels = ops.zero_masked(labels, mask)  # [B, C]
      goals = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
      losses = -(
        goals * jax.nn.log_sigmoid(logits)
        + (1 - goals) * jax.nn.log_sigmoid(-logits)
      ).mean(axis=-1)  # [B]
      right = ((logits > 0) == (labels > 0.5)).mean(axis=-1)
    return (
      ops.masked_mean(losses, mask),
      {
        'accuracy': ops.masked_mean(right, mask),
        'items': Items(losses, mask),
      },
    )


@dataclasses.dataclass(frozen=True)
class Regression(_Target):
  """Error of numbers: squared, absolute, or Huber's between them.

  The target is float32 [B] or [B, D], standardised; the loss is the mean over
  D. Examples without the target are masked.

  Attributes:
    target: name of the feature that is predicted.
    kind: 'squared', 'absolute' or 'huber' (Huber 1964).
    delta: error from which Huber's loss is linear.
  """

  kind: str = 'squared'
  delta: Positive = 1.0

  def __post_init__(self):
    check_choice(
      self.kind, ('squared', 'absolute', 'huber'), 'tasks.regress.kind'
    )

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `absolute_error` as a metric."""
    del apply, rng, axis_name
    predicted, numbers, mask = self._read(outputs, batch)
    numbers = ops.zero_masked(numbers.reshape(predicted.shape), mask)
    errors = jnp.abs(predicted - numbers)  # [B, D]
    if self.kind == 'absolute':
      losses = errors
    elif self.kind == 'squared':
      losses = jnp.square(errors)
    else:
      quadratic = jnp.minimum(errors, self.delta)
      losses = quadratic * (errors - quadratic / 2)
    losses = losses.mean(axis=-1)  # [B]
    return (
      ops.masked_mean(losses, mask),
      {
        'absolute_error': ops.masked_mean(errors.mean(axis=-1), mask),
        'items': Items(losses, mask),
      },
    )
