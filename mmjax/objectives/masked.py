"""Objectives that predict what is hidden of a feature."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mmjax import ops
from mmjax.objectives import presence, text
from mmjax.types import Array, AxisNames, Batch, Items, Metrics, Outputs

# Of the chosen tokens (Devlin et al. 2019, section 3.1).
_HIDDEN, _REPLACED = 0.8, 0.1


@dataclasses.dataclass(frozen=True)
class MaskedTokens:
  """Predicts chosen tokens of a text from the others.

  Masked language modelling (Devlin et al. 2019, section 3.1): of the chosen
  tokens 80% are hidden, 10% replaced by random ones, and 10% stay. The loss is
  the cross-entropy of the chosen ones. The model needs `fill`. The number of
  chosen tokens of a text is fixed, so that `count` knows it.

  Attributes:
    feature: name of the text.
    fraction: fraction of a text's words that is chosen, at least one of them.
    specials: ids that are never chosen.
    vocab_size: number of ids that random tokens are drawn from.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  feature: str
  fraction: float
  specials: tuple[int, ...]
  vocab_size: int

  def count(self, batch: Batch) -> Array:
    """Number of tokens to predict."""
    number = ops.count_chosen(self.find_candidates(batch), self.fraction)
    return number.sum(dtype=jnp.float32)

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
    del outputs, axis_name
    choice, corruption, dropout = jax.random.split(rng, 3)
    index = jnp.arange(batch[self.feature].shape[0])
    positions, chosen = self.choose(batch, choice, index)  # [B, K]
    ids, hidden = self.corrupt(
      batch[self.feature], positions, chosen, corruption
    )
    logits = apply(
      {**batch, self.feature: ids},
      self.feature,
      positions,
      hidden,
      train=True,
      rngs={'dropout': dropout},
      method='fill',
    )
    labels = _take_labels(batch[self.feature], positions, chosen)
    loss, accuracy, items = text.mean_cross_entropy(logits, labels, chosen)
    return loss, {'accuracy': accuracy, 'items': items}

  def find_candidates(self, batch: Batch) -> Array:
    """Positions that may be chosen [B, T]: neither padding nor specials."""
    present = presence.presence_mask(batch, self.feature)
    words = ~jnp.isin(
      batch[self.feature], jnp.asarray(self.specials, jnp.int32)
    )
    return batch[f'{self.feature}_mask'] & present[:, None] & words

  def choose(
    self, batch: Batch, rng: Array, index: Array
  ) -> tuple[Array, Array]:
    """Positions [B, K], and which of them are chosen [B, K].

    Args:
      batch: arrays by feature.
      rng: key.
      index: indices [B] of the examples, as in `mmjax.ops.draw_by_index`.
    """
    candidates = self.find_candidates(batch)
    scores = ops.draw_by_index(rng, index, candidates.shape[1])
    return ops.choose(scores, candidates, self.fraction)

  def corrupt(
    self, ids: Array, positions: Array, chosen: Array, rng: Array
  ) -> tuple[Array, Array]:
    """Draws what happens to each chosen token.

    Args:
      ids: [B, T].
      positions: distinct positions [B, K].
      chosen: [B, K], False where a token stays whatever is drawn.
      rng: key.

    Returns:
      Ids [B, T] with random ones, and which of them to hide, bool [B, T].
    """
    draw, replace = jax.random.split(rng)
    action = jax.random.uniform(draw, positions.shape)
    own = jnp.take_along_axis(ids, positions, axis=1)  # [B, K]
    other = jax.random.randint(
      replace, own.shape, 0, self.vocab_size, ids.dtype
    )
    replaced = chosen & (action >= _HIDDEN) & (action < _HIDDEN + _REPLACED)
    rows = jnp.arange(len(ids))[:, None]
    return (
      ids.at[rows, positions].set(jnp.where(replaced, other, own)),
      self.hide(ids, positions, chosen & (action < _HIDDEN)),
    )

  def hide(self, ids: Array, positions: Array, chosen: Array) -> Array:
    """Marks chosen positions, [B, K] of them, in bool [B, T]."""
    rows = jnp.arange(len(ids))[:, None]
    return jnp.zeros(ids.shape, bool).at[rows, positions].set(chosen)

  def measure(
    self, logits: Array, ids: Array, positions: Array, chosen: Array
  ) -> tuple[Array, Array]:
    """Cross-entropy [B, K] of the true tokens, and whether they are likeliest.

    Both are those of zero logits where nothing is chosen.
    """
    logits = ops.zero_masked(logits, chosen)  # [B, K, V]
    labels = _take_labels(ids, positions, chosen)
    right = jnp.argmax(logits, axis=-1) == labels
    return text.cross_entropy(logits, labels), right


def _take_labels(ids: Array, positions: Array, chosen: Array) -> Array:
  """The true tokens [B, K] at positions, 0 where nothing is chosen."""
  labels = jnp.take_along_axis(ids, positions, axis=1)
  return jnp.where(chosen, labels, 0)


@dataclasses.dataclass(frozen=True)
class MaskedPatches:
  """Predicts the values of hidden patches from the visible ones.

  The masked autoencoder (He et al. 2022, sections 3 and 4, with normalised
  pixels): the mean squared error of the hidden patches, each with its own mean
  and deviation taken out. The model needs `reconstruct`. The mean is over the
  hidden patches of an example, then over examples; padding is not counted.

  Attributes:
    feature: name of an image, or of a sound whose spectrogram is cut.
    fraction: fraction of the patches that is hidden.
    epsilon: added to the variance of a patch.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  feature: str
  fraction: float
  epsilon: float = 1e-6

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the feature."""
    mask = presence.presence_mask(batch, self.feature)
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
    """The loss, and `mean_error`, that of predicting each patch's mean."""
    del outputs, axis_name
    choice, dropout = jax.random.split(rng)
    mask = presence.presence_mask(batch, self.feature)
    found = apply(
      batch,
      self.feature,
      choice,
      jnp.arange(len(mask)),
      self.fraction,
      train=True,
      rngs={'dropout': dropout},
      method='reconstruct',
    )
    errors, baseline = self.measure(found, mask)
    return (
      ops.masked_mean(errors, mask),
      {
        'mean_error': ops.masked_mean(baseline, mask),
        'items': Items(errors, mask),
      },
    )

  def measure(self, found: Any, mask: Array) -> tuple[Array, Array]:
    """Squared error [B] of a `Reconstruction`, and that of patches' means."""
    errors = [
      patch_errors(
        predicted, found.target, found.hidden, mask, epsilon=self.epsilon
      )
      for predicted in (found.predicted, jnp.zeros_like(found.predicted))
    ]
    return errors[0], errors[1]


def patch_errors(
  predicted: Float[Array, 'B P E'],
  target: Array,
  hidden: Array,
  mask: Array,
  *,
  epsilon: float = 1e-6,
) -> Float[Array, 'B']:
  """Mean squared error [B] of the hidden patches, normalised one by one.

  Args:
    predicted: normalised values of patches [B, P, E].
    target: true values, not normalised [B, P, E].
    hidden: [B, P], True for the patches that count.
    mask: [B], False for examples whose values may be anything; they give 0.
    epsilon: epsilon, as in `normalise_patches`.
  """
  kept = ops.zero_masked(hidden, mask)
  goal = normalise_patches(ops.zero_masked(target, mask), epsilon)[0]
  errors = jnp.square(ops.zero_masked(predicted, mask) - goal).mean(axis=-1)
  number = jnp.maximum(kept.sum(axis=1), 1)
  return jnp.where(kept, errors, 0.0).sum(axis=1) / number


def normalise_patches(
  patches: Float[Array, 'B P E'], epsilon: float = 1e-6
) -> tuple[Array, Array, Array]:
  """Takes the mean and deviation out of each patch.

  Patches of one value become zeros.

  Args:
    patches: values of patches [B, P, E].
    epsilon: added to the variance, 1e-6 in the published code. Patches with a
      variance far below it become almost zeros.

  Returns:
    Float32 patches [B, P, E], their means [B, P, 1] and their deviations.
  """
  patches = patches.astype(jnp.float32)
  mean = patches.mean(axis=-1, keepdims=True)
  deviation = jnp.sqrt(patches.var(axis=-1, keepdims=True) + epsilon)
  return (patches - mean) / deviation, mean, deviation
