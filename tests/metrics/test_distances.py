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


def test_precision_and_recall_count_examples_in_reach():
  true = np.asarray([[0.0], [1.0], [3.0], [6.0]])
  drawn = np.asarray([[0.5], [0.9], [2.8], [20.0]])
  # The nearest of 0, 1, 3, 6 is 1, 1, 2, 3 away: they cover -1..9. That of
  # 0.5, 0.9, 2.8, 20 is 0.4, 0.4, 1.9, 17.2: 0.1..1.3, 0.9..4.7, 2.8..37.2.
  found = distances.precision_recall(drawn, true, neighbors=1)
  assert found == (0.75, 0.75)
  swapped = distances.precision_recall(true, drawn, neighbors=1)
  assert swapped == (0.75, 0.75)
  # Of two neighbors, 20 reaches down to 0.9 - all but 0 is covered, and it too.
  assert distances.precision_recall(drawn, true, neighbors=2) == (0.75, 1.0)
  with pytest.raises(ConfigError, match='neighbors=4 is not legal for 4 and 5'):
    distances.precision_recall(true, np.zeros((5, 1)), neighbors=4)
