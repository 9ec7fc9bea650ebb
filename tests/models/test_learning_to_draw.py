"""Tiny models learn which of two images a text asks for."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax import models, objectives, tasks
from mmjax.models import predict, predict_unclip

STACK = {'width': 16, 'depth': 1, 'num_heads': 2, 'mlp_dim': 32}


def make_batch():
  values = jnp.asarray([-0.8, 0.8])[jnp.arange(32) % 2]
  batch = {
    'image': jnp.broadcast_to(values[:, None, None, None], (32, 4, 4, 3)),
    'text': jnp.stack([jnp.ones(32, int), 2 + jnp.arange(32) % 2], axis=1),
  }
  return batch, values


def train(module, batch, *chosen):
  """Parameters after 400 steps on the sum of objectives, and the losses."""
  params = module.init(jax.random.key(0), batch, train=False)['params']
  tx = optax.adam(1e-2)

  def loss(params, key):
    apply = functools.partial(module.apply, {'params': params})
    outputs = apply(batch, train=True)
    keys = jax.random.split(key, len(chosen))
    return sum(
      objective(outputs, batch, apply=apply, rng=key)[0]
      for objective, key in zip(chosen, keys, strict=True)
    )

  def step(carry, key):
    params, state = carry
    value, grads = jax.value_and_grad(loss)(params, key)
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), value

  keys = jax.random.split(jax.random.key(1), 400)
  scan = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))
  (params, _), losses = scan((params, tx.init(params)))
  assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
  return params


def check_drawings(draw, params, batch, values):
  asked = {'text': batch['text'][:8], 'seed': jnp.arange(8)}
  drawn = np.asarray(jax.jit(draw)(params, asked)).mean(axis=(1, 2, 3))
  np.testing.assert_allclose(drawn, values[:8], rtol=0, atol=0.3)


def test_drawings_follow_the_text():
  text = {'name': 'transformer', **STACK}
  config = {'name': 'dit', **STACK, 'patch_size': 2, 'text': text}
  module = models.build(config, models.DataSizes(5, text_length=2))
  objective = objectives.Denoising(condition='text', drop_condition=0.1)
  batch, values = make_batch()
  params = train(module, batch, objective)
  draw = predict.make_draw(
    module,
    objective=objective,
    shape=(4, 4, 3),
    steps=8,
    sampler='dpm++',
    spacing='trailing',
    guidance=1.0,
  )
  check_drawings(draw, params, batch, values)


def test_drawings_of_imagined_embeddings_follow_the_text():
  """DALL-E 2 on towers that know nothing, but tell the two apart."""
  config = {
    'name': 'unclip',
    'towers': {
      'name': 'dual_encoder',
      'embed_dim': 8,
      'image': {'name': 'vit', 'patch_size': 2, **STACK},
      'text': {'name': 'transformer', **STACK},
    },
    'prior': {'name': 'prior', **STACK, 'embed_dim': 8},
    'generator': {
      'name': 'dit',
      **STACK,
      'patch_size': 2,
      'embedding_feature': 'image_embedding',
    },
  }
  module = models.build(config, models.DataSizes(5, text_length=2))
  task = tasks.Unclip(
    guidance=1.0, steps=8, prior={'guidance': 1.0, 'steps': 8}
  )
  batch, values = make_batch()
  both = tasks.Prior().objective({}), task.objective({})
  params = train(module, batch, *both)
  features = {'image': types.SimpleNamespace(shape=(4, 4, 3))}
  draw = predict_unclip.make_unclip(module, **task.sampling(features))
  check_drawings(draw, params, batch, values)
