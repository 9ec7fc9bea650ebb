"""Deep canonical correlation analysis."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax import ops
from mmjax.objectives import contrastive, presence
from mmjax.parallel import collectives
from mmjax.types import AxisNames, Batch, Metrics, Outputs, Positive


def total_correlation(
  first: Float[Array, 'B E'],
  second: Float[Array, 'B E'],
  mask: Bool[Array, 'B'],
  epsilon: float = 1e-3,
) -> Float[Array, '']:
  """The sum of all canonical correlations of two sets of vectors.

  The trace norm of S11^-1/2 S12 S22^-1/2, with the covariances S of the vectors
  and epsilon on the diagonals of S11 and S22 (Andrew et al. 2013, section 3,
  with all E components). It is at most E. Two pairs and fewer
  have none.

  Args:
    first: vectors [B, E].
    second: vectors [B, E]; row i belongs to row i of `first`.
    mask: [B], True for existing pairs.
    epsilon: regularisation of the covariances.
  """
  number = mask.sum()
  x, y = (_centre(vectors, mask) for vectors in (first, second))
  scale = jnp.maximum(number - 1, 1).astype(jnp.float32)
  within = jnp.eye(x.shape[1]) * epsilon
  factors = [
    jnp.linalg.cholesky(part.T @ part / scale + within) for part in (x, y)
  ]
  # With Cholesky factors L in place of symmetric roots, the singular values are
  # the same, and gradients stay finite where eigenvalues are equal.
  left = _solve(factors[0], x.T @ y / scale)
  whitened = _solve(factors[1], left.T).T
  # The sum of singular values as that of roots of eigenvalues, whose gradient
  # is finite where they are 0 or equal.
  squares = jnp.linalg.eigvalsh(whitened.T @ whitened)
  floor = epsilon**2
  correlation = jnp.sum(jnp.sqrt(jnp.maximum(squares, 0) + floor) - epsilon)
  return jnp.where(number > 2, correlation, 0.0)


def _centre(vectors: Array, mask: Array) -> Array:
  """Vectors minus their mean; zeros where masked."""
  kept = ops.zero_masked(vectors.astype(jnp.float32), mask)
  mean = kept.sum(axis=0, keepdims=True) / jnp.maximum(mask.sum(), 1)
  return ops.zero_masked(kept - mean, mask)


def _solve(lower: Array, right: Array) -> Array:
  return jax.scipy.linalg.solve_triangular(lower, right, lower=True)


@dataclasses.dataclass(frozen=True)
class CanonicalCorrelation:
  """Makes the vectors of features as correlated as they can be (DCCA).

  Needs the outputs `FEATURE_embedding` [B, E]. The loss is 1 minus the mean of
  the E canonical correlations over the batch, and of several features the mean
  over all pairs of them that examples have. Unlike a contrastive loss, it has
  no negatives; it needs batches of several times E examples, as covariances
  are of the batch (Wang et al. 2015 on training by batches).

  Attributes:
    features: names of the features, at least two.
    anchor: feature that is compared with each other one; '' for all pairs.
    epsilon: regularisation of the covariances.
  """

  features: Sequence[str] = ('image', 'text')
  anchor: str = ''
  epsilon: Positive = 1e-3

  def __post_init__(self):
    # The checks of the features are those of a contrastive loss.
    checked = contrastive.Contrastive(
      features=self.features, anchor=self.anchor
    )
    object.__setattr__(self, 'features', checked.features)

  @property
  def compared_outputs(self) -> tuple[str, ...]:
    """Names of the outputs in which examples are compared."""
    return tuple(f'{feature}_embedding' for feature in self.features)

  @property
  def pairs(self) -> tuple[tuple[str, str], ...]:
    """The pairs of features that are compared."""
    return contrastive.Contrastive(
      features=self.features, anchor=self.anchor
    ).pairs

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
    """The loss, and `correlation` as a metric, the mean of the E of them."""
    del apply, rng
    found, counts = [], []
    for pair in self.pairs:
      mask = presence.joint_mask(batch, *pair)  # [B]
      first, second = (
        presence.get_output(outputs, f'{feature}_embedding') for feature in pair
      )
      counts.append(mask.sum(dtype=jnp.float32))
      if axis_name is not None:
        first, second, mask = (
          collectives.gather(x, axis_name) for x in (first, second, mask)
        )
      total = total_correlation(first, second, mask, self.epsilon)
      found.append(total / first.shape[1])
    shares = jnp.stack(counts) / jnp.maximum(sum(counts), 1)
    correlation = jnp.stack(found) @ shares
    return shares.sum() - correlation, {'correlation': correlation}
