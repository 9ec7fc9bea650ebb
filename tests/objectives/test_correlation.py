"""Canonical correlations against numpy, and of vectors that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives

SIZE, WIDTH = 31, 3


def make_vectors():
  rng = np.random.default_rng(0)
  shared = rng.normal(size=(SIZE, 2))
  first = np.concatenate([shared, rng.normal(size=(SIZE, 1))], axis=1)
  second = np.concatenate(
    [shared + rng.normal(size=(SIZE, 2)), rng.normal(size=(SIZE, 1))], axis=1
  )
  return first, second


def compute(first, second, mask=None, epsilon=1e-3):
  mask = np.ones(len(first), bool) if mask is None else mask
  arrays = (jnp.asarray(x, jnp.float32) for x in (first, second))
  return objectives.total_correlation(*arrays, jnp.asarray(mask), epsilon)


def test_it_is_the_trace_norm_of_the_whitened_covariance():
  first, second = make_vectors()
  epsilon = 1e-3
  x, y = first - first.mean(axis=0), second - second.mean(axis=0)
  scale = SIZE - 1

  def root(matrix):
    values, vectors = np.linalg.eigh(matrix + epsilon * np.eye(WIDTH))
    return vectors @ np.diag(values**-0.5) @ vectors.T

  whitened = root(x.T @ x / scale) @ (x.T @ y / scale) @ root(y.T @ y / scale)
  expected = np.linalg.svd(whitened, compute_uv=False).sum()
  # The floor of the roots changes each by less than epsilon.
  assert abs(compute(first, second) - expected) < WIDTH * epsilon


def test_linear_images_are_fully_correlated():
  first, _ = make_vectors()
  matrix = np.random.default_rng(1).normal(size=(WIDTH, WIDTH))
  whole = compute(first, first @ matrix + 5, epsilon=1e-6)
  assert whole == pytest.approx(WIDTH, abs=0.01)
  assert compute(first[:2], first[:2]) == 0


def test_masked_pairs_change_neither_value_nor_gradient():
  first, second = make_vectors()
  mask = np.arange(SIZE) < 20
  expected = compute(first[:20], second[:20])
  spoilt = np.where(mask[:, None], first, np.nan)
  value, gradient = jax.value_and_grad(compute)(
    jnp.asarray(spoilt, jnp.float32), second, mask
  )
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert np.all(np.isfinite(gradient)) and not np.any(gradient[20:])
  assert np.all(np.any(gradient[:20] != 0, axis=1))


def test_the_gradient_is_finite_where_correlations_are_equal_or_zero():
  same = np.concatenate([np.eye(WIDTH), -np.eye(WIDTH)])
  gradient = jax.grad(compute)(jnp.asarray(same, jnp.float32), same)
  assert np.all(np.isfinite(gradient))
  nothing = jnp.zeros((SIZE, WIDTH))
  assert np.all(np.isfinite(jax.grad(compute)(nothing, nothing)))


def test_the_objective_is_a_mean_over_the_pairs_that_there_are():
  first, second = make_vectors()
  outputs = {
    'image_embedding': jnp.asarray(first, jnp.float32),
    'text_embedding': jnp.asarray(second, jnp.float32),
    'sound_embedding': jnp.asarray(first + 1, jnp.float32),
  }
  batch = {name: jnp.zeros((SIZE, 4)) for name in ('image', 'text', 'sound')}
  batch = {
    **batch,
    **{f'{name}_mask': jnp.ones(SIZE, bool) for name in batch},
    'sound_mask': jnp.arange(SIZE) < 20,
  }
  objective = objectives.CanonicalCorrelation(
    ('image', 'text', 'sound'), 'image'
  )
  assert objective.pairs == (('image', 'text'), ('image', 'sound'))
  unused = {'apply': dict, 'rng': jax.random.key(0)}
  loss, metrics = objective(outputs, batch, **unused)
  pairs = [compute(first, second), compute(first[:20], first[:20] + 1)]
  expected = (31 * pairs[0] + 20 * pairs[1]) / 51 / WIDTH
  np.testing.assert_allclose(metrics['correlation'], expected, rtol=1e-5)
  np.testing.assert_allclose(loss, 1 - expected, rtol=1e-5)
  assert objective.count(batch) == 51
  none = {**batch, **{f'{n}_mask': jnp.zeros(SIZE, bool) for n in ('image',)}}
  loss, _ = objective(outputs, none, **unused)
  assert loss == 0


def test_devices_that_gather_have_the_loss_and_gradient_of_the_whole():
  first, second = (x[:30].astype(np.float32) for x in make_vectors())
  mask = jnp.asarray(np.arange(30) != 4)
  objective = objectives.CanonicalCorrelation(('a', 'b'))
  unused = {'apply': dict, 'rng': jax.random.key(0)}

  def measure(vectors, mask, axis_name=None):
    outputs = {'a_embedding': vectors[0], 'b_embedding': vectors[1]}
    batch = {'a': vectors[0], 'b': vectors[1], 'a_mask': mask, 'b_mask': mask}
    loss, _ = objective(outputs, batch, **unused, axis_name=axis_name)
    return loss * objective.count(batch) / 29

  def by_device(vectors):
    parts = [x.reshape(5, 6, WIDTH) for x in vectors]
    run = jax.vmap(
      lambda x, y, m: measure((x, y), m, 'devices'), axis_name='devices'
    )
    return run(*parts, mask.reshape(5, 6)).sum()

  vectors = (jnp.asarray(first), jnp.asarray(second))
  whole = jax.value_and_grad(measure)(vectors, mask)
  split = jax.value_and_grad(by_device)(vectors)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    split,
    whole,
  )


def test_one_field_is_refused():
  with pytest.raises(ValueError, match='two different names or more'):
    objectives.CanonicalCorrelation(('image', 'image'))
