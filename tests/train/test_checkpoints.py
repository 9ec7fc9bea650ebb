"""Saving is exact, keeps the right ones, and survives donation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.train import checkpoints, settings
from mmjax.train import state as state_lib

PLACE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _state(step, ema=True):
  kernel = jax.random.normal(jax.random.key(step), (3, 5))
  return state_lib.State(
    step=jnp.int32(step),
    seed=jnp.uint32(7),
    params={'a': {'kernel': kernel}},
    opt_state=({'a': {'kernel': -kernel}}, jnp.int32(step)),
    ema={'a': {'kernel': kernel / 3}} if ema else None,
  )


def _abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=PLACE), state
  )


def _equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.fixture
def open_checkpoints(tmp_path):
  opened = []

  def open_them(**kwargs):
    opened.append(checkpoints.Checkpoints(tmp_path, **kwargs))
    return opened[-1]

  yield open_them
  for one in opened:
    one.close()


@pytest.mark.parametrize('ema', [True, False])
def test_a_restored_state_is_the_saved_one_to_the_bit(open_checkpoints, ema):
  mine = open_checkpoints()
  state = _state(2, ema)
  mine.save(state)
  mine.save(state)  # Of the same step: nothing happens.
  mine.wait()
  other = open_checkpoints()
  assert other.latest() == 2
  _equal(other.restore(_abstract(state)), state)


def test_a_state_may_be_donated_while_it_is_saved(open_checkpoints):
  mine = open_checkpoints()
  size = 1_000_000  # Large enough for the save to outlast an update.
  state = _state(1).replace(params={'a': jnp.arange(size, dtype=jnp.float32)})
  want = np.array(state.params['a'])
  update = jax.jit(
    lambda s: s.replace(params={'a': s.params['a'] + 1}), donate_argnums=0
  )
  mine.save(state)
  abstract = _abstract(state)
  for _ in range(10):
    state = update(state)
  mine.wait()
  np.testing.assert_array_equal(mine.restore(abstract).params['a'], want)


@pytest.mark.parametrize('mode, kept', [('max', [2, 4, 5]), ('min', [1, 4, 5])])
def test_the_newest_and_the_best_are_kept(open_checkpoints, mode, kept):
  mine = open_checkpoints(keep_last=2, keep_best='val/x', best_mode=mode)
  scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.4}
  for step, score in scores.items():
    mine.save(_state(step), None if score is None else {'val/x': score})
  mine.wait()
  assert mine.steps() == kept


def test_a_metric_that_is_not_there_is_named(open_checkpoints):
  mine = open_checkpoints(keep_best='val/y')
  with pytest.raises(settings.UserError, match=r"'val/y' .* there are val/x"):
    mine.save(_state(1), {'val/x': 1.0})
  assert mine.latest() == 1  # What was trained is not lost.


def test_load_params_needs_no_optimizer(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  for step in (1, 2):
    mine.save(_state(step))
  mine.wait()
  load = lambda **kwargs: checkpoints.load_params(tmp_path, **kwargs)
  _equal(load(), _state(2).ema)
  _equal(load(ema=False), _state(2).params)
  _equal(load(ema=False, step=1), _state(1).params)
  with pytest.raises(settings.UserError, match=r'step 3; there are \[1, 2\]'):
    load(step=3)


def test_load_params_says_what_is_missing(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  with pytest.raises(settings.UserError, match='has no checkpoint; train'):
    checkpoints.load_params(tmp_path)
  mine.save(_state(1, ema=False))
  mine.wait()
  _equal(checkpoints.load_params(tmp_path), _state(1).params)
  with pytest.raises(settings.UserError, match='ema_decay is 0'):
    checkpoints.load_params(tmp_path, ema=True)


def test_half_written_ones_are_ignored_and_cleaned(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  mine.save(_state(1))
  mine.wait()
  half = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp-5'
  (half / 'params').mkdir(parents=True)
  _equal(checkpoints.load_params(tmp_path), _state(1).ema)
  again = open_checkpoints()
  assert again.latest() == 1
  again.save(_state(2))
  again.wait()
  assert again.steps() == [1, 2]
  assert not half.exists()
