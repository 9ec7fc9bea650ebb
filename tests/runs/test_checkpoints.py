"""Saving is exact, keeps the right ones, and survives donation."""

import logging
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.runs import checkpoints, late_reads
from mmjax.training import state as state_lib

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
  with pytest.raises(ConfigError, match=r"'val/y' .* there are val/x"):
    mine.save(_state(1), {'val/x': 1.0})
  assert mine.latest() == 1  # What was trained is not lost.


def test_the_best_is_that_of_one_metric(open_checkpoints, tmp_path, capsys):
  """Not of the metric before a resume, not of NaN, also of the step resumed."""
  find = lambda name: checkpoints.find_step(tmp_path, 'best', name)
  mine = open_checkpoints(keep_last=1, keep_best='val/x')
  for step, value in {1: 0.9, 2: np.nan, 3: 0.5}.items():
    mine.save(_state(step), {'val/x': value})
  mine.wait()
  assert mine.steps() == [1, 3]
  assert find('val/x') == 1
  assert 'val/x is nan at step 2' in capsys.readouterr().out
  with pytest.raises(ConfigError, match=r"keep_best='val/y'"):
    find('val/y')
  again = open_checkpoints(keep_last=1, keep_best='val/y')
  again.save(_state(3), {'val/y': 0.1})
  assert find('val/y') == 3
  for step, value in {4: 0.2, 5: 0.0}.items():
    again.save(_state(step), {'val/y': value})
  again.wait()
  assert again.steps() == [4, 5]
  assert find('val/y') == 4


def test_load_params_needs_no_optimizer(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  for step in (1, 2):
    mine.save(_state(step))
  mine.wait()
  load = lambda **kwargs: checkpoints.load_params(tmp_path, **kwargs)
  _equal(load(), _state(2).ema)
  _equal(load(ema=False), _state(2).params)
  _equal(load(ema=False, step=1), _state(1).params)
  with pytest.raises(ConfigError, match=r'step 3; there are \[1, 2\]'):
    load(step=3)


def test_load_params_says_what_is_missing(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  with pytest.raises(ConfigError, match='has no checkpoint; train'):
    checkpoints.load_params(tmp_path)
  mine.save(_state(1, ema=False))
  mine.wait()
  _equal(checkpoints.load_params(tmp_path), _state(1).params)
  with pytest.raises(ConfigError, match='ema_decay is 0'):
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


def _cut(folder, pattern):
  """Leaves the first half of the files that match."""
  paths = [path for path in folder.glob(pattern) if path.is_file()]
  assert paths
  for path in paths:
    with path.open('r+b') as file:
      file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
  'pattern',
  ['params/_METADATA', 'clock/array_metadatas/*', 'ema/manifest.ocdbt', '**/*'],
)
def test_the_newest_whole_one_is_restored(open_checkpoints, tmp_path, pattern):
  mine = open_checkpoints(keep_last=3, keep_best='val/x')
  for step in (1, 2, 3):
    mine.save(_state(step), {'val/x': 1.0})
  mine.wait()
  folder = tmp_path / 'checkpoints'
  for step in (2, 3):
    _cut(folder / str(step), pattern)
  again = open_checkpoints(keep_last=3, keep_best='val/x')
  with pytest.raises(checkpoints.CheckpointRenamedError) as said:
    again.restore(_abstract(_state(1)))
  for step in (2, 3):
    assert f'renamed to {folder / str(step)}.damaged' in str(said.value)
    assert (folder / f'{step}.damaged').is_dir()
  assert again.latest() == 1
  _equal(again.restore(_abstract(_state(1))), _state(1))
  again.save(_state(2), {'val/x': 1.0})
  again.wait()
  _cut(folder / '2', pattern)  # Once more.
  with pytest.raises(checkpoints.CheckpointRenamedError, match=r'2\.damaged2'):
    again.restore(_abstract(_state(1)))


def test_reads_that_end_after_an_error_print_nothing(monkeypatch, caplog):
  shown = []
  monkeypatch.setattr(sys, 'unraisablehook', shown.append)
  for _ in range(2):  # The second error changes nothing.
    with pytest.raises(ValueError, match='damaged'), late_reads.ignored():
      raise ValueError('damaged')
  dropped = Exception('while reading')
  dropped.__cause__ = GeneratorExit()
  *late, other = (
    types.SimpleNamespace(exc_value=error)
    for error in (
      RuntimeError('Event loop is closed'),
      dropped,
      RuntimeError('a bug'),
    )
  )
  for one in (*late, other):
    sys.unraisablehook(one)
  assert shown == [other]
  caplog.clear()
  for file in ('orbax/serialization.py', 'mine.py'):
    read = {}
    exec(compile('def fail(): raise ValueError("unread")', file, 'exec'), read)
    try:
      read['fail']()
    except ValueError:
      logging.getLogger('asyncio').error(
        'Task exception was never retrieved: %s', file, exc_info=True
      )
  assert [record.args for record in caplog.records] == [('mine.py',)]


def test_if_none_is_whole_nothing_is_renamed(open_checkpoints, tmp_path):
  mine = open_checkpoints()
  for step in (1, 2):
    mine.save(_state(step))
  mine.wait()
  for step in (1, 2):
    _cut(tmp_path / 'checkpoints' / str(step), 'params/_METADATA')
  with pytest.raises(ConfigError) as said:
    mine.restore(_abstract(_state(1)))
  assert 'step 2: JSONDecodeError' in str(said.value)
  assert 'step 1: JSONDecodeError' in str(said.value)
  assert mine.steps() == [1, 2]
  with pytest.raises(ConfigError, match=r'checkpoints/2 cannot be read'):
    checkpoints.load_params(tmp_path, ema=False)
  _equal(checkpoints.load_params(tmp_path), _state(2).ema)
