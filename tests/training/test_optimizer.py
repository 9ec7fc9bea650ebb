"""Every optimizer goes down; masks, scales and freezing touch what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.config import schema, settings
from mmjax.training import optimizer

PARAMS = {
  'image': {
    'kernel': jnp.full((3, 5), 0.5),
    'bias': jnp.full((5,), 0.5),
  },
  'text': {
    'embed': {'embedding': jnp.full((7, 5), 0.5)},
    'layers': {
      # Stacked by a scan: biases have two axes too.
      'query': {
        'kernel': jnp.full((2, 5, 3, 2), 0.5),
        'bias': jnp.full((2, 3, 2), 0.5),
      },
      'out': {'kernel': jnp.full((2, 3, 2, 5), 0.5)},
    },
    'head': {'kernel': jnp.full((5, 7), 0.5)},
  },
}
AXES = {
  'image': {'kernel': jax.P(None, 'embed'), 'bias': jax.P('embed')},
  'text': {
    'embed': {'embedding': jax.P('vocab', 'embed')},
    'layers': {
      'query': {
        'kernel': jax.P('layers', 'embed', 'heads', 'head_dim'),
        'bias': jax.P('layers', 'heads', 'head_dim'),
      },
      'out': {'kernel': jax.P('layers', 'heads', 'head_dim', 'embed')},
    },
    'head': {'kernel': jax.P('embed', 'vocab')},
  },
}


def _config(**fields):
  config = settings.default_config().optimizer
  config.update({'schedule': 'constant', 'lr': 0.01, 'clip_norm': 0.0} | fields)
  return config


def _step(config, grads=None, params=PARAMS):
  tx = optimizer.build(config, params, steps=10, axes=AXES)
  state = tx.init(params)
  grads = jax.tree.map(jnp.ones_like, params) if grads is None else grads
  updates, state = jax.jit(tx.update)(grads, state, params)
  return optax.apply_updates(params, updates), state


@pytest.mark.parametrize('name', schema.OPTIMIZER['name'].choices)
def test_every_optimizer_moves_every_parameter_against_the_gradient(name):
  params, _ = _step(_config(name=name))
  for before, after in zip(
    jax.tree.leaves(PARAMS), jax.tree.leaves(params), strict=True
  ):
    assert np.isfinite(after).all()
    assert after.sum() < before.sum()


def test_the_first_step_of_adamw_is_the_learning_rate():
  params, _ = _step(_config(name='adamw'))
  np.testing.assert_allclose(params['image']['bias'], 0.49, rtol=1e-6)


@pytest.mark.parametrize('name', schema.OPTIMIZER['name'].choices)
def test_trained_parameters_move_as_they_would_beside_others(name):
  config = _config(name=name, freeze=('^text/',), lr_scales=(('text', 2.0),))
  whole, _ = _step(config)
  tx = optimizer.build(config, PARAMS, steps=10, axes=AXES)
  image = {'image': PARAMS['image']}
  updates, _ = tx.update(
    jax.tree.map(jnp.ones_like, image), tx.init(image), image
  )
  moved = optax.apply_updates(image, updates)
  np.testing.assert_allclose(
    moved['image']['kernel'], whole['image']['kernel'], rtol=1e-6
  )


def test_the_first_matching_scale_multiplies_the_rate():
  config = _config(lr_scales=(('image/bias', 0.5), ('image', 0.1)))
  params, _ = _step(config)
  np.testing.assert_allclose(params['image']['bias'], 0.5 - 0.005, rtol=1e-6)
  np.testing.assert_allclose(params['image']['kernel'], 0.5 - 0.001, rtol=1e-6)
  np.testing.assert_allclose(
    params['text']['head']['kernel'], 0.5 - 0.01, rtol=1e-6
  )


@pytest.mark.parametrize('name', schema.OPTIMIZER['name'].choices)
def test_weight_decay_shrinks_kernels_and_embeddings_only(name):
  config = _config(name=name, weight_decay=0.1, no_decay=('^image',))
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  params, _ = _step(config, grads=zeros)
  decayed = 0.5 * (1 - 0.01 * 0.1)
  query = params['text']['layers']['query']
  np.testing.assert_allclose(query['kernel'], decayed, rtol=1e-6)
  np.testing.assert_allclose(
    params['text']['embed']['embedding'], decayed, rtol=1e-6
  )
  np.testing.assert_allclose(query['bias'], 0.5, rtol=1e-6)
  np.testing.assert_allclose(params['image']['kernel'], 0.5, rtol=1e-6)


def test_clipping_is_by_the_global_norm():
  # SGD: the update is the clipped gradient times the rate.
  params, _ = _step(_config(name='sgd', clip_norm=2.0, lr=1.0))
  moved = jax.tree.map(jnp.subtract, PARAMS, params)
  np.testing.assert_allclose(optax.tree.norm(moved), 2.0, rtol=1e-5)


def test_muon_takes_hidden_matrices():
  found = optimizer.muon_dimensions(PARAMS, AXES, ('^image',))
  assert set(found) == {
    'text/layers/query/kernel',
    'text/layers/out/kernel',
  }
  query = found['text/layers/query/kernel']
  assert (query.reduction_axis, query.output_axis) == ((1,), (2, 3))
  out = found['text/layers/out/kernel']
  assert (out.reduction_axis, out.output_axis) == ((1, 2), (3,))


def test_muon_steps_are_orthogonal():
  key = jax.random.key(0)
  params = {'a': {'kernel': jax.random.normal(key, (5, 5))}}
  tx = optimizer.build(_config(name='muon', lr=1.0), params, steps=10)
  updates, _ = tx.update(params, tx.init(params), params)
  scale = 0.2 * 5**0.5  # consistent_rms times the root of the width.
  values = jnp.linalg.svd(updates['a']['kernel'] / scale, compute_uv=False)
  # Newton-Schulz with Muon's coefficients ends near 1, not at it.
  assert (values > 0.5).all() and (values < 1.5).all()


def test_a_pattern_that_matches_nothing_is_refused():
  for field, value in (
    ('freeze', ('imagee',)),
    ('no_decay', ('imagee',)),
    ('lr_scales', (('imagee', 0.1),)),
  ):
    with pytest.raises(ValueError, match=f'optimizer.{field}.*no parameter'):
      optimizer.build(_config(**{field: value}), PARAMS, steps=10, axes=AXES)
