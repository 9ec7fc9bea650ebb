"""Learning what a trained model outputs."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.objectives import presence
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
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
    output_key: name of the output of both, [B, n].
    inputs: features that an example must have.
    distance: 'divergence' of logits, 'cosine' or 'squared' of embeddings.
    temperature: temperature of the divergence.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()
  teacher: ClassVar[str] = 'frozen'

  output_key: str
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
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss; as metric `agreement` of the classes, or the `cosine`."""
    del apply, rng, axis_name
    mask = presence.joint_mask(batch, *self.inputs)  # [B]
    taught = jax.lax.stop_gradient(
      apply_teacher(batch)[self.output_key]
    )  # [B, n]
    own = ops.zero_masked(presence.get_output(outputs, self.output_key), mask)
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
