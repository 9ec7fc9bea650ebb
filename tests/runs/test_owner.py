"""One process a folder: others are refused, a dead one's place is taken."""

import errno
import json
import os
import subprocess
import sys
import threading

import pytest
import toy

from mmjax.runs import owner
from mmjax.training import runner


@pytest.fixture
def claim(tmp_path):
  """A claim of tmp_path/a/run, and what it says."""

  def make(lease=0.0):
    said = []
    return owner.claim(tmp_path / 'a/run', log=said.append, lease=lease), said

  return make


def test_a_second_process_is_refused_by_naming_the_first(claim, tmp_path):
  first, said = claim()
  with first:
    who = json.loads((tmp_path / 'a/run/running.json').read_text())
    for _ in range(2):  # A refusal leaves the claim as it is.
      with pytest.raises(owner.OccupiedError) as refused, claim()[0]:
        pass
      assert f'process {os.getpid()} on {who["host"]}' in str(refused.value)
      assert f'running since {who["since"]}. Wait' in str(refused.value)
    with pytest.raises(owner.OccupiedError, match='is in use by process'):
      runner.run(toy.config(), None, tmp_path / 'a/run')
  assert not said
  assert not list(tmp_path.iterdir())  # What it made is gone.
  with claim()[0]:
    (tmp_path / 'a/run/kept').touch()
  assert [path.name for path in (tmp_path / 'a/run').iterdir()] == ['kept']


def test_the_place_of_a_killed_process_is_taken(claim, tmp_path):
  code = (
    'import pathlib, sys, time; from mmjax.runs import owner\n'
    'with owner.claim(pathlib.Path(sys.argv[1])):\n'
    '  print("claimed", flush=True); time.sleep(100)'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code, str(tmp_path / 'a/run')],
    stdout=subprocess.PIPE,
    cwd=os.getcwd(),
  )
  assert process.stdout.readline() == b'claimed\n'
  refused = pytest.raises(
    owner.OccupiedError, match=f'process {process.pid} on '
  )
  with refused, claim()[0]:
    pass
  process.kill()
  process.communicate()
  mine, said = claim()
  with mine:
    assert f'taking over from process {process.pid} on ' in said[0]
    assert owner._who(tmp_path / 'a/run/running.json')['pid'] == os.getpid()


@pytest.mark.parametrize('ends', [False, True])
def test_a_lock_of_another_host_may_outlive_it(
  claim, tmp_path, monkeypatch, ends
):
  first, _ = claim()
  first.__enter__()
  # In its place, under its name.
  monkeypatch.setattr(owner.processes, 'machine', lambda: 'another')
  second, said = claim(lease=10.0 if ends else 0.01)
  if not ends:
    with pytest.raises(owner.OccupiedError), second:
      pass
    first.__exit__(None, None, None)
    return
  timer = threading.Timer(0.2, first.__exit__, (None, None, None))
  timer.start()
  with second:
    assert 'waiting up to 10 s' in said[0]
  timer.join()


def test_without_locks_a_living_process_is_seen_on_its_own_host(
  claim, tmp_path, monkeypatch
):
  def no_locks(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(owner.fcntl, 'flock', no_locks)
  with claim()[0]:
    path = tmp_path / 'a/run/running.json'
    who = json.loads(path.read_text())
    parent = os.getppid()
    living = {'pid': parent, 'started': owner.processes.started(parent)}
    path.write_text(json.dumps(who | living))
    refused = pytest.raises(
      owner.OccupiedError, match=f'process {os.getppid()} '
    )
    with refused, claim()[0]:
      pass
    dead = subprocess.Popen([sys.executable, '-c', ''])
    dead.wait()
    path.write_text(json.dumps(who | {'pid': dead.pid}))
    again, said = claim()
    with again:
      assert 'a file system without locks: make sure' in said[0]
