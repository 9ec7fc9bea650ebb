"""Distances of two sets of features, such as those of drawn and true images."""

import numpy as np
from jaxtyping import Float

from mmjax.errors import ConfigError


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


def _compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return (a @ b.T / a.shape[1] + 1) ** 3


def _check(a: np.ndarray, b: np.ndarray) -> None:
  if min(len(a), len(b)) < 2:
    raise ConfigError(
      f'a distance of {len(a)} and {len(b)} examples is not defined; use at '
      'least 2 of each'
    )
