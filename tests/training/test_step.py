"""The update: exact accumulation, randomness, averages, masked batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from mmjax import objectives
from mmjax.training import by_source, step
from mmjax.training import state as state_lib

OBJECTIVES = {'mean': (0.5, toy.Mean())}


class _NoDropout(toy.Model):
  """With the same parameters."""

  def __call__(self, batch, *, train):
    return super().__call__(batch, train=False)


def _state(params, tx, ema=None):
  return state_lib.State(
    step=jnp.zeros((), jnp.int32),
    seed=jnp.uint32(3),
    params=params,
    opt_state=tx.init(params),
    ema=ema,
  )


def _setup(model=None, **kwargs):
  model = _NoDropout() if model is None else model
  batch = toy.Data().batch(0)
  variables = model.init(jax.random.key(0), batch, train=False)
  params = jax.tree.map(jnp.asarray, toy.unbox(variables['params']))
  tx = optax.sgd(0.1)
  update = step.make_update(
    model,
    OBJECTIVES,
    tx,
    lr=lambda t: 0.1 * (t + 1),
    trained=jax.tree.map(lambda _: True, params),
    **kwargs,
  )
  return params, tx, jax.jit(update), batch


def test_accumulation_equals_the_whole_batch_with_ragged_counts():
  params, tx, whole, batch = _setup()
  # Micro-batch i of 4 has examples i and i + 4: 2, 1, 0 and 2 of them count.
  batch['mask'] = np.array([1, 0, 0, 1, 1, 1, 0, 1], bool)
  *_, parts, _ = _setup(accumulate=4)
  want, want_metrics = whole(_state(params, tx), batch)
  got, got_metrics = parts(_state(params, tx), batch)
  for a, b in zip(
    jax.tree.leaves(want.params), jax.tree.leaves(got.params), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # Order of sums.
  assert want_metrics.keys() == got_metrics.keys()
  for name in want_metrics:
    np.testing.assert_allclose(
      want_metrics[name], got_metrics[name], rtol=1e-5, err_msg=name
    )
  assert got_metrics['count/mean'] == 5


class _Embeddings(toy.Model):
  """Two views of an example as unit vectors, beside the toy's output."""

  @nn.compact
  def __call__(self, batch, *, train):
    x = batch['image'].reshape(len(batch['image']), -1)
    unit = lambda y: y / jnp.linalg.norm(y, axis=-1, keepdims=True)
    down = nn.Dense(6, name='down')(nn.gelu(nn.Dense(16, name='up')(x)))
    scale = self.param('scale', nn.initializers.constant(2.0), ())
    return {
      'image_embedding': unit(down[:, :3]),
      'text_embedding': unit(down[:, 3:]),
      'logit_scale': scale,
      'logit_bias': -scale,
      'x': down,
    }


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_accumulation_compares_all_examples_of_the_batch(kind):
  # The losses by source too; the third source has no example.
  losses = {
    'mean': (0.5, toy.Mean()),
    'contrastive': (2.0, objectives.Contrastive(kind)),
  }
  model, batch = _Embeddings(), toy.Data().batch(0)
  pixels = np.random.default_rng(1).integers(0, 256, (8, 2, 2, 4), np.uint8)
  batch['image'] = pixels.astype(np.float32) / 64 - 2
  batch['text'] = np.zeros((8, 2), np.int32)
  batch['source_index'] = np.array([0, 1, 1, 0, 0, 0, 0, 0], np.int32)
  batch['mask'] = np.array([1, 1, 0, 0, 1, 1, 1, 1], bool)
  params = model.init(jax.random.key(0), batch, train=False)['params']
  tx = optax.sgd(0.1)

  def run(accumulate, batch, **settings):
    update = step.make_update(
      model,
      losses,
      tx,
      lr=lambda t: 0.1,
      trained=jax.tree.map(lambda _: True, params),
      accumulate=accumulate,
      sources=('a', 'b', 'c'),
      **settings,
    )
    return jax.jit(update)(_state(params, tx), batch)

  want, want_metrics = run(1, batch)
  # Inputs are made of each micro-batch, once.
  got, got_metrics = run(
    4,
    {**batch, 'image': pixels},
    make_inputs=lambda b: {
      **b,
      'image': b['image'].astype(np.float32) / 64 - 2,
    },
  )
  assert want_metrics.keys() == got_metrics.keys()
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, want.params, got.params)
  jax.tree.map(close, want_metrics, got_metrics)
  for task, counts in {'mean': (5, 1, 0), 'contrastive': (5, 1, 0)}.items():
    of = lambda kind, task=task: np.array(
      [want_metrics[f'{kind}/{task}/{source}'] for source in 'abc']
    )
    np.testing.assert_array_equal(of('count'), counts)
    close(of('loss') @ of('count') / 6, want_metrics[f'loss/{task}'])
    assert of('loss')[1] > 0 == of('loss')[2]
  assert [want_metrics[f'examples/{source}'] for source in 'abc'] == [6, 2, 0]
  kept = by_source.drop_empty(want_metrics)
  assert want_metrics.keys() - kept.keys() == {
    'loss/mean/c',
    'loss/contrastive/c',
  }


def test_the_loss_is_weighted_and_metrics_are_not():
  params, tx, update, batch = _setup()
  _, metrics = update(_state(params, tx), batch)
  outputs = _NoDropout().apply({'params': params}, batch, train=True)
  loss, _ = toy.Mean()(outputs, batch, apply=None, rng=None)
  np.testing.assert_allclose(metrics['loss/mean'], loss, rtol=1e-6)
  np.testing.assert_allclose(metrics['loss'], loss / 2, rtol=1e-6)
  np.testing.assert_allclose(metrics['mean/doubled'], 2 * loss, rtol=1e-6)
  np.testing.assert_allclose(metrics['lr'], 0.1, rtol=1e-6)


def test_a_batch_in_which_nothing_counts_changes_nothing():
  for accumulate in (1, 2):
    params, tx, update, batch = _setup(accumulate=accumulate)
    batch['mask'] = np.zeros(8, bool)
    state, metrics = update(_state(params, tx), batch)
    assert metrics['loss'] == metrics['grad_norm'] == 0
    assert metrics['count/mean'] == 0
    np.testing.assert_array_equal(
      state.params['up']['kernel'], params['up']['kernel']
    )


def test_dropout_follows_seed_and_step():
  params, tx, update, batch = _setup(toy.Model())
  state = _state(params, tx)
  loss = lambda s: float(update(s, batch)[1]['loss'])
  assert loss(state) == loss(state)
  assert loss(state) != loss(state.replace(step=jnp.int32(1)))
  assert loss(state) != loss(state.replace(seed=jnp.uint32(4)))


def test_frozen_parameters_stay_with_neither_state_nor_average():
  params, _, _, batch = _setup()
  trained = jax.tree.map(lambda _: True, params)
  trained['up'] = {'kernel': False, 'bias': True}
  params['up']['kernel'] = params['up']['kernel'].astype(jnp.bfloat16)
  chosen = {'up': {'bias': params['up']['bias']}, 'down': params['down']}
  tx = optax.adam(0.1)
  update = step.make_update(
    _NoDropout(),
    OBJECTIVES,
    tx,
    lr=lambda t: 0.1,
    trained=trained,
    accumulate=2,
    ema_decay=0.25,
  )
  state = _state(chosen, tx, ema=chosen).replace(params=params)
  new, metrics = jax.jit(update)(state, batch)
  same = np.testing.assert_array_equal
  same(new.params['up']['kernel'], params['up']['kernel'])
  same(new.eval_params['up']['kernel'], params['up']['kernel'])
  assert (new.params['up']['bias'] != params['up']['bias']).all()
  assert jax.tree.structure(new) == jax.tree.structure(state)
  norm = optax.tree.norm({k: new.params[k] for k in ('down',)})
  bias = optax.tree.norm(new.params['up']['bias'])
  np.testing.assert_allclose(
    metrics['param_norm'], np.hypot(norm, bias), rtol=1e-6
  )


def test_the_average_follows_its_formula():
  params, tx, update, batch = _setup(ema_decay=0.25)
  state = _state(params, tx, ema=params)
  want = params['up']['kernel']
  # min(0.25, (1 + t) / (10 + t)) for t = 1, 2, 3.
  for decay in (2 / 11, 3 / 12, 0.25):
    state, _ = update(state, batch)
    want = decay * want + (1 - decay) * state.params['up']['kernel']
    np.testing.assert_allclose(state.ema['up']['kernel'], want, rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, state.eval_params, state.ema)
  assert state.replace(ema=None).eval_params is state.params
  assert int(state.step) == 3


class _Moving(toy.Mean):
  """Moves a bias, and a frozen one, to the mean of the labels that count."""

  def __call__(self, outputs, batch, **settings):
    loss, metrics = super().__call__(outputs, batch, **settings)
    kept = jnp.where(batch['mask'], batch['label'], 0).sum()
    mean = kept / jnp.maximum(self.count(batch), 1.0)
    moves = {'up/bias': mean * jnp.ones(16), 'down/bias': jnp.ones(8)}
    return loss, metrics | {'moves': moves}


@pytest.mark.parametrize('accumulate', [1, 4])
def test_objectives_move_parameters_by_the_mean_over_the_batch(accumulate):
  params, *_, batch = _setup()
  batch['mask'] = np.array([1, 0, 0, 1, 1, 1, 0, 1], bool)
  trained = jax.tree.map(lambda _: True, params)
  trained['down'] = {'kernel': True, 'bias': False}
  chosen = {'up': params['up'], 'down': {'kernel': params['down']['kernel']}}
  tx = optax.sgd(0.1)

  def run(objective):
    update = step.make_update(
      _NoDropout(),
      {'mean': (0.25, objective), 'again': (0.25, objective)},
      tx,
      lr=lambda t: 0.1,
      trained=trained,
      ema_decay=0.9,
      accumulate=accumulate,
    )
    state = _state(chosen, tx, ema=chosen).replace(params=params)
    return jax.jit(update)(state, batch)

  (still, _), (moved, metrics) = run(toy.Mean()), run(_Moving())
  assert 'moves' not in metrics
  mean = 2 * batch['label'][batch['mask']].mean()  # One of each objective.
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  close(moved.params['up']['bias'] - still.params['up']['bias'], mean)
  # The EMA takes part: at first its decay is 2 / 11.
  close(moved.ema['up']['bias'] - still.ema['up']['bias'], mean * 9 / 11)
  jax.tree.map(close, moved.params['down'], still.params['down'])
