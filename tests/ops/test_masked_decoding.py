"""Drawing tokens by confidence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops

LENGTH, IDS = 7, 5


@pytest.mark.parametrize(
  'length, steps, want',
  [
    (8, 3, [8, 6, 4, 0]),
    (8, 1, [8, 0]),
    (3, 5, [3, 2, 1, 0, 0, 0]),  # One a step, then nothing is hidden.
  ],
)
def test_a_cosine_says_how_many_are_hidden(length, steps, want):
  np.testing.assert_array_equal(ops.count_hidden(length, steps), want)


def draw(predict, seeds, steps=4, temperature=1.0):
  keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
  return ops.fill_tokens(
    predict, keys, LENGTH, steps=steps, temperature=temperature
  )


def test_confident_tokens_come_first_and_stay():
  seen = []

  def predict(ids, hidden):
    jax.debug.callback(lambda *x: seen.append(x), ids, hidden, ordered=True)
    # Position p has the token p % 5; the later, the more certain.
    logits = 9 * jax.nn.one_hot(jnp.arange(LENGTH) % IDS, IDS)
    logits *= 1 + jnp.arange(LENGTH)[:, None]
    return jnp.broadcast_to(logits[None], (*ids.shape, IDS))

  ids = draw(predict, [3, 4], temperature=0.0)
  np.testing.assert_array_equal(ids, [np.arange(LENGTH) % IDS] * 2)
  jax.effects_barrier()
  numbers = [hidden.sum(axis=1).tolist() for _, hidden in seen]
  assert numbers == [[7, 7], [6, 6], [4, 4], [2, 2]]
  for known, hidden in seen[1:]:
    # The least certain ones are hidden again.
    np.testing.assert_array_equal(hidden[0], np.sort(hidden[0])[::-1])
    right = np.arange(LENGTH) % IDS == known[0]
    assert right[~hidden[0]].all()


def test_a_sequence_is_a_function_of_its_own_key():
  uniform = lambda ids, hidden: jnp.zeros((*ids.shape, IDS))
  both, one = draw(uniform, [5, 6]), draw(uniform, [6])
  np.testing.assert_array_equal(both[1], one[0])
  assert np.any(both[0] != both[1])


def test_what_is_known_conditions_what_is_drawn():
  # All tokens are equal to the first known one, if there is any.
  def predict(ids, hidden):
    known = jnp.where(hidden, -1, ids).max(axis=1)
    own = jnp.where(known >= 0, 50.0, 0.0)[:, None]
    logits = own * jax.nn.one_hot(known, IDS)
    return jnp.broadcast_to(logits[:, None], (*ids.shape, IDS))

  ids = draw(predict, range(20), steps=LENGTH)
  # At the first step one token is drawn, of a uniform distribution.
  assert len(np.unique(ids[:, 0])) == IDS
  np.testing.assert_array_equal(ids, np.repeat(ids[:, :1], LENGTH, axis=1))
