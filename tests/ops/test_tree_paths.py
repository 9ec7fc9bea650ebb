"""Regular expressions on paths."""

import jax.numpy as jnp
import pytest

from mmjax.ops import tree_paths

PARAMS = {
  'image': {'patch': {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)}},
  'text': {'embed': {'embedding': jnp.zeros((5, 3))}},
}


def test_a_pattern_is_looked_for_anywhere():
  found = tree_paths.mask(['^image/', 'embedding$'], PARAMS)
  assert found == {
    'image': {'patch': {'kernel': True, 'bias': True}},
    'text': {'embed': {'embedding': True}},
  }
  assert not any(tree_paths.mask(['^patch'], PARAMS)['image']['patch'].values())


def test_a_pattern_without_a_match_names_the_nearest_paths():
  with pytest.raises(ValueError, match=r'optimizer.freeze.*near it: .*image'):
    tree_paths.check('optimizer.freeze', ['^imag3/patch'], PARAMS)
  with pytest.raises(ValueError, match=r'near it: image, text'):
    tree_paths.check('optimizer.freeze', ['zzzzzzzzz'], PARAMS)
  with pytest.raises(ValueError, match='not a regular expression'):
    tree_paths.check('optimizer.freeze', ['(image'], PARAMS)
  tree_paths.check('optimizer.freeze', ['image', 'text/.*'], PARAMS)
