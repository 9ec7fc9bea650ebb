"""The DiT: what it reads, and how it is drawn with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models, objectives, ops
from mmjax.errors import ConfigError
from mmjax.models import predict

STACK = {'width': 8, 'depth': 2, 'num_heads': 2, 'mlp_dim': 11}
SIZE = (6, 9, 2)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@functools.cache
def build(**settings):
  config = {
    'name': 'dit',
    **STACK,
    'patch_size': 3,
    'channels': 2,
    'text': {'name': 'transformer', **STACK},
    'class_field': 'kind',
    'num_classes': 5,
    **settings,
  }
  return models.build(config, models.DataSizes(13, text_length=7))


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': jnp.asarray(rng.normal(size=(3, *SIZE)), jnp.float32),
    'text': jnp.asarray(rng.integers(1, 13, (3, 7))),
    'text_mask': jnp.asarray(np.arange(7)[None] < [[7], [4], [0]]),
    'kind': jnp.asarray([1, 4, 2]),
    'kind_mask': jnp.asarray([True, False, True]),
  }


@pytest.fixture(scope='module')
def params(draw, batch):
  return draw(build(), batch, train=False)['params']


def denoise(params, batch, *more):
  times = jnp.asarray([0.2, 0.5, 0.9])
  arguments = batch['image'], times, batch, *more
  return build().apply({'params': params}, *arguments, method='denoise')


def test_what_is_absent_changes_nothing_and_the_rest_does(params, batch):
  out = denoise(params, batch)
  assert out.shape == (3, *SIZE) and out.dtype == jnp.float32
  spoilt = {
    **batch,
    'text': jnp.where(batch['text_mask'], batch['text'], 3),
    'kind': jnp.where(batch['kind_mask'], batch['kind'], 0),
  }
  close(denoise(params, spoilt), out)
  for changed in (
    {'text': batch['text'].at[:, 1].set(2)},
    {'kind': batch['kind'] - 1},
  ):
    differs = np.abs(denoise(params, {**batch, **changed}) - out).max((1, 2, 3))
    present = [True, True, False] if 'text' in changed else [True, False, True]
    np.testing.assert_array_equal(differs > 1e-4, present)


def test_without_its_condition_an_example_depends_on_none(params, batch):
  chosen = jnp.asarray([False, True, True])
  out = denoise(params, batch, chosen)
  close(out[1:], denoise(params, batch)[1:])
  nothing = {
    **batch,
    'text_mask': jnp.zeros_like(batch['text_mask']),
    'kind_mask': jnp.zeros_like(batch['kind_mask']),
  }
  close(out[0], denoise(params, nothing)[0])
  assert np.abs(out[0] - denoise(params, batch)[0]).max() > 1e-3


def test_at_first_blocks_do_nothing_and_the_prediction_is_zero(batch):
  module = build()
  first = module.init(jax.random.key(0), batch, train=False)['params']
  assert not np.any(denoise(jax.tree.map(jnp.asarray, first), batch))


@pytest.fixture(scope='module')
def sample(params, batch):
  objective = objectives.Denoising(
    condition='text', schedule=ops.NoiseSchedule()
  )

  def call(guidance, seeds=(3, 4, 3), **changed):
    function = predict.make_draw(
      build(),
      objective=objective,
      shape=SIZE,
      steps=3,
      sampler='dpm++',
      spacing='trailing',
      guidance=guidance,
    )
    inputs = {key: x for key, x in batch.items() if 'image' not in key}
    inputs |= changed
    return jax.jit(function)(params, {**inputs, 'seed': jnp.asarray(seeds)})

  return call


def test_a_drawing_is_a_function_of_its_seed_and_condition(sample, batch):
  out = sample(2.0)
  assert out.shape == (3, *SIZE)
  close(sample(2.0, seeds=(3, 5, 3))[0], out[0])
  assert np.abs(sample(2.0, seeds=(2, 4, 3))[0] - out[0]).max() > 1e-2
  other = {'text': batch['text'].at[:, 0].set(2)}
  assert np.abs(sample(2.0, **other)[0] - out[0]).max() > 1e-4
  close(sample(0.0, **other), sample(0.0))


def test_guidance_of_one_is_the_condition_alone(sample):
  close(sample(1.0), sample(1.0 + 1e-7), rtol=1e-3, atol=1e-3)


def test_a_class_without_a_number_of_classes_is_refused(batch):
  module = build(num_classes=0)
  with pytest.raises(ConfigError, match='num_classes=0 go together'):
    jax.eval_shape(lambda: module.init(jax.random.key(0), batch, train=False))
