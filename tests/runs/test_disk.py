"""A disk that fills up: one error, and the same command resumes."""

import errno
import gc
import logging
import math
import os
import pathlib
import subprocess
import sys

import pytest
import toy

from mmjax.errors import ConfigError
from mmjax.runs import checkpoints, disk, metric_writers
from mmjax.training import runner

HERE = pathlib.Path(toy.__file__).parent


def _full(*_, **__):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _led_to(error, *, by=None):
  try:
    raise by or OSError(errno.ENOSPC, 'x')
  except Exception as cause:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
  'error, message',
  [
    (OSError(errno.ENOSPC, 'x'), r'is full \([\d,]+ bytes free\)\.'),
    (OSError(errno.EDQUOT, 'x'), 'no room left within your quota'),
    # As TensorStore writes it.
    (ValueError('RESOURCE_EXHAUSTED: No space left on device'), 'is full'),
    (_led_to(ConfigError('no step')), 'is full'),
    (ExceptionGroup('a', [OSError(errno.ENOSPC, 'x')]), 'is full'),
  ],
)
def test_a_full_disk_is_recognised_by_whatever_it_led_to(
  tmp_path, monkeypatch, error, message
):
  monkeypatch.setattr(disk, '_MUCH', math.inf)
  full = pytest.raises(disk.FullError, match=message)
  with full as raised, disk.reporting(tmp_path):
    raise error
  assert str(raised.value).startswith(f'the disk of {tmp_path} ')
  assert 'Nothing of this run is saved yet' in str(raised.value)


def test_the_file_that_was_written_names_the_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(disk, '_MUCH', math.inf)
  elsewhere = tmp_path / 'cache/not there'
  full = pytest.raises(disk.FullError, match=f'the disk of {elsewhere} ')
  with full, disk.reporting(tmp_path / 'run'):
    raise OSError(errno.ENOSPC, 'x', str(elsewhere))


def test_of_a_disk_with_much_room_the_error_itself_is_shown(tmp_path):
  with pytest.raises(disk.FullError) as full, disk.reporting(tmp_path):
    raise ValueError('/dev/shm: No space left on device')
  assert str(full.value).startswith(
    'a disk is full: /dev/shm: No space left on device. That of '
  )


@pytest.mark.parametrize(
  'error', [OSError(errno.EACCES, 'x'), ValueError('out of memory')]
)
def test_other_errors_are_left_as_they_are(tmp_path, error):
  with pytest.raises(type(error)) as raised, disk.reporting(tmp_path):
    raise error
  assert raised.value is error


def test_what_the_background_logs_of_it_is_left_out(
  tmp_path, caplog, monkeypatch
):
  class Late:
    def __del__(self):
      raise RuntimeError(self.message)

  printed = []
  monkeypatch.setattr(sys, 'unraisablehook', printed.append)
  logger = logging.getLogger('absl')
  with disk.reporting(tmp_path), caplog.at_level(logging.ERROR, 'absl'):
    logger.error('thread failed: No space left on device')
    try:
      _full()
    except OSError:
      logger.exception('save failed')
    logger.error('something else')
    for Late.message in ('Event loop is closed', 'something else'):
      Late()
      gc.collect()
  assert [record.getMessage() for record in caplog.records] == [
    'something else'
  ]
  assert [str(one.exc_value) for one in printed] == ['something else']


class _Picture:
  save = _full


@pytest.mark.parametrize(
  'owner, name, number',
  [
    (metric_writers.JsonLines, 'write', 5),
    (metric_writers, 'write_json', 2),
    (toy.Evaluator, 'render', 2),
    (checkpoints.Checkpoints, 'wait', 1),
  ],
)
def test_whatever_is_being_written_the_run_resumes(
  tmp_path, monkeypatch, owner, name, number
):
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(tmp_path.parent / 'xla'))
  config = toy.config(steps=4, checkpoint_every=2)
  real, calls = getattr(owner, name), []

  def later(*args, **kwargs):
    calls.append(args)
    if len(calls) < number:
      return real(*args, **kwargs)
    return _Picture() if name == 'render' else _full()

  with monkeypatch.context() as patch:
    patch.setattr(owner, name, later)
    with pytest.raises(disk.FullError, match='same command resumes from') as e:
      runner.run(config, toy.build, tmp_path)
  steps = checkpoints.steps_in(tmp_path)
  assert f'saved up to step {steps[-1]}' in str(e.value)
  assert not (tmp_path / 'running.json').exists()
  assert runner.run(config, toy.build, tmp_path)['step'] == 4
  lines = metric_writers.read_json_lines(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [1, 2, 4]


@pytest.fixture
def small_disk(tmp_path):
  """A folder of 6 MB, and a function that makes it larger."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = lambda *args: subprocess.run(
    ['mount', *args, str(folder)], capture_output=True, check=False
  )
  if sys.platform != 'linux' or (
    mount('-t', 'tmpfs', '-o', 'size=6m', 'tmpfs').returncode
  ):
    pytest.skip('mounting a disk of 6 MB is not allowed here')
  yield folder, lambda: mount('-o', 'remount,size=60m')
  subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.mark.slow
def test_a_save_on_a_full_disk_is_one_line_of_stderr(
  tmp_path_factory, small_disk
):
  folder, enlarge = small_disk
  cache = tmp_path_factory.getbasetemp() / 'xla'

  def run():
    return subprocess.run(
      [
        sys.executable,
        str(HERE / 'killed.py'),
        f'--config={HERE / "toy_config.py"}',
        f'--workdir={folder / "run"}',
        '--config.train.steps=6',
        '--config.model.width=12000',
      ],
      env=os.environ
      | {'MMJAX_CACHE_DIR': str(cache), 'PYTHONPATH': str(HERE.parent.parent)},
      capture_output=True,
      text=True,
      check=False,
    )

  done = run()
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith(f'error: the disk of {folder}/run is full (')
  assert 'now that the unfinished checkpoint is removed' in line
  assert line.endswith('the same command resumes from step 1')
  enlarge()
  done = run()
  assert done.returncode == 0, done.stderr
  assert 'resuming from step 1\n' in done.stdout
