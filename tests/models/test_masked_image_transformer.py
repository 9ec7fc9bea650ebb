"""MaskGIT: what it reads, and how images are drawn with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models, objectives
from mmjax.errors import ConfigError
from mmjax.models import predict_tokens as predict

STACK = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 11}
CODEC = {'name': 'autoencoder', 'width': 4, 'groups': 2, 'num_blocks': 1}
CODEC |= {'multipliers': (1,), 'patch_size': 3, 'middle_attention': False}
SIZE = (6, 9, 3)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@functools.cache
def build():
  config = {
    'name': 'maskgit',
    **STACK,
    'text': {'name': 'transformer', **STACK},
    'autoencoder': {**CODEC, 'codebook': {'name': 'lfq', 'channels': 3}},
  }
  return models.build(config, models.DataSizes(13, text_length=7))


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': jnp.asarray(rng.normal(size=(3, *SIZE)), jnp.float32),
    'text': jnp.asarray(rng.integers(1, 13, (3, 7))),
    'text_mask': jnp.asarray(np.arange(7)[None] < [[7], [4], [0]]),
  }


@pytest.fixture(scope='module')
def params(draw, batch):
  return draw(build(), batch, train=False)['params']


@pytest.fixture(scope='module')
def logits(params, batch):
  """A function of changes of the batch, of ids, and of what is hidden."""
  apply = jax.jit(
    lambda *arguments: build().apply(
      {'params': params}, *arguments, method='predict_tokens'
    )
  )
  ids = build().apply(
    {'params': params}, batch['image'], method='encode_tokens'
  )

  def call(changed=None, hide=0, add=0, conditioned=(True,) * 3):
    hidden = jnp.zeros(ids.shape, bool).at[:, :, :hide].set(True)
    other = jnp.where(hidden, (ids + add) % 8, ids)
    used = jnp.asarray(conditioned)
    return apply(other, hidden, {**batch, **(changed or {})}, used)

  return call


def test_logits_are_of_all_tokens_and_hidden_ones_are_not_read(logits):
  out = logits(hide=2)
  assert out.shape == (3, 2, 3, 8) and out.dtype == jnp.float32
  close(logits(hide=2, add=1), out)
  assert np.all(np.abs(logits(hide=1) - out).max((1, 2, 3)) > 1e-4)


def test_what_is_absent_changes_nothing_and_the_rest_does(logits, batch):
  out = logits(hide=2)
  real = batch['text_mask']
  close(logits({'text': jnp.where(real, batch['text'], 3)}, hide=2), out)
  other = {'text': batch['text'].at[:, 1].set(batch['text'][:, 1] % 12 + 1)}
  differs = np.abs(logits(other, hide=2) - out).max((1, 2, 3))
  np.testing.assert_array_equal(differs > 1e-4, [True, True, False])
  without = logits(hide=2, conditioned=(False, True, True))
  close(without[1:], out[1:])
  nothing = {'text_mask': jnp.zeros_like(real)}
  close(without[0], logits(nothing, hide=2)[0])
  assert np.abs(without[0] - out[0]).max() > 1e-4


def test_a_drawing_is_a_function_of_its_seed_and_condition(params, batch):
  inputs = {key: x for key, x in batch.items() if 'image' not in key}

  @functools.cache
  def make(guidance):
    function = predict.make_draw_tokens(
      build(),
      objective=objectives.MaskedImageTokens(condition='text'),
      shape=SIZE,
      steps=3,
      temperature=1.0,
      guidance=guidance,
    )
    return jax.jit(function)

  def sample(guidance, seeds=(3, 4, 3), **changed):
    arrays = {**inputs, **changed, 'seed': jnp.asarray(seeds)}
    return make(guidance)(strong, arrays)

  # An untrained model hardly depends on its text.
  louder = jax.tree.map(lambda x: 100 * x, params['project_text'])
  strong = {**params, 'project_text': louder}
  out = sample(3.0)
  assert out.shape == (3, *SIZE) and out.dtype == jnp.float32
  close(sample(3.0, seeds=(3, 5, 3))[0], out[0])
  assert np.abs(sample(3.0, seeds=(2, 5, 3)) - out)[:2].max() > 1e-2
  other = {'text': batch['text'] % 12 + 1}
  assert np.abs(sample(3.0, **other) - out)[:2].max() > 1e-2
  close(sample(0.0, **other), sample(0.0))


def test_sizes_that_tokens_do_not_fill_are_refused(params, batch):
  with pytest.raises(ConfigError, match='size 8 is not divisible by the 3 pix'):
    jax.eval_shape(
      lambda images: build().apply(
        {'params': params}, images, method='encode_tokens'
      ),
      batch['image'][:, :, :8],
    )
