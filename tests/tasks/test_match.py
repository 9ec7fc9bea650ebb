"""Pairs are classified, and mismatches that are drawn by similarity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives
from mmjax.errors import ConfigError
from mmjax.objectives import matching
from mmjax.tasks import match

FIELDS = ('image', 'text')


def apply(batch, *, train, rngs):
  """A model that knows: 3 where the numbers of both fields are equal."""
  assert train and 'dropout' in rngs
  same = batch['image'] == batch['text'][:, 1]
  return {'match_output': jnp.where(same, 3.0, -3.0)[:, None]}


def make_batch(present):
  number = jnp.arange(len(present))
  text = jnp.stack([0 * number, number], axis=1)
  mask = jnp.array(present)
  masks = {
    'image_mask': mask,
    'text_mask': jnp.broadcast_to(mask[:, None], text.shape),
  }
  return {'image': number, 'text': text, **masks}


def measure(batch, outputs=None, seed=0):
  objective = objectives.Matching(FIELDS)
  outputs = outputs or apply(batch, train=True, rngs={'dropout': 0})
  loss, metrics = objective(
    outputs, batch, apply=apply, rng=jax.random.key(seed)
  )
  return float(loss), float(metrics['accuracy']), float(objective.count(batch))


def test_a_model_that_knows_is_right_about_all():
  loss, accuracy, count = measure(make_batch([True] * 5))
  np.testing.assert_allclose(loss, np.log1p(np.exp(-3)), rtol=1e-5)
  assert (accuracy, count) == (1.0, 5.0)


def test_absent_examples_are_neither_pairs_nor_mismatches():
  batch = make_batch([True, False, True, False])
  outputs = apply(batch, train=True, rngs={'dropout': 0})
  spoilt = {'match_output': outputs['match_output'].at[1].set(jnp.nan)}
  assert measure(batch, spoilt)[1:] == (1.0, 2.0)
  # One example has no other to be mismatched with.
  assert measure(make_batch([True, False]))[1:] == (1.0, 1.0)
  assert measure(make_batch([False, False])) == (0.0, 0.0, 0.0)


def test_mismatches_are_drawn_by_similarity():
  draw = jax.vmap(matching._draw_others, (0, None, None))
  scores = jnp.array([[9.0, 0, 5, 5], [0, 0, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
  mask = jnp.array([True, True, True, False])
  keys = jax.random.split(jax.random.key(0), 2_000)
  others, exists = map(np.asarray, draw(keys, scores, mask))
  assert exists.all() and not (others == np.arange(4)).any()
  assert not (others == 3).any()
  fraction = (others[:, 0] == 2).mean()  # Against example 1, with logit 0.
  assert abs(fraction - 1 / (1 + np.exp(-5))) < 0.01
  assert abs((others[:, 1] == 0).mean() - 0.5) < 0.05


def test_one_example_alone_is_refused():
  with pytest.raises(ConfigError, match='which has 1; use a larger'):
    measure(make_batch([True]))


def test_two_fields_are_needed():
  with pytest.raises(ConfigError, match='should be two features'):
    match.Match(features=('image', 'image')).check()
