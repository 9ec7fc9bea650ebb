"""The adversarial loss: who gets which gradient, and from when on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models, objectives

WEIGHT, START = 0.3, 3
CODEC = {
  'name': 'autoencoder',
  'width': 4,
  'groups': 2,
  'num_blocks': 1,
  'multipliers': (1,),
  'patch_size': 3,
  'middle_attention': False,
  'codebook': {'name': 'vq', 'size': 7, 'channels': 3, 'update': 'gradient'},
  'discriminator': {'name': 'patch', 'width': 4, 'num_layers': 1, 'groups': 2},
}
IMAGES = jax.random.normal(jax.random.key(1), (3, 6, 9, 3))
KEY = jax.random.key(0)
MODULE = models.build(CODEC, models.DataSizes(1))
# The same sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope='module')
def measured(draw):
  """Losses and gradients: at two steps, without it, and by two plain losses."""
  params = draw(MODULE, {'image': IMAGES}, train=False)['params']
  judge, own = MODULE.discriminator, params['discriminator']

  def measure(objective, params, step):
    apply = functools.partial(MODULE.apply, {'params': params})
    batch = {'image': IMAGES}
    return objective({}, batch, apply=apply, rng=KEY, step=step)

  def reconstruct(params):
    batch = {'image': IMAGES}
    return MODULE.apply({'params': params}, batch, KEY, method='reconstruct')

  def loss_of_generator(params):
    found = reconstruct({**params, 'discriminator': own})
    logits = judge.apply({'params': own}, found.values)
    pixels = jnp.abs(found.values - IMAGES).mean()
    return pixels + found.codes.loss.mean() - WEIGHT * logits.mean()

  def loss_of_discriminator(own, fakes):
    real, fake = (judge.apply({'params': own}, x) for x in (IMAGES, fakes))
    hinge = jnp.maximum(0, 1 - real).mean() + jnp.maximum(0, 1 + fake).mean()
    return 0.5 * hinge, (real.mean(), fake.mean())

  @jax.jit
  def run(params):
    plain = objectives.Autoencoding()
    trained = objectives.Autoencoding(
      adversarial=WEIGHT, adversarial_start=START
    )
    gradient = lambda objective, step: jax.value_and_grad(
      functools.partial(measure, objective), has_aux=True
    )(params, jnp.int32(step))
    others = {k: x for k, x in params.items() if k != 'discriminator'}
    fakes = reconstruct(params).values
    return {
      'without': gradient(plain, START),
      'before': gradient(trained, START - 1),
      'after': gradient(trained, START),
      'generator': jax.value_and_grad(loss_of_generator)(others),
      'discriminator': jax.value_and_grad(loss_of_discriminator, has_aux=True)(
        own, fakes
      ),
    }

  return run(params)


def test_gradients_are_those_of_two_separate_losses(measured):
  (loss, metrics), gradient = measured['after']
  of_generator, expected = measured['generator']
  (hinge, (real, fake)), of_discriminator = measured['discriminator']
  jax.tree.map(close, gradient.pop('discriminator'), of_discriminator)
  jax.tree.map(close, gradient, expected)
  close(loss, of_generator + hinge)
  close(metrics['discriminator'], hinge)
  close(metrics['real_logits'], real)
  close(metrics['fake_logits'], fake)


def test_before_its_start_it_changes_nothing(measured):
  (loss, _), gradient = measured['before']
  (plain, _), expected = measured['without']
  close(loss, plain)
  for leaf in jax.tree.leaves(gradient.pop('discriminator')):
    assert not np.any(leaf)
  expected.pop('discriminator')
  jax.tree.map(close, gradient, expected)
