"""A tiny DiT learns which of two images a text asks for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax import models, objectives
from mmjax.models import predict

STACK = {'width': 16, 'depth': 1, 'num_heads': 2, 'mlp_dim': 32}


def test_drawings_follow_the_text():
  config = {'name': 'dit', **STACK, 'patch_size': 2}
  config['text'] = {'name': 'transformer', **STACK}
  module = models.build(config, models.DataSizes(5, text_length=2))
  objective = objectives.Denoising(condition='text', drop_condition=0.1)
  values = jnp.asarray([-0.8, 0.8])[jnp.arange(32) % 2]
  batch = {
    'image': jnp.broadcast_to(values[:, None, None, None], (32, 4, 4, 3)),
    'text': jnp.stack([jnp.ones(32, int), 2 + jnp.arange(32) % 2], axis=1),
  }
  params = module.init(jax.random.key(0), batch, train=False)['params']
  tx = optax.adam(1e-2)

  def loss(params, key):
    apply = functools.partial(module.apply, {'params': params})
    return objective({}, batch, apply=apply, rng=key)[0]

  def step(carry, key):
    params, state = carry
    value, grads = jax.value_and_grad(loss)(params, key)
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), value

  keys = jax.random.split(jax.random.key(1), 400)
  train = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))
  (params, _), losses = train((params, tx.init(params)))
  assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
  draw = predict.make_draw(
    module,
    objective=objective,
    shape=(4, 4, 3),
    steps=8,
    sampler='dpm++',
    spacing='trailing',
    guidance=1.0,
  )
  asked = {'text': batch['text'][:8], 'seed': jnp.arange(8)}
  drawn = np.asarray(jax.jit(draw)(params, asked)).mean(axis=(1, 2, 3))
  np.testing.assert_allclose(drawn, values[:8], rtol=0, atol=0.3)
