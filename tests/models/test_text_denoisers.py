"""PixArt and MMDiT as models of a config: trained with a text encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.errors import ConfigError

STACK = {'width': 12, 'depth': 2, 'num_heads': 2, 'mlp_dim': 11}
MODELS = {
  'pixart': {'embeds_size': True},
  'mmdit': {'positions_grid': 5, 'dual_layers': [0], 'qk_norm': 'rmsnorm'},
}
# A table that isn't trained, biases that change no attention weight, and what
# the text would ask for in the last block, which only reads it (as published).
FIXED = (
  "['positions']",
  "key']['bias']",
  "['blocks_1']['attention']['context_q",
)
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def build(name, **settings):
  text = {'name': 'transformer', **STACK, 'pooling': 'mean'}
  config = {'name': name, **STACK, 'patch_size': 3, 'text': text}
  config |= MODELS[name] | settings
  return models.build(config, models.DataSizes(13, text_length=7))


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': jnp.asarray(rng.normal(size=(3, 6, 9, 3)), jnp.float32),
    'image_size': jnp.asarray([[5.0, 7.0], [6.0, 6.0], [9.0, 2.0]]),
    'text': jnp.asarray(rng.integers(1, 13, (3, 7))),
    'text_mask': jnp.asarray(np.arange(7)[None] < [[7], [4], [0]]),
  }


@pytest.mark.parametrize('name', MODELS)
def test_predictions_read_what_is_there_and_train_every_parameter(
  name, draw, batch
):
  module = build(name)
  params = draw(module, batch, train=False)['params']
  times = jnp.asarray([0.2, 0.5, 0.9])

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def measure(params, batch, conditioned):
    arguments = batch['image'], times, batch, conditioned
    out = module.apply({'params': params}, *arguments, method='denoise')
    return jnp.square(out).mean(), out

  every = jnp.ones(3, bool)
  (_, out), gradient = measure(params, batch, every)
  assert out.shape == (3, 6, 9, 3) and out.dtype == jnp.float32
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    if not any(part in where for part in FIXED):
      assert np.any(leaf), where
  spoilt = {**batch, 'text': jnp.where(batch['text_mask'], batch['text'], 3)}
  close(measure(params, spoilt, every)[0][1], out)
  changed = {**batch, 'text': batch['text'].at[:, 1].set(2)}
  differs = np.abs(measure(params, changed, every)[0][1] - out).max((1, 2, 3))
  np.testing.assert_array_equal(differs > 1e-5, [True, True, False])
  (_, without), _ = measure(params, batch, jnp.asarray([False, True, True]))
  nothing = {**batch, 'text_mask': jnp.zeros_like(batch['text_mask'])}
  close(without[0], measure(params, nothing, every)[0][1][0])
  close(without[1:], out[1:])
  assert np.abs(without[0] - out[0]).max() > 1e-4


def test_a_second_attention_in_a_block_that_is_not_there_is_refused(batch):
  module = build('mmdit', dual_layers=[2])
  with pytest.raises(ConfigError, match='has 2, but the blocks are 0 to 1'):
    jax.eval_shape(lambda: module.init(jax.random.key(0), batch, train=False))
