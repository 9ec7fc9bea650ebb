"""Own losses on the devices of mesh.style='pmap', against the whole batch.

Run by test_device_losses.py in a process of eight devices.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
import toy

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.parallel import collectives
from mmjax.training import runner


class Compares(toy.Mean):
  """The mean over examples of their products with all others."""

  compared_outputs = ('x',)

  def __init__(self, *, gathers):
    self.gathers = gathers

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    x = outputs['x']
    others = x
    if self.gathers and axis_name is not None:
      others = collectives.gather(x, axis_name)
    loss = jax.nn.logsumexp(x @ others.T, axis=1)
    return ops.masked_mean(loss, batch['mask']), {}


class Draws(toy.Mean):
  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    return jax.random.uniform(rng) + outputs['x'].sum(), {}


class Tied(nn.Module):
  """Outputs of which one has as many rows as a device has examples."""

  @nn.compact
  def __call__(self, batch, *, train):
    kernel = self.param('kernel', nn.initializers.normal(), (2, 4))
    x = batch['image'].reshape(len(batch['image']), -1) @ jnp.ones((16, 4))
    return {'x': x + kernel.sum(0, keepdims=True), 'kernel': kernel}


class UsesKernel(toy.Mean):
  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    again = apply(batch, train=False)
    values = (outputs['x'] + again['x']) @ outputs['kernel'].T
    return ops.masked_mean(jnp.abs(values).sum(1), batch['mask']), {}


@pytest.fixture
def train(tmp_path):
  def run(objective, *, model=None, style='pmap', **settings):
    def build(config, mesh):
      made = toy.build(config, mesh)
      return dataclasses.replace(
        made,
        model=model or made.model,
        objectives={'own': (1.0, objective)},
        evaluators={},
      )

    config = toy.config(batch_size=32, steps=1, accumulate=2, **settings)
    return runner.run(config | {'mesh': {'style': style}}, build, tmp_path)

  return run


def test_a_loss_that_ignores_the_other_devices_is_refused(train):
  message = (
    r'tasks\.own: Compares is [\d.]+ on a whole batch, but [\d.]+ on the 8 '
    r"devices of mesh\.style='pmap': where axis_name is set, its arrays are"
  )
  with pytest.raises(ConfigError, match=message):
    train(Compares(gathers=False))


def test_a_loss_that_gathers_or_that_xla_splits_is_trained(train, capfd):
  assert train(Compares(gathers=True))['step'] == 1
  assert 'not compared' not in capfd.readouterr().out


def test_with_pjit_a_loss_needs_no_code_for_devices(train):
  assert train(Compares(gathers=False), style='pjit')['step'] == 1


def test_what_is_no_batch_is_not_split(train):
  assert train(UsesKernel(), model=Tied())['step'] == 1


def test_a_random_loss_is_not_compared(train, capfd):
  assert train(Draws())['step'] == 1
  assert 'note: the loss of tasks.own draws random' in capfd.readouterr().out
