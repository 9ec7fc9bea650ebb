"""Regular expressions on paths."""

import jax.numpy as jnp
import pytest

from mmjax.train import patterns

PARAMS = {
  'image': {'patch': {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)}},
  'text': {'embed': {'embedding': jnp.zeros((5, 3))}},
}


def test_a_pattern_is_looked_for_anywhere():
  found = patterns.mask(['^image/', 'embedding$'], PARAMS)
  assert found == {
    'image': {'patch': {'kernel': True, 'bias': True}},
    'text': {'embed': {'embedding': True}},
  }
  assert not any(patterns.mask(['^patch'], PARAMS)['image']['patch'].values())


def test_a_pattern_without_a_match_names_the_nearest_paths():
  with pytest.raises(ValueError, match=r'optimizer.freeze.*near it: .*image'):
    patterns.check('optimizer.freeze', ['^imag3/patch'], PARAMS)
  with pytest.raises(ValueError, match=r'near it: image, text'):
    patterns.check('optimizer.freeze', ['zzzzzzzzz'], PARAMS)
  with pytest.raises(ValueError, match='not a regular expression'):
    patterns.check('optimizer.freeze', ['(image'], PARAMS)
  patterns.check('optimizer.freeze', ['image', 'text/.*'], PARAMS)
