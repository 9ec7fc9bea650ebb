"""Workers of one machine have devices of their own."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mmjax.errors import ConfigError
from mmjax.sweeps import local


def test_devices_are_shared_out():
  assert local.divide('gpu', 8, 3) == [[0, 1], [2, 3], [4, 5]]
  assert local.divide('cpu', 2, 2) == [[0], [1]]


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (('cpu', 2, 3), 'each needs a device, or a core of a CPU, and .* has 2;'),
    (('tpu', 4, 2), "all of a machine's TPU chips; leave the flag out"),
  ],
)
def test_devices_that_cannot_be_divided_are_refused(args, message):
  with pytest.raises(ConfigError, match=message):
    local.divide(*args)


def test_each_worker_sees_its_own(monkeypatch):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  assert local.environment('gpu', [2, 3]) == {'CUDA_VISIBLE_DEVICES': '2,3'}
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'GPU-a,GPU-b,GPU-c,GPU-d')
  assert local.environment('gpu', [2, 3]) == {
    'CUDA_VISIBLE_DEVICES': 'GPU-c,GPU-d'
  }


@pytest.fixture
def started(tmp_path, monkeypatch):
  """Workers that print their arguments, then wait."""
  monkeypatch.setattr(local, 'probe', lambda: ('cpu', 2))
  monkeypatch.setattr(
    os, 'sched_getaffinity', lambda process: {4, 5}, raising=False
  )
  bound, handled = {}, {}
  monkeypatch.setattr(os, 'sched_setaffinity', bound.__setitem__, raising=False)
  monkeypatch.setattr(signal, 'signal', handled.__setitem__)
  code = (
    'import os, sys, time;'
    "print(sys.argv[1:], os.environ['JAX_NUM_CPU_DEVICES'], flush=True);"
    'time.sleep(60)'
  )
  python = tmp_path / 'python'
  python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
  python.chmod(0o755)
  monkeypatch.setattr(sys, 'executable', str(python))
  return local.Workers(['--sweep=a.py'], tmp_path, 2), bound, handled


def test_workers_are_bound_logged_and_stopped(started):
  workers, bound, handled = started

  def stop_once():
    if '1\n' in workers.logs[1].read_text():
      handled[signal.SIGINT](signal.SIGINT, None)

  with workers:
    assert workers.signal == 0
    assert workers.wait(stop_once, 0.01) == [-signal.SIGTERM] * 2
  assert workers.signal == signal.SIGINT
  assert sorted(map(list, bound.values())) == [[4], [5]]
  assert (
    workers.logs[1].read_text()
    == "['-m', 'mmjax.cli.main', 'sweep', '--sweep=a.py', "
    "'--ends_with_input'] 1\n"
  )


def test_workers_left_behind_are_stopped_without_a_signal(started):
  workers, *_ = started
  with workers:
    pass
  assert workers.signal == 0
  assert workers.wait(lambda: None) == [-signal.SIGTERM] * 2


PARENT = """
import pathlib, sys
from mmjax.sweeps import local
local.probe = lambda: ('gpu', 2)
sys.executable = sys.argv[1]
with local.Workers([], pathlib.Path(sys.argv[2]), 2) as workers:
  workers.wait(lambda: None)
"""
WORKER = """
import os, time
from mmjax.sweeps import local
local.end_with_input()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def _alive(process):
  try:
    stat = pathlib.Path(f'/proc/{process}/stat').read_text()
  except OSError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.skipif(not os.path.isdir('/proc'), reason='there is no /proc')
def test_workers_end_with_the_process_that_started_them(tmp_path):
  (tmp_path / 'worker.py').write_text(WORKER)
  python = tmp_path / 'python'
  python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/worker.py\n')
  python.chmod(0o755)
  parent = subprocess.Popen(
    [sys.executable, '-c', PARENT, str(python), str(tmp_path)]
  )
  logs = [tmp_path / f'workers/{i}.log' for i in range(2)]
  until = time.monotonic() + 60
  while not all(log.exists() and log.read_text() for log in logs):
    assert time.monotonic() < until
    time.sleep(0.05)
  workers = [int(log.read_text()) for log in logs]
  assert all(map(_alive, workers))
  parent.kill()
  parent.wait()
  while any(map(_alive, workers)):
    assert time.monotonic() < until
    time.sleep(0.05)
