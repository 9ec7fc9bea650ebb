"""Token embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.parallel import vocabulary

IDS = jnp.asarray([[3, 1, 4]])


def test_words_and_positions_add_up():
  module = mnn.TokenEmbedding(7, 4, 5)
  variables = nn.meta.unbox(module.init(jax.random.key(0), IDS))
  params = variables['params']
  table, where = params['table']['embedding'], params['position_table']
  x = module.apply(variables, IDS)
  np.testing.assert_array_equal(x[0], table[IDS[0]] + where[:3])
  x = module.apply(variables, IDS, jnp.asarray([[4, 0, 2]]))
  np.testing.assert_array_equal(
    x[0], table[IDS[0]] + where[np.asarray([4, 0, 2])]
  )


def test_positions_may_begin_further_on():
  module = mnn.TokenEmbedding(7, 4, 3, first_position=2)
  variables = nn.meta.unbox(module.init(jax.random.key(0), IDS))
  where = variables['params']['position_table']
  assert where.shape == (5, 4)
  words = module.apply(variables, IDS, method='embed')
  for tokens in (IDS, words):
    x = module.apply(variables, tokens)
    np.testing.assert_array_equal(x, words + where[None, 2:])


def test_words_are_scaled_and_positions_are_not():
  module = mnn.TokenEmbedding(7, 4, 5)
  variables = nn.meta.unbox(module.init(jax.random.key(0), IDS))
  table = variables['params']['table']['embedding']
  scaled = mnn.TokenEmbedding(7, 4, 5, scale=3.0)
  np.testing.assert_allclose(
    scaled.apply(variables, IDS)[0],
    module.apply(variables, IDS)[0] + 2 * table[IDS[0]],
    rtol=1e-5,
  )


def test_logits_are_products_with_the_table():
  module = mnn.TokenEmbedding(7, 4, 5, positions='none')
  variables = nn.meta.unbox(module.init(jax.random.key(0), IDS))
  x = jnp.ones((1, 2, 4))
  factors = module.apply(variables, x, method='factor_logits')
  table = variables['params']['table']['embedding']
  np.testing.assert_allclose(
    vocabulary.multiply(factors)[0, 0], table.sum(-1), rtol=1e-5
  )


def test_impossible_settings_are_refused():
  with pytest.raises(ValueError, match=r"positions 'x' is unknown; use one"):
    mnn.TokenEmbedding(7, 4, 5, positions='x').init(jax.random.key(0), IDS)
  with pytest.raises(ValueError, match='length 3 is more than max_length 2'):
    mnn.TokenEmbedding(7, 4, 2).init(jax.random.key(0), IDS)


@pytest.mark.parametrize(
  ('ids', 'positions', 'message'),
  [
    ([[3, 7]], None, 'token id 7 is not one of 0 to 6; raise vocab_size'),
    ([[-1, 3]], None, 'token id -1 is not one of 0 to 6'),
    ([[3, 1]], [[0, 5]], 'position 5 is not one of 0 to 4; raise max_length'),
  ],
)
def test_known_ids_past_the_table_are_refused_and_traced_ones_give_nan(
  ids, positions, message
):
  module = mnn.TokenEmbedding(7, 4, 5)
  variables = nn.meta.unbox(module.init(jax.random.key(0), IDS))
  bound = module.bind(variables)  # `apply` is jitted in tests.
  with pytest.raises(ConfigError, match=message):
    bound(np.asarray(ids), positions and np.asarray(positions))
  if np.min(ids) < 0:
    return  # Counts from the end where it is traced, as in numpy.
  x = module.apply(
    variables, np.asarray(ids), positions and np.asarray(positions)
  )
  assert np.isnan(x).all(-1).tolist() == [[False, True]]
