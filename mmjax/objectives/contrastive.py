"""Contrastive objectives: match images with their texts, or any features."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.objectives import presence, tiles
from mmjax.parallel import collectives
from mmjax.types import (
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
  Ring,
  Tile,
)


class Compared(NamedTuple):
  """Fields that were compared with each other.

  Attributes:
    loss: [] mean over the pairs that exist; 0 if there are none.
    accuracy: [] fraction of the pairs whose own candidate scores highest.
    losses: [B] loss of each pair, of any value where there is none; without a
      gradient if the arrays are global.
  """

  loss: Float[Array, '']
  accuracy: Float[Array, '']
  losses: Float[Array, 'B']


def softmax_loss(
  image: Float[Array, 'B E'],
  text: Float[Array, 'B E'],
  scale: Float[Array, ''],
  mask: Bool[Array, 'B'],
  axis_name: AxisNames | None = None,
  *,
  tile: int = 0,
  ring: bool = False,
) -> Compared:
  """The symmetric cross-entropy of CLIP (Radford et al. 2021, figure 3).

  Args:
    image: unit vectors [B, E].
    text: unit vectors [B, E]; row i belongs to image i.
    scale: inverse temperature.
    mask: [B], True for existing pairs; others are neither rows nor candidates.
    axis_name: mapped axes over whose devices the candidates are gathered; the
      loss is then the mean over this device's pairs.
    tile: number of candidates whose logits are in memory at once; 0 for all, in
      a ring for all of one device.
    ring: whether devices pass their candidates around a ring, one neighbour's
      at a time, instead of gathering all of them.

  Returns:
    Loss and accuracy, the fraction of images whose own text has the highest
    score, and the loss of each pair.
  """
  if tile or ring:
    row_losses = functools.partial(
      tiles.row_losses,
      'softmax',
      scale=scale,
      bias=jnp.zeros_like(scale),
      is_candidate=mask,
      tile=tile,
      ring=ring,
      axis_name=axis_name,
    )
    to_text, first = row_losses(image, text)  # [B], [B]
    to_image, _ = row_losses(text, image)
    losses = (to_text + to_image) / 2
    loss = ops.masked_mean(losses, mask)
    return Compared(loss, ops.masked_mean(first, mask), losses)
  if axis_name is None:
    return _global_softmax_loss(image, text, scale, mask)
  return _gathered_softmax_loss(image, text, scale, mask, axis_name)


def _gathered_softmax_loss(
  image: Array, text: Array, scale: Array, mask: Array, axis_name: AxisNames
) -> Compared:
  """`softmax_loss` of one device's arrays, with candidates of all devices."""
  labels = jax.lax.axis_index(axis_name) * image.shape[0]
  labels = labels + jnp.arange(image.shape[0])
  all_image, all_text, is_candidate = (
    collectives.gather(x, axis_name) for x in (image, text, mask)
  )

  def cross_entropy(rows: Array, columns: Array):
    logits = scale * rows @ columns.T  # [B, all]
    logits = jnp.where(is_candidate[None], logits, jnp.finfo(jnp.float32).min)
    log_probs = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]  # [B]
    first = jnp.argmax(logits, axis=1) == labels  # [B]
    return -right, first

  to_text, first = cross_entropy(image, all_text)
  to_image, _ = cross_entropy(text, all_image)
  means = [ops.masked_mean(losses, mask) for losses in (to_text, to_image)]
  return Compared(
    sum(means) / 2, ops.masked_mean(first, mask), (to_text + to_image) / 2
  )


def _global_softmax_loss(
  image: Array, text: Array, scale: Array, mask: Array
) -> Compared:
  """`softmax_loss` of global arrays, which a mesh may shard.

  Each device has the logits of its own images with all texts, and of its own
  texts with all images. With the log-sum-exp of the other devices' rows, one
  number each, these give the whole gradient of its own vectors. Automatic
  differentiation would instead sum the gradients of all vectors over devices.
  """
  stop = jax.lax.stop_gradient
  labels = jnp.arange(image.shape[0])
  pairs = mask[:, None] & mask[None]  # [B, B]

  def row_losses(rows: Array, columns: Array, scale: Array):
    logits = scale * rows @ stop(columns).T  # [B, B]
    masked = jnp.where(mask[None], logits, jnp.finfo(jnp.float32).min)
    positive = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    total = jax.nn.logsumexp(masked, axis=1)  # [B]
    first = jnp.argmax(masked, axis=1) == labels
    return logits, stop(total), stop(total - positive), first

  # `logit_grads` has the terms of both directions, so `to_text` alone gives the
  # whole gradient of the scale; `to_image` must not count it again.
  to_text, text_lse, text_loss, first = row_losses(image, text, scale)
  to_image, image_lse, image_loss, _ = row_losses(text, image, stop(scale))

  def logit_grads(logits: Array, row_lse: Array, column_lse: Array) -> Array:
    """The loss's derivative [B, B] by each logit.

    It is (softmax over row i + softmax over column j - 2 [i = j]) / 2n.
    """
    softmax_sum = jnp.exp(logits - row_lse[:, None])
    softmax_sum += jnp.exp(logits - column_lse[None])
    right = labels[:, None] == labels[None]
    grads = jnp.where(pairs, softmax_sum - 2 * right, 0.0)
    return stop(grads / (2 * jnp.maximum(mask.sum(), 1)))

  surrogate = jnp.sum(logit_grads(to_text, text_lse, image_lse) * to_text)
  surrogate += jnp.sum(logit_grads(to_image, image_lse, text_lse) * to_image)
  losses = (text_loss + image_loss) / 2
  # The value of the mean loss with the gradient of `surrogate`.
  loss = ops.masked_mean(losses, mask) + (surrogate - stop(surrogate))
  return Compared(loss, ops.masked_mean(first, mask), losses)


def sigmoid_loss(
  image: Float[Array, 'B E'],
  text: Float[Array, 'B E'],
  scale: Float[Array, ''],
  bias: Float[Array, ''],
  mask: Bool[Array, 'B'],
  axis_name: AxisNames | None = None,
  *,
  tile: int = 0,
  ring: bool = False,
) -> Compared:
  """The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, algorithm 1).

  Every combination of an image and a text is a binary classification; the loss
  is summed over texts and averaged over images.

  Args:
    image: unit vectors [B, E].
    text: unit vectors [B, E]; row i belongs to image i.
    scale: factor of the cosines.
    bias: bias of the logits.
    mask: [B], True for existing pairs.
    axis_name: mapped axes over whose devices the candidates are gathered.
    tile: number of candidates whose logits are in memory at once; 0 for all.
    ring: whether devices pass their candidates around a ring; these are the
      chunks of section 3.3.

  Returns:
    Loss and accuracy, the fraction of images whose own text has the highest
    score, and the loss of each pair.
  """
  if tile or ring:
    losses, first = tiles.row_losses(
      'sigmoid',
      image,
      text,
      scale,
      bias,
      mask,
      tile=tile,
      ring=ring,
      axis_name=axis_name,
    )
    return Compared(
      ops.masked_mean(losses, mask), ops.masked_mean(first, mask), losses
    )
  labels, is_candidate, all_text = jnp.arange(image.shape[0]), mask, text
  if axis_name is not None:
    labels = labels + jax.lax.axis_index(axis_name) * image.shape[0]
    all_text = collectives.gather(text, axis_name)
    is_candidate = collectives.gather(mask, axis_name)
  logits = scale * image @ all_text.T + bias  # [B, all]
  positive = labels[:, None] == jnp.arange(all_text.shape[0])[None]
  losses = -jax.nn.log_sigmoid(jnp.where(positive, logits, -logits))
  losses = jnp.sum(jnp.where(is_candidate[None], losses, 0.0), axis=1)  # [B]
  ranked = jnp.where(is_candidate[None], logits, -jnp.inf)
  first = jnp.argmax(ranked, axis=1) == labels
  return Compared(
    ops.masked_mean(losses, mask), ops.masked_mean(first, mask), losses
  )


@dataclasses.dataclass(frozen=True)
class Contrastive:
  """Contrastive learning over the batch, of two features or of several.

  Needs the outputs `FEATURE_embedding` [B, E] (unit vectors) and `logit_scale`
  []; the sigmoid also `logit_bias` []. The loss of several features is the mean
  over all pairs of them that examples have, or with an `anchor` over those with
  it (ImageBind, Girdhar et al. 2023, equation 2). Examples without one of a
  pair are masked.

  Attributes:
    kind: loss, 'softmax' (CLIP) or 'sigmoid' (SigLIP).
    tile: number of candidates whose logits are computed at once. They are
      computed again in the backward pass, so memory grows with B and not with
      its square. With 0, all logits [B, B] are computed at once (sharded over
      devices).
    ring: whether devices pass their candidates around a ring, one neighbour's
      at a time, instead of gathering all of them; with a tile, each neighbour's
      are computed in tiles.
    features: names of the features, at least two.
    anchor: feature that is compared with each other one; '' for all pairs.
  """

  kind: str = 'softmax'
  tile: Tile = 0
  ring: Ring = False
  features: Sequence[str] = ('image', 'text')
  anchor: str = ''

  def __post_init__(self):
    object.__setattr__(self, 'features', tuple(self.features))
    if len(set(self.features)) < max(2, len(self.features)):
      raise ConfigError(
        f'features={self.features} should be two different names or more'
      )
    if self.anchor and self.anchor not in self.features:
      raise ConfigError(
        f'anchor={self.anchor!r} is not one of features={self.features}'
      )
    if self.kind not in ('softmax', 'sigmoid'):
      raise ConfigError(
        f"kind={self.kind!r} is unknown; use 'softmax' or 'sigmoid'"
      )
    if self.tile < 0:
      raise ConfigError(
        f'tile={self.tile} should be at least 1, or 0 for all candidates at '
        'once'
      )

  @property
  def compared_outputs(self) -> tuple[str, ...]:
    """Names of the outputs in which examples are compared."""
    embeddings = (f'{feature}_embedding' for feature in self.features)
    return (*embeddings, 'logit_scale', 'logit_bias')

  @property
  def pairs(self) -> tuple[tuple[str, str], ...]:
    """The pairs of features that are compared."""
    return tuple(
      pair
      for pair in itertools.combinations(self.features, 2)
      if not self.anchor or self.anchor in pair
    )

  def count(self, batch: Batch) -> Array:
    """Number of pairs."""
    masks = [presence.joint_mask(batch, *pair) for pair in self.pairs]
    return sum(mask.sum(dtype=jnp.float32) for mask in masks)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` and `logit_scale` as metrics."""
    del apply, rng
    found, masks, counts = [], [], []
    for pair in self.pairs:
      mask = presence.joint_mask(batch, *pair)  # [B]
      found.append(self._compare(outputs, pair, mask, axis_name))
      masks.append(mask)
      counts.append(mask.sum(dtype=jnp.float32))
    shares = jnp.stack(counts) / jnp.maximum(sum(counts), 1)
    metrics = {
      'accuracy': jnp.stack([one.accuracy for one in found]) @ shares,
      'logit_scale': outputs['logit_scale'],
      'items': Items(
        jnp.stack([one.losses for one in found], axis=1),
        jnp.stack(masks, axis=1),
      ),
    }
    return jnp.stack([one.loss for one in found]) @ shares, metrics

  def _compare(
    self,
    outputs: Outputs,
    pair: tuple[str, str],
    mask: Array,
    axis_name: AxisNames | None,
  ) -> Compared:
    """Loss and accuracy of one pair of features."""
    first, second = (
      jnp.where(
        mask[:, None], presence.get_output(outputs, f'{feature}_embedding'), 0.0
      )
      for feature in pair
    )
    options = {'tile': self.tile, 'ring': self.ring}
    scale = outputs['logit_scale']
    if self.kind == 'softmax':
      return softmax_loss(first, second, scale, mask, axis_name, **options)
    bias = outputs['logit_bias']
    return sigmoid_loss(first, second, scale, bias, mask, axis_name, **options)
