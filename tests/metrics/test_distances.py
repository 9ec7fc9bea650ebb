"""Frechet and kernel distances, against closed forms."""

import numpy as np
import pytest
import scipy.linalg

from mmjax.errors import ConfigError
from mmjax.metrics import distances


def draw(mean, root, number, seed):
  """Examples with exactly this mean and covariance root @ root.T."""
  x = np.random.default_rng(seed).normal(size=(number, len(mean)))
  x -= x.mean(axis=0)
  x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False)).T)
  return mean + x @ root.T


def test_frechet_is_that_of_the_gaussians():
  rng = np.random.default_rng(0)
  means, roots = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 3))
  a = draw(means[0], roots[0], 11, seed=1)
  b = draw(means[1], roots[1], 17, seed=2)
  first, second = (root @ root.T for root in roots)
  cross = scipy.linalg.sqrtm(first @ second)
  want = np.square(means[0] - means[1]).sum()
  want += np.trace(first + second - 2 * np.real(cross))
  np.testing.assert_allclose(distances.frechet(a, b), want, rtol=1e-6)
  np.testing.assert_allclose(distances.frechet(a, a), 0, atol=1e-6)


def test_frechet_works_with_fewer_examples_than_features():
  a, b = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
  first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
  cross = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0)).sum()
  want = np.square(a.mean(0) - b.mean(0)).sum()
  want += np.trace(first) + np.trace(second) - 2 * cross
  np.testing.assert_allclose(distances.frechet(a, b), want, rtol=1e-3)


def test_kernel_is_the_mean_over_pairs():
  a, b = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([[2.0], [0.0]])
  b = np.concatenate([b, b], axis=1)
  # (x y / 2 + 1)^3: within a 1; within b 1; across 8, 1, 27, 1.
  np.testing.assert_allclose(distances.kernel(a, b), 1 + 1 - 2 * 37 / 4)


def test_kernel_of_one_distribution_is_zero_on_average():
  rng = np.random.default_rng(0)
  found = [distances.kernel(*rng.normal(size=(2, 5, 3))) for _ in range(2000)]
  error = np.std(found) / np.sqrt(len(found))
  assert abs(np.mean(found)) < 4 * error


def test_single_examples_are_refused():
  for distance in (distances.frechet, distances.kernel):
    with pytest.raises(ConfigError, match='a distance of 1 and 5 examples'):
      distance(np.zeros((1, 2)), np.zeros((5, 2)))
