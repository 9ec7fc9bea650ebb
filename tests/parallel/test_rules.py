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


def _fake(**sizes):
  sizes = {'data': 1, 'fsdp': 1, 'tensor': 1, 'sequence': 1} | sizes
  return jax.sharding.AbstractMesh(
    tuple(sizes.values()),
    tuple(sizes),
    axis_types=(jax.sharding.AxisType.Auto,) * len(sizes),
  )


def test_all_axes_that_the_mesh_does_not_divide_are_named():
  box = lambda shape, names: nn.LogicallyPartitioned(jnp.zeros(shape), names)
  tree = {
    'fits': box((4, 9), ('embed', 'mlp')),
    'up': {'kernel': box((5, 7), ('embed', 'mlp'))},
    'query': box((4, 4), ('embed', 'heads')),
  }
  with pytest.raises(ValueError) as error:
    rules.shardings(tree, _fake(fsdp=2, tensor=3))
  lines = str(error.value).splitlines()
  assert lines[1:] == [
    "  query: axis 'heads' of length 4 is not divisible by mesh.tensor=3",
    "  up/kernel: axis 'embed' of length 5 is not divisible by mesh.fsdp=2",
    "  up/kernel: axis 'mlp' of length 7 is not divisible by mesh.tensor=3",
  ]


@pytest.mark.parametrize('heads, entry', [(8, 'tensor'), (2, None), (1, None)])
def test_few_key_value_heads_are_whole_on_every_device(heads, entry):
  names, shape = ('embed', 'kv_heads', 'head_dim'), (8, heads, 4)
  partition, errors = rules._partition(names, shape, _fake(tensor=4))
  assert partition == jax.P('fsdp', entry, None)
  assert not errors


def test_constrain_does_nothing_without_rules_or_mesh():
  x = jnp.zeros((2, 3))
  assert rules.constrain(x, 'batch', 'embed') is x
  with nn.logical_axis_rules(rules.RULES):
    assert rules.constrain(x, 'batch', 'embed') is x
  with jax.set_mesh(mesh.build({'data': -1})):
    assert rules.constrain(x, 'batch', 'embed') is x


def test_constrain_places_what_is_long_enough():
  @jax.jit
  def place(x):
    return rules.constrain(x, 'batch', 'length', 'embed')

  array = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  grid = jax.sharding.use_abstract_mesh(_fake(data=2, fsdp=2))
  with nn.logical_axis_rules(rules.RULES), grid:
    lines = place.lower(array(4, 3, 8)).as_text()
    assert '[{"data", "fsdp"}, {"sequence"}, {}]' in lines
    lines = place.lower(array(3, 3, 7)).as_text()
    assert '[{}, {"sequence"}, {}]' in lines


def test_boxes_are_taken_off_and_plain_arrays_are_whole():
  tree = {
    'a': nn.LogicallyPartitioned(jnp.zeros((2, 3)), ('embed', 'mlp')),
    'b': jnp.zeros((5,)),
  }
  out = rules.shardings(tree, mesh.build({'data': -1}))
  assert out['a'].spec == jax.P('fsdp', 'tensor')
  assert out['b'].spec == jax.P()
