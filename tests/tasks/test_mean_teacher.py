"""The student agrees with the EMA, more so as steps go by."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import objectives

OWN = jnp.log(jnp.array([[6.0, 4], [5, 5], [1, 9]]))
TAUGHT = jnp.log(jnp.array([[9.0, 1], [2, 8], [5, 5]]))


def measure(own, taught, *, step=0, ramp_steps=0, other='other', mask=None):
  mask = jnp.ones(3, bool) if mask is None else jnp.array(mask)
  views = {'image': jnp.zeros((3, 2)), 'other': jnp.ones((3, 2))}
  batch = views | {f'{name}_mask': mask for name in views}

  def apply_teacher(swapped):
    view = batch[other or 'image']
    np.testing.assert_array_equal(swapped['image'], view)
    return {'kind_output': taught}

  objective = objectives.Consistency('kind', 'image', other, ramp_steps)
  loss, metrics = objective(
    {'kind_output': own},
    batch,
    apply=lambda *_, **__: {},
    rng=jax.random.key(0),
    apply_teacher=apply_teacher,
    step=jnp.int32(step),
  )
  return loss, metrics, objective.count(batch)


def test_squared_distance_of_probabilities_over_those_with_both_views():
  # Differences of 0.3, 0.3 and 0.4 in each of two classes.
  loss, metrics, count = measure(OWN, TAUGHT)
  want = 2 * (0.09 + 0.09 + 0.16) / 3
  np.testing.assert_allclose(loss, want, rtol=1e-4)
  np.testing.assert_allclose(metrics['agreement'], 1 / 3, rtol=1e-6)
  spoilt = TAUGHT.at[2].set(jnp.nan)
  loss, _, few = measure(OWN, spoilt, mask=[True, True, False], other='')
  np.testing.assert_allclose(loss, 0.18, rtol=1e-4)
  assert (count, few) == (3, 2)


def test_the_weight_rises_to_1():
  whole = measure(OWN, TAUGHT)[0]
  for step, factor in ((0, np.exp(-5)), (5, np.exp(-1.25)), (10, 1), (99, 1)):
    part, metrics, _ = measure(OWN, TAUGHT, step=step, ramp_steps=10)
    np.testing.assert_allclose(part, factor * whole, rtol=1e-5)
    np.testing.assert_allclose(metrics['ramp'], factor, rtol=1e-5)


def test_the_teacher_has_no_gradient():
  own, taught = jax.grad(lambda *x: measure(*x)[0], (0, 1))(OWN, TAUGHT)
  assert np.all(own) and not np.any(taught)
