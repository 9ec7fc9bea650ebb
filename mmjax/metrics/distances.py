"""Distances of two sets of features, such as those of drawn and true images."""

import numpy as np
from jaxtyping import Float

from mmjax.errors import ConfigError

# k of the manifolds of precision and recall, as in the paper.
NEIGHBORS = 3


def frechet(a: Float[np.ndarray, 'N D'], b: Float[np.ndarray, 'M D']) -> float:
  """Frechet distance of Gaussians with the sets' means and covariances.

  |m - n|^2 + tr(S + T - 2 (S T)^(1/2)) (Heusel et al. 2017, section 2), with
  unbiased covariances; with the features of Inception it is FID. It is too
  large for few examples.

  Args:
    a: features [N, D].
    b: features [M, D].

  Raises:
    ConfigError: if a set has fewer than two examples.
  """
  _check(a, b)
  a, b = a.astype(np.float64), b.astype(np.float64)
  gap = a.mean(axis=0) - b.mean(axis=0)
  first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
  # The eigenvalues of S T are those of S^(1/2) T S^(1/2), which is symmetric.
  values, vectors = np.linalg.eigh(first)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  mixed = np.linalg.eigvalsh(root @ second @ root)
  cross = np.sqrt(np.maximum(mixed, 0)).sum()
  return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * cross)


def kernel(a: Float[np.ndarray, 'N D'], b: Float[np.ndarray, 'M D']) -> float:
  """Squared maximum mean discrepancy, unbiased, with a cubic kernel.

  k(x, y) = (x y / D + 1)^3 (Binkowski et al. 2018, section 4); with the
  features of Inception it is KID. It can be below 0.

  Args:
    a: features [N, D].
    b: features [M, D].

  Raises:
    ConfigError: if a set has fewer than two examples.
  """
  _check(a, b)
  a, b = a.astype(np.float64), b.astype(np.float64)
  within = []
  for x in (a, b):
    products = _compare(x, x)
    number = len(x)
    off_diagonal = products.sum() - np.trace(products)
    within.append(off_diagonal / (number * (number - 1)))
  return float(sum(within) - 2 * _compare(a, b).mean())


def precision_recall(
  drawn: Float[np.ndarray, 'N D'],
  true: Float[np.ndarray, 'M D'],
  neighbors: int = NEIGHBORS,
) -> tuple[float, float]:
  """How many drawn examples are like true ones, and the other way around.

  Precision is the fraction of drawn examples that lie in the manifold of the
  true ones, recall that of true ones in the manifold of the drawn (Kynkäänniemi
  et al. 2019, equations 1 and 2). A set's manifold is the union of balls around
  its examples that just reach their k-th nearest neighbor in the set.

  Args:
    drawn: features [N, D].
    true: features [M, D].
    neighbors: k.

  Raises:
    ConfigError: if a set has at most k examples.
  """
  if neighbors < 1 or min(len(drawn), len(true)) <= neighbors:
    raise ConfigError(
      f'neighbors={neighbors} is not legal for {len(drawn)} and {len(true)} '
      'examples; use a number from 1, below both'
    )
  drawn, true = drawn.astype(np.float64), true.astype(np.float64)
  across = _square_gaps(drawn, true)  # [N, M]
  reach = [
    # The nearest one is the example itself.
    np.partition(_square_gaps(x, x), neighbors, axis=1)[:, neighbors]
    for x in (drawn, true)
  ]
  precision = (across <= reach[1][None]).any(axis=1).mean()
  recall = (across <= reach[0][:, None]).any(axis=0).mean()
  return float(precision), float(recall)


def _square_gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Squared distances [N, M] of examples."""
  sizes = [np.square(x).sum(axis=1) for x in (a, b)]
  gaps = sizes[0][:, None] + sizes[1][None] - 2 * a @ b.T
  return np.maximum(gaps, 0)


def _compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return (a @ b.T / a.shape[1] + 1) ** 3


def _check(a: np.ndarray, b: np.ndarray) -> None:
  if min(len(a), len(b)) < 2:
    raise ConfigError(
      f'a distance of {len(a)} and {len(b)} examples is not defined; use at '
      'least 2 of each'
    )
