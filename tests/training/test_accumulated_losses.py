"""Own losses in micro-batches, against the batch, before the first step."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import toy

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.training import runner


class Compares(toy.Mean):
  """The mean over examples of their products with all others."""

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    x = outputs['x']
    loss = jax.nn.logsumexp(x @ x.T, axis=1)
    return ops.masked_mean(loss, batch['mask']), {}


class CountsBatches(toy.Mean):
  def count(self, batch):
    return jnp.ones(())


class Draws(toy.Mean):
  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    return jax.random.uniform(rng) + 0 * outputs['x'].sum(), {}


class CountsNothing(toy.Mean):
  def count(self, batch):
    return 0 * super().count(batch)


class Taught(toy.Mean):
  teacher = 'ema'

  def __call__(self, outputs, batch, *, apply_teacher, **more):
    return super().__call__(outputs, batch, **more)


class Scheduled(toy.Mean):
  scheduled = True

  def __call__(self, outputs, batch, *, step, **more):
    loss, metrics = super().__call__(outputs, batch, **more)
    return loss / (1 + step), metrics


@pytest.fixture
def train(tmp_path):
  def run(**objectives):
    def build(config, mesh):
      return dataclasses.replace(
        toy.build(config, mesh),
        objectives={name: (1.0, loss) for name, loss in objectives.items()},
        evaluators={},
      )

    config = toy.config(batch_size=32, steps=1, accumulate=2, ema_decay=0.5)
    return runner.run(config, build, tmp_path)

  return run


@pytest.mark.parametrize(
  'objective, message',
  [
    (
      Compares,
      r'Compares is [\d.]+ on some .*\d as the mean .*compared_outputs = \(',
    ),
    (CountsBatches, r'CountsBatches\.count is 1 for .* but 2 in total'),
  ],
)
def test_another_loss_in_parts_is_refused(objective, message, train):
  with pytest.raises(ConfigError, match=rf'^tasks\.own: {message}'):
    train(own=objective())


def test_a_mean_by_its_count_is_trained_and_what_is_not_compared_is_named(
  train, capsys
):
  found = {'mean': toy.Mean(), 'drawn': Draws(), 'none': CountsNothing()}
  found |= {'taught': Taught(), 'scheduled': Scheduled()}
  assert train(**found)['step'] == 1
  out = capsys.readouterr().out
  notes = [line for line in out.splitlines() if 'not compared' in line]
  for note, (name, why) in zip(
    notes,
    {
      'taught': 'has a teacher',
      'drawn': 'draws random numbers',
      'none': 'has no item in the first examples',
    }.items(),
    strict=True,
  ):
    assert note.startswith(f'note: the loss of tasks.{name} {why}, so it was')
