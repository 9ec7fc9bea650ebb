"""Runs on several processes: same numbers, same examples, ends together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.runs import checkpoints

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


def until(happens, seconds=150):
  """Waits for it; whether it came."""
  end = time.time() + seconds
  while not (came := happens()) and time.time() < end:
    time.sleep(0.1)
  return came


def last_words(log):
  """The last line of a process that was lost; a child of it tells it."""
  last = lambda: log.read_text().rpartition('\nerror: ')[1:]
  assert until(lambda: last()[0], 30), f'no last words: {log.read_text()}'
  return ''.join(last()).strip()


class Job:
  """Processes that form one run.

  Args:
    workdir: the run's folder; HOST in it is the number of the process.
    processes: how many.
    devices: of each.
    flags: further ones.
  """

  def __init__(self, workdir, processes, devices, *flags):
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    environment = {
      **os.environ,
      'PYTHONPATH': str(HERE.parent.parent),
      'JAX_NUM_CPU_DEVICES': str(devices),
      'JAX_PLATFORMS': 'cpu',
    }
    self.workdir = workdir
    self.logs = [workdir.with_suffix(f'.{i}.log') for i in range(processes)]
    self.processes = []
    for i, log in enumerate(self.logs):
      together = (
        f'--coordinator=localhost:{port}',
        f'--num_processes={processes}',
        f'--process_id={i}',
      )
      with log.open('w') as out:
        command = [
          sys.executable,
          str(HERE / 'several.py'),
          f'--config={HERE / "several_config.py"}',
          f'--workdir={workdir}'.replace('HOST', str(i)),
          *(together if processes > 1 else ['--num_processes=1']),
          *flags,
        ]
        self.processes.append(
          subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment
          )
        )

  def wait_for_checkpoint(self):
    """Until the run goes on after a whole checkpoint of it."""
    folder = self.workdir / checkpoints.FOLDER
    found = until(lambda: any(s.name.isdigit() for s in folder.glob('*')))
    assert found, f'no checkpoint: {self.text(0)}'

  def finish(self, timeout=200):
    """Exit codes."""
    return [process.wait(timeout) for process in self.processes]

  def text(self, i):
    return self.logs[i].read_text()


@pytest.fixture
def run(tmp_path_factory, monkeypatch):
  folder = tmp_path_factory.getbasetemp() / 'xla'
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(folder))
  jobs = []

  def start(*args):
    jobs.append(Job(*args))
    return jobs[-1]

  yield start
  for job in jobs:
    for process in job.processes:
      process.kill()


def _curve(workdir):
  """What each step's line says of losses and examples."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  assert [r['step'] for r in records] == list(range(1, len(records) + 1))
  keys = 'loss', 'mean/index', 'mean/index_squared', 'grad_norm', 'count/mean'
  return np.asarray([[r[key] for key in keys] for r in records])


def _same(a, b):
  np.testing.assert_allclose(_curve(a), _curve(b), rtol=1e-5)
  np.testing.assert_array_equal(_curve(a)[:, 4], _curve(b)[:, 4])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    checkpoints.load_params(a),
    checkpoints.load_params(b),
  )


@pytest.fixture
def alone(tmp_path, run):
  """Runs of one process with four devices, never interrupted."""

  def to(steps):
    job = run(tmp_path / 'alone', 1, 4, f'--config.train.steps={steps}')
    assert job.finish() == [0], job.text(0)
    return tmp_path / 'alone'

  return to


def test_four_hosts_then_two_then_one_on_another_mesh(tmp_path, run, alone):
  moved = tmp_path / 'moved'
  job = run(moved, 4, 2, '--config.train.steps=4')
  assert job.finish() == [0] * 4, job.text(0)
  assert 'step 1/4' in job.text(0) and 'step 1/4' not in job.text(1)
  job = run(moved, 2, 2, '--config.train.steps=8', '--config.mesh.fsdp=2')
  assert job.finish() == [0] * 2, job.text(0)
  assert 'resuming from step 4' in job.text(0)
  grid = ('--config.mesh.fsdp=2', '--config.mesh.tensor=2')
  job = run(moved, 1, 8, '--config.train.steps=12', *grid)
  assert job.finish() == [0], job.text(0)
  _same(alone(12), moved)


# Process 0 is the one that the others find each other by.
@pytest.mark.parametrize('host', [0, 1])
def test_a_killed_host_ends_the_other_and_the_restart_is_exact(
  tmp_path, run, alone, host
):
  killed = tmp_path / 'killed'
  job = run(killed, 2, 2, '--config.train.steps=4000')
  job.wait_for_checkpoint()
  job.processes[host].kill()
  begun = time.time()
  assert job.processes[1 - host].wait(100) != 0
  assert time.time() - begun < 60
  last = last_words(job.logs[1 - host])
  assert last.startswith(f'error: process {1 - host} of 2 ended because'), last
  assert 'another process died' in last
  steps = checkpoints.Checkpoints(killed).latest() + 4
  job = run(killed, 2, 2, f'--config.train.steps={steps}')
  assert job.finish() == [0, 0], job.text(0)
  assert f'resuming from step {steps - 4}' in job.text(0)
  _same(alone(steps), killed)


def test_damaged_checkpoints_cost_their_steps_alone(tmp_path, run, alone):
  damaged = tmp_path / 'damaged'
  flags = ('--config.train.keep_last=3', '--config.mesh.fsdp=2')
  job = run(damaged, 2, 2, '--config.train.steps=12', *flags)
  assert job.finish() == [0, 0], job.text(0)
  folder = damaged / checkpoints.FOLDER
  # As a crash of the machine may leave them.
  (cut,) = (folder / '12/params/d').iterdir()
  with cut.open('r+b') as file:
    file.truncate(cut.stat().st_size // 2)
  (folder / '8/params/manifest.ocdbt').unlink()
  job = run(damaged, 2, 2, '--config.train.steps=16', *flags)
  assert job.finish() == [0, 0], job.text(0)
  assert 'resuming from step 4' in job.text(0)
  for step in (8, 12):
    assert f'renamed to {folder / str(step)}.damaged' in job.text(0)
    assert (folder / f'{step}.damaged').is_dir()
  assert 'Traceback' not in job.text(0) + job.text(1)
  _same(alone(16), damaged)


def test_a_host_that_cannot_read_ends_the_other(tmp_path, run, monkeypatch):
  monkeypatch.setenv('BROKEN_HOST', '1')
  job = run(tmp_path / 'broken', 2, 2, '--config.train.steps=4000')
  assert job.processes[1].wait(150) == 2
  begun = time.time()
  assert job.processes[0].wait(100) != 0
  assert time.time() - begun < 60
  assert 'error: record 7 cannot be read: the disk is gone' in job.text(1)
  assert 'Traceback' not in job.text(1)
  assert last_words(job.logs[0]).startswith('error: process 0 of 2 ended')


@pytest.mark.parametrize('host', ['0', '1'])
def test_what_one_host_refuses_ends_all_at_once(
  tmp_path, run, monkeypatch, host
):
  monkeypatch.setenv('REFUSING_HOST', host)
  job = run(tmp_path / 'refused', 2, 2)
  assert job.finish() == [2, 2], job.text(0)
  assert 'error: data/toy is not there; prepare it' in job.text(int(host))
  assert f'error: process {host} of 2 failed' in job.text(1 - int(host))
  assert 'Traceback' not in job.text(0) + job.text(1)


def test_hosts_with_folders_of_their_own_are_refused(tmp_path, run):
  job = run(tmp_path / 'own_HOST', 2, 2)
  assert job.finish() == [2, 2], job.text(0)
  assert 'error: process 1 does not see the file ' in job.text(1)
  assert 'error: process 1 of 2 failed' in job.text(0)
  assert 'Traceback' not in job.text(0) + job.text(1)
  assert not list((tmp_path / 'own_0').iterdir())


def test_sigterm_to_one_host_in_an_evaluation_stops_both(tmp_path, run):
  job = run(tmp_path / 'stopped', 2, 2, '--config.train.eval_every=4')
  assert until(lambda: 'evaluating' in job.text(1))
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.finish() == [143, 143], job.text(0)
  assert checkpoints.Checkpoints(tmp_path / 'stopped').latest() == 4
  assert job.text(0).count('evaluating') == job.text(1).count('evaluating') < 10


def test_sigterm_to_one_host_stops_both_at_the_same_step(tmp_path, run):
  stopped = tmp_path / 'stopped'
  job = run(stopped, 2, 2, '--config.train.steps=4000')
  job.wait_for_checkpoint()
  job.processes[1].send_signal(signal.SIGTERM)
  assert job.finish() == [143, 143], job.text(0)
  step = checkpoints.Checkpoints(stopped).latest()
  assert f'stopped at step {step}; the same command' in job.text(0)
  assert checkpoints.Checkpoints(stopped).steps()[0] < step


@pytest.mark.parametrize(
  'program',
  [
    pytest.param("raise TimeoutError('a barrier')", id='an error'),
    pytest.param('pass', id='its own end'),
  ],
)
def test_last_words_are_told_however_the_loss_comes_out(tmp_path, program):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  log, ready = tmp_path / 'log', tmp_path / 'ready'
  lines = [
    'import pathlib, sys, time, jax',
    'from mmjax.parallel import hosts',
    'hosts.HEARTBEAT, hosts.END = 10, 5',
    f'hosts.connect("localhost:{port}", 2, int(sys.argv[1]))',
    'with hosts.exit_on_error():',
    '  assert jax.process_count() == 2',
    '  if sys.argv[1] == "1":',
    f'    pathlib.Path({str(ready)!r}).touch()',
    '    time.sleep(100)',
    f'  while not pathlib.Path({str(ready)!r}).exists(): time.sleep(0.1)',
    f'  {program}',
  ]
  environment = {
    **os.environ,
    'PYTHONPATH': str(HERE.parent.parent),
    'JAX_PLATFORMS': 'cpu',
  }
  with log.open('w') as out:
    first, other = (
      subprocess.Popen(
        [sys.executable, '-c', '\n'.join(lines), str(i)],
        stdout=out if i == 0 else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if i == 0 else subprocess.DEVNULL,
        env=environment,
      )
      for i in range(2)
    )
  try:
    until(ready.exists)
    other.kill()
    assert first.wait(60) != 0
  finally:
    first.kill()
    other.kill()
  last = last_words(log)
  assert last.startswith('error: process 0 of 2 ended because'), last


def test_one_of_the_flags_alone_is_refused(tmp_path, run):
  job = run(tmp_path / 'x', 1, 1, '--process_id=1')
  assert job.finish() == [2]
  assert '--coordinator missing' in job.text(0)


def test_a_host_that_nobody_joins_says_so():
  program = (
    'from mmjax.parallel import hosts\n'
    'hosts.START = 2\n'
    'hosts.connect("localhost:1", 2, 1)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONPATH': str(HERE.parent.parent)},
    capture_output=True,
    text=True,
    timeout=100,
    check=False,
  )
  assert done.returncode != 0
  last = done.stderr.splitlines()[-1]
  assert last.startswith('error: the 2 processes did not find each other'), last
  assert '--coordinator=localhost:1' in last
