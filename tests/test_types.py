"""The types that all parts share."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import tasks
from mmjax.data import features
from mmjax.types import TokenVectors


def test_tokens_go_through_jax():
  tokens = TokenVectors(
    jnp.ones((2, 3, 5)), jnp.ones((2, 3), bool), jnp.ones((2, 5))
  )
  first = jax.jit(lambda t: jax.tree.map(lambda leaf: leaf[:1], t))(tokens)
  assert isinstance(first, TokenVectors)
  assert first.values.shape == (1, 3, 5)
  assert first.pooled.shape == (1, 5)


def test_tokens_of_an_array_have_the_mean_of_the_real_ones():
  values = jnp.array([[[1.0, 5.0], [3.0, 7.0], [jnp.nan, 0.0]]])
  tokens = TokenVectors.of(values, jnp.array([[True, True, False]]))
  np.testing.assert_array_equal(tokens.pooled, [[2.0, 6.0]])
  tokens = TokenVectors.of(jnp.ones((3, 2)))
  assert tokens.values.shape == (3, 1, 2) and tokens.mask.all()


def test_objectives_follow_their_protocol():
  needed = {
    'align': {'features': ('image', 'sound')},
    'masked': {'feature': 'image'},
    'pseudo_labels': {'target': 'a', 'strong': 'b'},
    'mean_teacher': {'target': 'a', 'other': 'b'},
    'distill': {'target': 'a', 'teacher': 'folder'},
    'unimodal': {'target': 'a', 'weights': {'image': 1.0}},
    **{name: {'target': 'a'} for name in ('classify', 'regress', 'translate')},
  }
  image = {'image': features.Image(name='image')}
  for name, cls in tasks.TASKS.items():
    objective = cls(**needed.get(name, {})).objective(image)
    assert callable(objective)
    assert callable(objective.count)
    hash(objective)  # So that one can be a static argument of jit.
