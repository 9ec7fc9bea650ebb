"""Contrastive losses on a mesh, in tiles and rings, in both styles.

Run by test_contrastive.py in a process of eight devices. Two axes split the
batch; over the third, all is the same.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives, ops
from mmjax.parallel import mesh as mesh_lib

SIZE, WIDTH = 12, 5
MASKS = {'all': [1] * SIZE, 'some': [1, 0, 1, 1] * 3, 'none': [0] * SIZE}
# Three pairs a device: tiles of one, that don't divide those or all twelve,
# and of all.
SETTINGS = [
  {'tile': 1},
  {'tile': 5},
  {'tile': 12},
  {'ring': True},
  {'ring': True, 'tile': 2},
]
every_loss = pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
every_setting = pytest.mark.parametrize('settings', SETTINGS, ids=str)
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6)


@pytest.fixture(scope='module')
def mesh():
  return mesh_lib.build({'data': 2, 'fsdp': 2, 'tensor': 2})


def params():
  rng = np.random.default_rng(0)
  return {
    'mapping': jnp.asarray(rng.normal(size=(WIDTH, WIDTH)), jnp.float32),
    'logit_scale': jnp.asarray(3.0),
    'logit_bias': jnp.asarray(-1.5),
  }


def batch(mask):
  rng = np.random.default_rng(1)
  return {
    'image': rng.normal(size=(len(mask), WIDTH)).astype(np.float32),
    'image_mask': np.asarray(mask, bool),
    'text': rng.normal(size=(len(mask), WIDTH)).astype(np.float32),
    'text_mask': np.ones((len(mask), 1), bool),
  }


def loss(objective, params, batch, axis_name=None):
  outputs = {
    **params,
    'image_embedding': ops.unit_norm(batch['image'] @ params['mapping']),
    'text_embedding': ops.unit_norm(batch['text']),
  }
  return objective(
    outputs, batch, apply=dict, rng=jax.random.key(0), axis_name=axis_name
  )


@functools.cache
def plain(kind):
  """The whole matrix of logits, on one device."""
  one = functools.partial(loss, objectives.Contrastive(kind))
  return jax.jit(jax.value_and_grad(one, has_aux=True))


def check(kind, compute, mesh):
  expected = plain(kind)
  place = lambda x: jax.device_put(x, mesh_lib.replicated_sharding(mesh))
  for name, mask in MASKS.items():
    (value, metrics), grad = compute(
      jax.tree.map(place, params()), mesh_lib.shard_batch(batch(mask), mesh)
    )
    (value_, metrics_), grad_ = expected(params(), batch(mask))
    close(value, value_)
    close(metrics['accuracy'], metrics_['accuracy'])
    jax.tree.map(close, grad, grad_)
    if name == 'none':
      assert value == 0
      assert all(not np.any(leaf) for leaf in grad.values())


@every_loss
@every_setting
def test_global_arrays(kind, settings, mesh):
  one = functools.partial(loss, objectives.Contrastive(kind, **settings))
  with jax.set_mesh(mesh):
    check(kind, jax.jit(jax.value_and_grad(one, has_aux=True)), mesh)


@every_loss
@pytest.mark.parametrize('settings', [{}, *SETTINGS[1::3]], ids=str)
def test_arrays_of_one_device(kind, settings, mesh):
  objective, axes = objectives.Contrastive(kind, **settings), ('data', 'fsdp')

  def one_device(params, batch):
    count = objective.count(batch)
    share = count / jnp.maximum(jax.lax.psum(count, axes), 1)

    def own(params):
      value, metrics = loss(objective, params, batch, axes)
      return share * value, {'accuracy': share * metrics['accuracy']}

    found = jax.value_and_grad(own, has_aux=True)(params)
    return jax.lax.psum(found, axes)

  compute = jax.shard_map(
    one_device,
    mesh=mesh,
    in_specs=(jax.P(), jax.P(axes)),
    out_specs=jax.P(),
    check_vma=False,
  )
  check(kind, jax.jit(compute), mesh)


def test_inside_a_loop_over_micro_batches(mesh):
  """As gradient accumulation calls it."""
  objective = objectives.Contrastive('sigmoid', ring=True)
  one = jax.grad(functools.partial(loss, objective), has_aux=True)

  def add(params, total, micro):
    return jax.tree.map(jnp.add, total, one(params, micro)[0]), None

  def compute(params, micro):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(functools.partial(add, params), zeros, micro)[0]

  given = batch(MASKS['some'])
  twice = {name: np.stack([x, x]) for name, x in given.items()}
  with jax.set_mesh(mesh):
    grad = jax.jit(compute)(params(), twice)
  _, expected = plain('sigmoid')(params(), given)
  jax.tree.map(lambda x, y: close(x, 2 * y), grad, expected)


def test_no_device_holds_its_rows_of_the_matrix(mesh):
  def temporaries(size, **settings):
    one = functools.partial(loss, objectives.Contrastive('sigmoid', **settings))
    given = mesh_lib.shard_batch(batch([1] * size), mesh)
    with jax.set_mesh(mesh):
      step = jax.jit(jax.grad(one, has_aux=True)).lower(params(), given)
      # As users compile.
      options = {'xla_backend_optimization_level': 3}
      compiled = step.compile(compiler_options=options)
    return compiled.memory_analysis().temp_size_in_bytes

  small, large = 1024, 2048
  assert temporaries(large) > 3.5 * temporaries(small)
  for settings in ({'tile': 16}, {'ring': True, 'tile': 16}):
    assert temporaries(large, **settings) < 2.2 * temporaries(small, **settings)
    assert temporaries(large, **settings) < temporaries(large) / 10


def test_a_batch_that_the_mesh_does_not_divide_is_refused(mesh):
  rows = jnp.zeros((6, 3))
  number = jnp.asarray(1.0)
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match=r'batch of 6 .* by the 4 shards .* of 4'),
  ):
    objectives.softmax_loss(rows, rows, number, jnp.ones(6, bool), tile=2)
