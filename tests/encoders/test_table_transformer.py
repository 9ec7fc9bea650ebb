"""Rows of a table become tokens, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

make = functools.partial(
  encoders.TableTransformer,
  4,
  0,
  2,
  7,
  category_sizes=(2, 3),
  final_norm=False,
)
NUMBERS = jnp.asarray([[1.5, -2.0, 0.25]])
CATEGORIES = jnp.asarray([[1, 2]])
BOTH = {'numbers': NUMBERS, 'categories': CATEGORIES}


def test_tokens_by_hand(draw):
  variables = draw(make(), BOTH, train=False)
  out = make().apply(variables, BOTH, train=False)
  params = variables['params']['features']
  want = np.concatenate(
    [
      params['class_token'],
      NUMBERS[0][:, None] * params['number_weights'] + params['bias'][:3],
      # The second category's rows come after the two of the first.
      params['category_table'][jnp.asarray([1, 4])] + params['bias'][3:],
    ]
  )
  np.testing.assert_allclose(out.values[0], want, rtol=1e-6)
  np.testing.assert_array_equal(out.pooled, params['class_token'])


def test_numbers_or_categories_alone(draw):
  numbers = make(category_sizes=())
  variables = draw(numbers, NUMBERS, train=False)
  known = jnp.asarray([[True, False, True]])
  out = numbers.apply(variables, NUMBERS, known, train=False)
  assert out.mask.tolist() == [[True, True, False, True]]
  variables = draw(make(), CATEGORIES, train=False)
  out = make().apply(variables, CATEGORIES, CATEGORIES > 0, train=False)
  assert out.values.shape == (1, 3, 4)


def test_a_category_out_of_range_is_not_that_of_another_feature(draw):
  variables = draw(make(), CATEGORIES, train=False)
  for ids in ([2, 0], [-1, 0]):
    out = make().apply(variables, jnp.asarray([ids]), train=False).values[0]
    assert np.isnan(out[1]).all() and np.isfinite(out[2]).all()


@pytest.mark.parametrize(
  'rows, mask, message',
  [
    ({'words': CATEGORIES}, None, r"have \['words'\]; use \('numbers', 'cat"),
    ({}, None, 'rows have nothing'),
    (jnp.zeros((1, 3), int), None, r'have 3 categ.*sizes \[2, 3\] are 2'),
    (BOTH, jnp.ones((1, 5), bool), 'need a mask of each'),
  ],
)
def test_rows_that_do_not_fit_are_refused(rows, mask, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: make().init(jax.random.key(0), rows, mask, train=False)
    )
