"""Names of axes become places on the mesh."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mmjax.parallel import mesh, rules


@pytest.mark.parametrize(
  'names, expected',
  [
    (('embed', 'mlp'), jax.P('fsdp', 'tensor')),
    (
      ('layers', 'heads', 'head_dim', 'embed'),
      jax.P(None, 'tensor', None, 'fsdp'),
    ),
    (('embed', 'embed'), jax.P('fsdp', None)),
    (('mlp', 'heads'), jax.P(None, 'tensor')),
    ((None,), jax.P(None)),
    ((), jax.P()),
  ],
)
def test_spec(names, expected):
  assert rules.spec(names) == expected


def test_an_unknown_name_is_refused_with_a_close_one():
  with pytest.raises(ValueError, match=r"'embd' .* use one of \['embed'\]"):
    rules.spec(('embd', 'mlp'))


def test_an_axis_that_the_mesh_does_not_divide_stays_whole():
  sizes = {'data': 1, 'fsdp': 2, 'tensor': 3, 'sequence': 1}
  fake = jax.sharding.AbstractMesh(tuple(sizes.values()), tuple(sizes))
  fit = lambda shape: rules._fitting(jax.P('fsdp', 'tensor'), shape, fake)
  assert fit((4, 9)) == jax.P('fsdp', 'tensor')
  assert fit((5, 9)) == jax.P(None, 'tensor')
  assert fit((4, 7)) == jax.P('fsdp', None)


def test_boxes_are_taken_off_and_plain_arrays_are_whole():
  tree = {
    'a': nn.LogicallyPartitioned(jnp.zeros((2, 3)), ('embed', 'mlp')),
    'b': jnp.zeros((5,)),
  }
  out = rules.shardings(tree, mesh.build({'data': -1}))
  assert out['a'].spec == jax.P('fsdp', 'tensor')
  assert out['b'].spec == jax.P()
