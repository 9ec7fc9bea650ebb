"""Random choices of positions."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import ops


def test_the_highest_scores_of_candidates_are_chosen():
  scores = jnp.array([[0.2, 0.9, 0.5, 0.7], [0.1, 0.2, 0.3, 0.4]])
  candidates = jnp.array([[True, False, True, True], [False] * 4])
  positions, chosen = ops.choose(scores, candidates, 0.5)
  np.testing.assert_array_equal(positions[0], [3, 2])
  np.testing.assert_array_equal(chosen, [[True, True], [False, False]])


def test_counts_are_those_of_what_is_chosen():
  candidates = jnp.tril(jnp.ones((14, 13), bool), -1)  # 0 to 13 of them.
  for fraction in (0.01, 0.15, 0.5, 0.99):
    _, chosen = ops.choose(jnp.ones((14, 13)), candidates, fraction)
    number = ops.count_chosen(candidates, fraction)
    np.testing.assert_array_equal(chosen.sum(axis=1), number)
    wanted = [0] + [max(1, int(fraction * n + 0.5)) for n in range(1, 14)]
    np.testing.assert_array_equal(number, wanted)


def test_draws_depend_on_the_row_alone():
  draw = lambda rows: ops.draw_by_index(jax.random.key(3), jnp.array(rows), 5)
  np.testing.assert_array_equal(draw([7, 2])[1], draw([2])[0])
  assert not jnp.allclose(draw([7])[0], draw([2])[0])
