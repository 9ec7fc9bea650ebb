"""A student learns the logits or the embedding of a teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives

TAUGHT = jnp.array([[0.0, np.log(3)], [2.0, 2.0]])
OWN = jnp.array([[0.0, 0.0], [2.0, 2.0]])


def measure(own, taught, distance, temperature=1.0, mask=(True, True)):
  objective = objectives.Distillation('out', ('image',), distance, temperature)
  batch = {'image': jnp.zeros((2, 3)), 'image_mask': jnp.array(mask)}
  return objective(
    {'out': own},
    batch,
    apply=lambda *_, **__: {},
    rng=jax.random.key(0),
    apply_teacher=lambda batch: {'out': taught},
  )


def test_divergence_at_a_temperature_times_its_square():
  loss, metrics = measure(OWN, TAUGHT, 'divergence')
  # 1/4 log(1/2) + 3/4 log(3/2) for the first, 0 for the second.
  first = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
  np.testing.assert_allclose(loss, first / 2, rtol=1e-5)
  assert metrics['agreement'] == 0.5
  scaled, _ = measure(2 * OWN, 2 * TAUGHT, 'divergence', temperature=2.0)
  np.testing.assert_allclose(scaled, 4 * first / 2, rtol=1e-5)


@pytest.mark.parametrize(
  ('distance', 'want'),
  [('cosine', 1 - 0.6), ('squared', (1 + 16) / 2)],
)
def test_distances_of_embeddings(distance, want):
  own = jnp.array([[4.0, 0.0], [jnp.nan, 1.0]])
  taught = jnp.array([[3.0, 4.0], [1.0, 1.0]])
  one = lambda own, taught: measure(own, taught, distance, mask=(True, False))[
    0
  ]
  loss, (student, teacher) = jax.value_and_grad(one, (0, 1))(own, taught)
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  assert np.any(student[0]) and not np.any(student[1])
  assert not np.any(teacher)


def test_a_zero_embedding_has_a_finite_gradient():
  gradient = jax.grad(lambda own: measure(own, TAUGHT, 'cosine')[0])(
    jnp.zeros((2, 2))
  )
  assert np.all(np.isfinite(gradient))
