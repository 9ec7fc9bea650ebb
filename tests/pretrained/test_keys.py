"""Key tables: forms convert both ways; all mismatches are reported at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.pretrained import forms, keys, tensors

RULES = [
  *keys.attention(
    'blocks/layers/attention',
    'layer.{layer}',
    {'query': 'q', 'out': 'o'},
  ),
  keys.Rule('patches/kernel', 'conv', forms.Patches(2)),
  keys.Rule('taps/kernel', 'taps', forms.Convolution()),
  keys.Rule('tubelets/kernel', 'conv3', forms.Patches(2, frames=3)),
  keys.Rule('stem/kernel', 'stem', forms.Convolution()),
  keys.Rule('token', 'cls', forms.Same(flat=True)),
  keys.Rule('scale', 'scale'),
]
SHAPES = {
  'layer.0.q.weight': (6, 5),
  'layer.0.q.bias': (6,),
  'layer.0.o.weight': (5, 6),
  'layer.0.o.bias': (5,),
  'layer.1.q.weight': (6, 5),
  'layer.1.q.bias': (6,),
  'layer.1.o.weight': (5, 6),
  'layer.1.o.bias': (5,),
  'conv': (7, 3, 2, 2),
  'taps': (4, 5, 3),
  'conv3': (7, 5, 3, 2, 2),
  'stem': (7, 3, 1, 5),
  'cls': (5,),
  'scale': (),
}


def target():
  def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)

  return {
    'blocks': {
      'layers': {
        'attention': {
          'query': {'kernel': leaf(2, 5, 3, 2), 'bias': leaf(2, 3, 2)},
          'out': {'kernel': leaf(2, 3, 2, 5), 'bias': leaf(2, 5)},
        }
      }
    },
    'patches': {'kernel': leaf(12, 7)},
    'taps': {'kernel': leaf(3, 5, 4)},
    'tubelets': {'kernel': leaf(60, 7)},
    'stem': {'kernel': leaf(1, 5, 3, 7)},
    'token': leaf(1, 5),
    'scale': leaf(),
  }


def arrays(**changes):
  rng = np.random.default_rng(0)
  shapes = {**SHAPES, **changes}
  return {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
    if shape is not None
  }


def source(folder, arrays):
  tensors.write(folder, arrays.items())
  return tensors.Tensors(folder)


def test_there_and_back(tmp_path):
  given = arrays()
  params = keys.load(RULES, source(tmp_path, given), target())
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, target())
  back = dict(keys.save(RULES, params))
  assert back.keys() == given.keys()
  for name, array in given.items():
    np.testing.assert_array_equal(back[name], array)


def test_forms_mean_the_same_products(tmp_path):
  given = arrays()
  params = keys.load(RULES, source(tmp_path, given), target())
  attention = params['blocks']['layers']['attention']
  x = np.random.default_rng(1).normal(size=5).astype(np.float32)
  heads = jnp.einsum('d,dhk->hk', x, attention['query']['kernel'][1])
  want = given['layer.1.q.weight'] @ x
  np.testing.assert_allclose(heads.reshape(-1), want, rtol=1e-5, atol=1e-6)
  out = jnp.einsum('hk,hkd->d', heads, attention['out']['kernel'][1])
  want = given['layer.1.o.weight'] @ want
  np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
  patch = np.random.default_rng(2).normal(size=(2, 2, 3)).astype(np.float32)
  got = patch.reshape(-1) @ params['patches']['kernel']
  want = np.einsum('pqc,dcpq->d', patch, given['conv'])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  tubelet = np.random.default_rng(4).normal(size=(3, 2, 2, 5))
  got = tubelet.reshape(-1) @ params['tubelets']['kernel']
  want = np.einsum('fpqc,dcfpq->d', tubelet, given['conv3'])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  frames = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
  got = np.einsum('ki,kio->o', frames, params['taps']['kernel'])
  want = np.einsum('ki,oik->o', frames, given['taps'])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  row = np.random.default_rng(3).normal(size=(1, 5, 3)).astype(np.float32)
  got = np.einsum('pqc,pqcd->d', row, params['stem']['kernel'])
  want = np.einsum('pqc,dcpq->d', row, given['stem'])
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


PACKED = keys.packed_dense('mix', 'c', ('a', 'b', 'c'), transposed=False)


def test_packed_layers_lie_side_by_side(tmp_path):
  rng = np.random.default_rng(0)
  given = {'c.weight': rng.normal(size=(5, 18)), 'c.bias': np.arange(18.0)}
  given = {name: array.astype(np.float32) for name, array in given.items()}
  kernel = jax.ShapeDtypeStruct((5, 3, 2), jnp.float32)
  bias = jax.ShapeDtypeStruct((3, 2), jnp.float32)
  wanted = {'mix': {k: {'kernel': kernel, 'bias': bias} for k in 'abc'}}
  params = keys.load(PACKED, source(tmp_path, given), wanted)
  x = rng.normal(size=5).astype(np.float32)
  got = [jnp.einsum('d,dhk->hk', x, params['mix'][k]['kernel']) for k in 'abc']
  want = x @ given['c.weight']
  np.testing.assert_allclose(np.ravel(got), want, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(params['mix']['b']['bias'].ravel()[0], 6)
  back = dict(keys.save(PACKED, params))
  for name, array in given.items():
    np.testing.assert_array_equal(back[name], array)


def test_all_mismatches_are_told_at_once(tmp_path):
  given = arrays(
    **{'layer.1.q.weight': (5, 6), 'cls': None, 'layer.2.q.bias': (6,)}
  )
  with pytest.raises(ValueError) as caught:
    keys.load(RULES, source(tmp_path, given), target())
  message = str(caught.value)
  assert 'layer.1.q.weight is [5, 6], not [6, 5]' in message
  assert 'cls [5] is missing' in message
  assert 'layer.2.q.bias is left over' in message


def test_what_is_skipped_is_named(tmp_path):
  given = arrays(**{'old.position_ids': (3,)})
  there = source(tmp_path, given)
  with pytest.raises(ValueError, match='position_ids is left over'):
    keys.load(RULES, there, target())
  keys.load(RULES, there, target(), skip=(r'.*\.position_ids',))


def test_a_table_must_cover_the_parameters(tmp_path):
  there = source(tmp_path, arrays())
  with pytest.raises(ValueError, match='no rule fills scale'):
    keys.load(RULES[:-1], there, target())
  with pytest.raises(ValueError, match='no parameter ghost'):
    keys.load([*RULES, keys.Rule('ghost', 'ghost')], there, target())


def test_parameters_lie_where_they_are_wanted(tmp_path):
  device = jax.devices()[-1]
  place = jax.sharding.SingleDeviceSharding(device)
  wanted = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=place),
    target(),
  )
  params = keys.load(RULES, source(tmp_path, arrays()), wanted)
  for leaf in jax.tree.leaves(params):
    assert leaf.dtype == jnp.bfloat16
    assert leaf.sharding == place
