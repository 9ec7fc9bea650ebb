"""Own objectives of the wrong kind are named; errors inside them stay."""

import dataclasses

import jax.numpy as jnp
import pytest
import toy

from mmjax.config import settings
from mmjax.models import contracts
from mmjax.training import program


class Returns(toy.Mean):
  """Computes what a test says."""

  def __init__(self, result, count=1.0):
    self.result, self.number = result, count

  def count(self, batch):
    return self.number

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    x = outputs['x'].mean(1)
    return self.result(x)


class WithoutAxis(toy.Mean):
  def __call__(self, outputs, batch, *, apply, rng):
    return outputs['x'].mean(), {}


class WithoutCount:
  compared_outputs = ()

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    return outputs['x'].mean(), {}


class WithoutCompares(WithoutCount):
  count = toy.Mean.count
  compared_outputs = property()  # As if there were none.


class ComparesText(toy.Mean):
  compared_outputs = 'x'


class ComparesUnknown(toy.Mean):
  compared_outputs = ('y',)


class Taught(toy.Mean):
  teacher = 'ema'


class Scheduled(toy.Mean):
  scheduled = True


def _trace(objective):
  config = settings.complete(toy.config())
  config.train.ema_decay = 0.5
  mesh = program.mesh_of(config)
  experiment = dataclasses.replace(
    toy.build(config), objectives={'own': (1.0, objective)}
  )
  made = program.build(config, experiment, mesh)
  made.trace({k: jnp.asarray(v) for k, v in toy.Data().batch(0).items()})


@pytest.mark.parametrize(
  'objective, message',
  [
    (WithoutCompares(), 'WithoutCompares has no `compared_outputs`'),
    (ComparesText(), r"ComparesText\.compared_outputs is 'x', but .*\('x',\)"),
    (
      ComparesUnknown(),
      "ComparesUnknown.compared_outputs names 'y', but the model .*x",
    ),
    (WithoutCount(), r'WithoutCount has no method count\(batch\)'),
    (WithoutAxis(), r"WithoutAxis, which .* argument 'axis_name'"),
    (Taught(), r"Taught, which .* argument 'apply_teacher'"),
    (Scheduled(), r"Scheduled, which .* argument 'step'"),
    (Returns(lambda x: x.mean()), r'Returns returned an array float32 \[\], b'),
    (Returns(lambda x: (x.mean(), x)), r'Returns returned a tuple \('),
    (Returns(lambda x: (x, {})), r'.* array float32 \[8\] as its loss, but an'),
    (
      Returns(lambda x: (x.mean(), {'y': x})),
      r"Returns .* \[8\] as its metric 'y'",
    ),
    (
      Returns(lambda x: (x.mean(), {}), count=jnp.ones(8)),
      r'Returns\.count returned an array \[8\], but it is one number',
    ),
  ],
)
def test_an_objective_of_another_kind_is_named(objective, message):
  with pytest.raises(contracts.ContractError, match=rf'^tasks\.own: {message}'):
    _trace(objective)


def test_an_error_inside_an_objective_is_raised_as_it_is():
  with pytest.raises(ZeroDivisionError):
    _trace(Returns(lambda x: 1 / 0))
  _trace(Returns(lambda x: (x.mean(), {}), count=1))
