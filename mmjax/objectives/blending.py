"""Losses of each modality alone beside that of all, and their weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.objectives import presence, text
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
)

# Mean losses of an output: on training and validation records.
Losses = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Unimodal:
  """Cross-entropy of a class from each modality alone, weighted.

  The losses of gradient blending beside that of the fusion (Wang et al. 2020,
  section 3). Needs the outputs `TARGET_output_of_ENCODER` [B, C]. An example
  that lacks a modality has no loss of it.

  Attributes:
    target: feature of the class, one per record.
    weights: name of each encoder, and the weight of its loss.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  target: str
  weights: tuple[tuple[str, float], ...]

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the target."""
    mask = presence.presence_mask(batch, self.target)
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
    """The loss, and the `loss_of_ENCODER` of each as metrics."""
    del apply, rng, axis_name
    mask = presence.presence_mask(batch, self.target)  # [B]
    labels = jnp.where(mask, batch[self.target], 0)
    total, metrics = jnp.zeros(mask.shape, jnp.float32), {}
    for name, weight in self.weights:
      output = presence.get_output(outputs, f'{self.target}_output_of_{name}')
      # The output is all 0 where the modality is absent: a constant.
      present = mask & jnp.any(output != 0, axis=-1)
      losses = text.cross_entropy(ops.zero_masked(output, mask), labels)
      total += weight * jnp.where(present, losses, 0.0)
      metrics[f'loss_of_{name}'] = ops.masked_mean(losses, present)
    return ops.masked_mean(total, mask), {
      **metrics,
      'items': Items(total, mask),
    }


def blend_weights(
  start: Mapping[str, Losses], end: Mapping[str, Losses]
) -> dict[str, float]:
  """Weights of losses by how well they generalise, by gradient blending.

  Each is proportional to G / O^2 (Wang et al. 2020, section 3): G is how much
  the validation loss fell, O how much the gap between validation and training
  loss grew, but at least a tenth of G (our limit). They add up to 1. A modality
  whose validation loss didn't fall has the weight 0.

  Args:
    start: by modality, mean training and validation loss at a first step.
    end: the same at a later step.

  Raises:
    ConfigError: for different modalities, or if no validation loss fell.

  >>> blend_weights(
  ...   {'image': (3.0, 3.0), 'sound': (3.0, 3.0)},
  ...   {'image': (1.0, 2.0), 'sound': (1.5, 2.0)},
  ... )
  {'image': 0.2, 'sound': 0.8}
  """
  if set(start) != set(end):
    raise ConfigError(
      f'the losses are of {sorted(start)} at first and of {sorted(end)} later; '
      'measure the same modalities'
    )
  rates = {}
  for name, (train, validation) in end.items():
    gain = start[name][1] - validation
    gap = (validation - train) - (start[name][1] - start[name][0])
    # A gap that hardly grew would weigh almost without limit.
    rates[name] = gain / max(gap, gain / 10) ** 2 if gain > 0 else 0.0
  total = sum(rates.values())
  if total == 0:
    raise ConfigError(
      'no validation loss fell between the two steps, so there is nothing to '
      'weigh by; train longer, or with a lower learning rate'
    )
  return {name: rate / total for name, rate in rates.items()}
