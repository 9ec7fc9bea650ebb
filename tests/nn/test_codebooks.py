"""Codebooks: ids and values agree."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.nn import codebooks, vector_quantizers

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
MAPS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5, 4)))
MAPS = MAPS.astype(jnp.float32)
MASK = jnp.asarray([True, False, True])
TOKENS = {
  'vq': vector_quantizers.VectorQuantizer(7, 4),
  'vq_gradient': vector_quantizers.VectorQuantizer(7, 4, update='gradient'),
  'fsq': codebooks.FiniteScalar((4, 5, 2, 3)),
  'lfq': codebooks.LookupFree(4),
}
every_codebook = pytest.mark.parametrize('name', TOKENS)


def init(module, maps=MAPS):
  made = module.init(jax.random.key(0), maps, jnp.ones(len(maps), bool))
  return nn.meta.unbox(made)


@every_codebook
def test_ids_stand_for_the_values_that_are_decoded(name):
  module = TOKENS[name]
  variables = init(module)
  codes = module.apply(variables, MAPS, MASK)
  assert codes.ids.dtype == jnp.int32 and codes.ids.shape == (3, 2, 5)
  assert codes.ids.min() >= 0 and codes.ids.max() < module.size
  assert len(np.unique(codes.ids)) > 1
  found = module.apply(variables, MAPS, method='find')
  np.testing.assert_array_equal(found, codes.ids)
  looked = module.apply(variables, codes.ids, method='lookup')
  close(looked, codes.values)
  # Each code stands for itself, and for no other.
  ids = jnp.arange(module.size)
  values = module.apply(variables, ids, method='lookup')
  assert values.shape == (module.size, module.channels)
  assert len(np.unique(np.round(values, 4), axis=0)) == module.size


@every_codebook
def test_the_gradient_goes_straight_through(name):
  module = TOKENS[name]
  variables = init(module)
  weights = jnp.asarray(np.random.default_rng(1).normal(size=MAPS.shape))

  def total(maps):
    return (weights * module.apply(variables, maps, MASK).values).sum()

  gradient = jax.grad(total)(MAPS)
  if name != 'fsq':  # Which bounds its inputs first.
    return close(gradient, weights)
  assert np.all(gradient != 0)
  np.testing.assert_array_equal(jnp.sign(gradient), jnp.sign(weights))


def test_finite_scalars_by_hand():
  module = codebooks.FiniteScalar((4, 3))
  # Of 4 levels -2, -1, 0, 1 around 0; of 3 levels -1, 0, 1.
  maps = jnp.asarray([[-9.0, 9.0], [0.0, 0.0], [9.0, -9.0]])[None, None]
  codes = module.apply({}, maps, jnp.ones(1, bool))
  close(codes.values[0, 0], [[-1.0, 1.0], [0.0, 0.0], [0.5, -1.0]])
  np.testing.assert_array_equal(
    codes.ids[0, 0], [0 + 4 * 2, 2 + 4 * 1, 3 + 4 * 0]
  )


def test_bits_by_hand():
  module = codebooks.LookupFree(3, commitment=1.0, entropy=0.0)
  maps = jnp.asarray([[0.5, -2.0, 3.0]])[None, None]
  codes = module.apply({}, maps, jnp.ones(1, bool))
  np.testing.assert_array_equal(codes.ids, [[[0b101]]])
  close(codes.loss, [(0.25 + 1 + 4) / 3])
  # Certain and equal codes have no entropy, different ones that of the mean.
  entropies = codebooks.LookupFree(1, commitment=0.0, entropy=1.0)
  alike = jnp.full((1, 1, 2, 1), 50.0)
  differing = alike * jnp.asarray([1.0, -1.0])[None, None, :, None]
  for maps, loss in ((alike, 0.0), (differing, -np.log(2))):
    found = entropies.apply({}, maps, jnp.ones(1, bool)).loss
    np.testing.assert_allclose(found, [loss], atol=1e-4)


def test_a_latent_is_a_mean_and_in_training_a_sample():
  module = mnn.CODEBOOKS['gaussian'](2, divergence=1.0)
  mean, log_variance = (
    jnp.full((1, 1, 1, 2), 3.0),
    jnp.full((1, 1, 1, 2), -40.0),
  )
  both = jnp.concatenate([mean, log_variance], axis=-1)
  codes = module.apply({}, both, jnp.ones(1, bool))
  close(codes.values, mean)
  assert codes.ids is None and module.size == 0
  # The log of the variance counts from -30 on.
  close(codes.loss, [0.5 * (9 + np.exp(-30) - 1 + 30)])
  wide = jnp.zeros((1, 50, 50, 4))
  drawn = module.apply({}, wide, jnp.ones(1, bool), jax.random.key(0)).values
  np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 1], atol=0.05)


@pytest.mark.parametrize(
  'module, message',
  [
    (codebooks.FiniteScalar((4, 1)), 'each channel needs at least 2'),
    (codebooks.LookupFree(19), '19 bits are 524288 codes; use at most 18'),
    (
      vector_quantizers.VectorQuantizer(3, 4, update='mean'),
      "codebook.update 'mean' is unknown",
    ),
  ],
)
def test_settings_that_are_not_legal_are_refused(module, message):
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(lambda: init(module, jnp.zeros((1, 2, 2, module.channels))))
