"""Telling pairs of features that belong together from mismatched ones."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.objectives import presence
from mmjax.types import (
  FEATURE_ENDINGS,
  Array,
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
)

# The model's output, of which there is one.
OUTPUT = 'match'


@dataclasses.dataclass(frozen=True)
class Matching:
  """Classifies pairs of features as matched or not.

  This is the loss of ALBEF (Li et al. 2021, eq. 4).

  Each example gives its own pair and two mismatched ones, with another
  example's first feature and with another's second. These are hard negatives:
  they are drawn by their similarity, if the model embeds the features
  (`FEATURE_embedding`, from `contrastive` or `align`), and else uniformly. They
  are of the same micro-batch, and with `pmap` of the same device. The loss of
  an example is the mean of its three, or that of its pair alone if no other
  example has both features.

  Attributes:
    features: names of the two features.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  features: tuple[str, str]

  def count(self, batch: Batch) -> Array:
    """Number of examples that have both features."""
    return presence.joint_mask(batch, *self.features).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` of pairs and mismatches as a metric.

    Raises:
      ConfigError: for a single example, which has no other to be mismatched
        with.
    """
    del axis_name
    mask = presence.joint_mask(batch, *self.features)  # [B]
    if len(mask) < 2:
      raise ConfigError(
        'tasks.match draws mismatches among the examples of one micro-batch, '
        "with mesh.style='pmap' of one device, which has 1; use a larger "
        'train.batch_size or a smaller train.accumulate'
      )
    first, second = self.features
    scores = self._similarity(outputs, len(mask))
    logits = [presence.get_output(outputs, f'{OUTPUT}_output')[:, 0]]
    kept = [mask]
    for feature, rows in ((second, scores), (first, scores.T)):
      rng, draw, dropout = jax.random.split(rng, 3)
      other, exists = _draw_others(draw, rows, mask)
      mismatched = dict(batch)
      for ending in FEATURE_ENDINGS:
        if (key := f'{feature}{ending}') in batch:
          mismatched[key] = batch[key][other]
      found = apply(mismatched, train=True, rngs={'dropout': dropout})
      logits.append(found[f'{OUTPUT}_output'][:, 0])
      kept.append(mask & exists)
    is_pair = jnp.array([1.0, -1.0, -1.0])[:, None]  # [3, 1]
    kept = jnp.stack(kept)  # [3, B]
    signed = jnp.where(kept, is_pair * jnp.stack(logits), 0.0)
    losses = jnp.where(kept, -jax.nn.log_sigmoid(signed), 0.0)
    # An item is an example, as `count` says: its pair with its mismatches.
    losses = losses.sum(axis=0) / jnp.maximum(kept.sum(axis=0), 1)  # [B]
    return ops.masked_mean(losses, mask), {
      'accuracy': ops.masked_mean(signed > 0, kept),
      'items': Items(losses, mask),
    }

  def _similarity(self, outputs: Outputs, number: int) -> Array:
    """Logits [B, B] of drawing a second feature for a first one."""
    names = [f'{feature}_embedding' for feature in self.features]
    if not all(name in outputs for name in names):
      return jnp.zeros((number, number))
    first, second = (jax.lax.stop_gradient(outputs[name]) for name in names)
    scale = jax.lax.stop_gradient(outputs['logit_scale'])
    return scale * jnp.nan_to_num(first) @ jnp.nan_to_num(second).T


def _draw_others(rng: Array, scores: Array, mask: Array) -> tuple[Array, Array]:
  """Draws another example for each.

  Args:
    rng: key.
    scores: logits [B, B] of drawing example j for example i.
    mask: [B], False for examples that can't be drawn.

  Returns:
    Indices [B], and whether there is another example, [B].
  """
  legal = mask[None] & ~jnp.eye(len(mask), dtype=bool)  # [B, B]
  drawn = jax.random.categorical(rng, jnp.where(legal, scores, -jnp.inf))
  exists = legal.any(axis=1)
  return jnp.where(exists, drawn, 0), exists
