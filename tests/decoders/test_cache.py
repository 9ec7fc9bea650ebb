"""A cache that is full is refused, or gives NaN, and never overwritten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders
from mmjax.errors import ConfigError

SLOTS = 3


def _cache(index):
  return decoders.DecoderCache(
    blocks=None,
    unimodal=None,
    mask=jnp.zeros((1, SLOTS), bool),
    context_mask=None,
    index=index,
    next_position=jnp.zeros(1, int),
  )


@pytest.mark.parametrize(('index', 'steps'), [(3, 1), (2, 2), (0, 4)])
def test_where_the_index_is_known_it_is_refused(index, steps):
  message = f'{steps} tokens .* cache of 3 slots, of which {index} are taken'
  with pytest.raises(ConfigError, match=message):
    _cache(jnp.array(index)).check_capacity(jnp.ones((1, steps, 5)))


def test_in_a_compiled_program_the_result_is_nan():
  @jax.jit
  def run(index):
    return _cache(index).check_capacity(jnp.ones((1, 2, 5)))

  np.testing.assert_array_equal(run(1), np.ones((1, 2, 5)))
  assert np.isnan(run(2)).all()
