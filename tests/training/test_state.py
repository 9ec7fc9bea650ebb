"""The state's places on a mesh of eight, without eight devices."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from mmjax import encoders, models
from mmjax.config import schema, settings
from mmjax.parallel import mesh
from mmjax.training import optimizer
from mmjax.training import state as state_lib

MESH = jax.sharding.AbstractMesh(
  (2, 2, 2, 1), ('data', 'fsdp', 'tensor', 'sequence')
)


def _plan(name='adamw', ema=True, **fields):
  model, batch = toy.Model(), toy.Data().batch(0)
  boxed = state_lib.shapes(model, batch)
  config = settings.default_config().optimizer
  config.update({'name': name} | fields)
  tx = optimizer.build(
    config,
    nn.meta.unbox(boxed),
    steps=5,
    axes=nn.get_partition_spec(boxed),
  )
  return state_lib.plan(model, batch, tx, boxed=boxed, mesh=MESH, ema=ema)


@pytest.mark.parametrize('name', schema.OPTIMIZER['name'].choices)
def test_moments_and_average_lie_where_their_parameter_does(name):
  plan = _plan(name, freeze=('bias',))
  up, down = jax.P('fsdp', 'tensor'), jax.P('tensor', 'fsdp')
  for tree in (plan.shardings.params, plan.shardings.ema):
    assert tree['up']['kernel'].spec == up
    assert tree['down']['kernel'].spec == down
  # up is [16, 16] and down [16, 8]: a moment is known by its shape.
  moments = jax.tree.leaves(plan.abstract.opt_state)
  assert any(leaf.shape == (16, 8) for leaf in moments)
  for leaf in moments:
    expected = {(16, 16): up, (16, 8): down}.get(leaf.shape, jax.P())
    if leaf.ndim == 2:
      assert leaf.sharding.spec == expected


def test_fsdp_of_eight_leaves_an_eighth_on_each_device():
  """CLIP B/16, whose norms alone are whole everywhere."""
  tower = {'depth': 12, 'remat': 'none'}
  image = encoders.ViT(16, 768, num_heads=12, mlp_dim=3072, **tower)
  text = encoders.Transformer(
    49408, 512, num_heads=8, mlp_dim=2048, max_length=77, **tower
  )
  batch = {
    'image': np.zeros((2, 224, 224, 3), np.float32),
    'text': np.zeros((2, 77), np.int32),
  }
  model = models.DualEncoder(image, text, 512)
  eight = jax.sharding.AbstractMesh((1, 8, 1, 1), mesh.AXES)
  boxed = state_lib.shapes(model, batch)
  tx = optax.adamw(1e-3)
  plan = state_lib.plan(model, batch, tx, boxed=boxed, mesh=eight, ema=True)

  def size(tree, shape):
    return sum(4 * math.prod(shape(leaf)) for leaf in jax.tree.leaves(tree))

  for tree in (plan.abstract.params, plan.abstract.opt_state):
    whole = size(tree, lambda leaf: leaf.shape)
    part = size(tree, lambda leaf: leaf.sharding.shard_shape(leaf.shape))
    assert whole > 5e8
    assert 1 / 8 <= part / whole < 1.01 / 8
  assert plan.abstract.ema['image']['patches']['projection'][
    'kernel'
  ].sharding.spec == jax.P(None, 'fsdp')


def test_the_plan_has_the_shapes_that_init_makes():
  plan = _plan(ema=True)
  state = jax.jit(plan.init)(np.uint32(3))
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(state) == shapes(plan.abstract)
  assert int(state.step) == 0 and int(state.seed) == 3
  np.testing.assert_array_equal(
    state.params['up']['kernel'], state.ema['up']['kernel']
  )
  assert _plan(ema=False).abstract.ema is None


def test_the_seed_makes_the_parameters():
  init = jax.jit(_plan().init)
  kernel = lambda seed: init(np.uint32(seed)).params['up']['kernel']
  np.testing.assert_array_equal(kernel(1), kernel(1))
  assert (kernel(1) != kernel(2)).any()


def test_variables_that_are_no_parameters_are_refused():
  class WithStatistics(nn.Module):
    @nn.compact
    def __call__(self, batch, *, train):
      x = nn.Dense(3)(batch['image'])
      return {'x': nn.BatchNorm(use_running_average=False)(x)}

  with pytest.raises(ValueError, match='batch_stats'):
    state_lib.shapes(WithStatistics(), {'image': jnp.zeros((2, 5))})


def test_given_parameters_take_the_place_of_drawn_ones():
  state = jax.jit(_plan().init)(np.uint32(0))
  kernel = jnp.full_like(state.params['up']['kernel'], 7.0)
  got = state_lib.with_params(state, {'up/kernel': kernel})
  for tree in (got.params, got.ema):
    np.testing.assert_array_equal(tree['up']['kernel'], kernel)
    np.testing.assert_array_equal(
      tree['down']['kernel'], state.params['down']['kernel']
    )
