"""Processes that are asked to stop, or killed, and started again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.runs import checkpoints
from mmjax.training import stopping

HERE = Path(__file__).parent


@pytest.fixture
def command(tmp_path_factory, monkeypatch):
  folder = tmp_path_factory.getbasetemp() / 'xla'
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(folder))
  monkeypatch.setenv('PYTHONPATH', str(HERE.parent.parent))

  def start(workdir, *flags):
    return subprocess.Popen(
      [
        sys.executable,
        str(HERE / 'killed.py'),
        f'--config={HERE / "toy_config.py"}',
        f'--workdir={workdir}',
        *flags,
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  return start


def _finish(process):
  out, _ = process.communicate(timeout=100)
  return process.returncode, out


def _wait_for_step(process, step):
  for line in process.stdout:
    if line.startswith(f'step {step}/'):
      return
  raise AssertionError(f'no step {step}')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('asked', 'exit_code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_the_same_command_goes_on(
  tmp_path, command, asked, exit_code
):
  process = command(tmp_path, '--config.train.steps=1000')
  _wait_for_step(process, 3)
  process.send_signal(asked)
  code, out = _finish(process)
  assert code == exit_code, out
  assert 'the same command resumes' in out
  stopped = checkpoints.Checkpoints(tmp_path).latest()
  assert 3 <= stopped < 1000
  code, out = _finish(command(tmp_path, f'--config.train.steps={stopped + 4}'))
  assert code == 0 and f'resuming from step {stopped}' in out, out
  text = (tmp_path / 'metrics.jsonl').read_text()
  steps = [json.loads(line)['step'] for line in text.splitlines()]
  assert steps == list(range(1, stopped + 5))


def test_the_first_signal_is_noted_and_the_second_one_acts(capfd):
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt), stopping.Stopping() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop.asked()
    signal.raise_signal(signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) == before
  assert signal.set_wakeup_fd(-1) == -1
  assert capfd.readouterr().err.count('press Ctrl-C again to end now') == 1


@pytest.mark.slow
def test_signals_are_received_while_the_main_thread_computes():
  program = (
    'import hashlib, signal\n'
    'from mmjax.training import stopping\n'
    # A command in a shell's background begins with SIGINT ignored.
    'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
    'with stopping.Stopping():\n'
    "  print('begun', flush=True)\n"
    "  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"  # As a compilation.
  )
  process = subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(HERE.parent.parent)},
  )
  try:
    assert process.stdout.readline() == 'begun\n'
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == '\n'
    assert 'Ctrl-C: stopping after the current' in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert 'ended at once; the same command' in process.stderr.read()
  finally:
    process.kill()


@pytest.mark.slow
def test_kills_in_the_middle_of_saves_change_nothing(tmp_path, command):
  # It saves every step, so that any moment is likely to be within a save.
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  code, out = _finish(command(whole))
  assert code == 0, out
  rng, before, kills, longest = random.Random(5), 0, 0, 0.4
  # Four kills, and more where the machine is too slow to have got anywhere.
  while kills < 4 or before <= 4:
    kills += 1
    assert kills <= 20, f'after {kills} kills it is at step {before}'
    process = command(killed)
    for line in process.stdout:
      if line.startswith('step '):
        break
    time.sleep(rng.uniform(0.05, longest))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    latest = checkpoints.Checkpoints(killed).latest() or 0
    assert latest >= before
    if latest == before:
      longest *= 1.5
    before = latest
  code, out = _finish(command(killed))
  assert code == 0, out
  for ema in (True, False):
    a, b = (checkpoints.load_params(p, ema=ema) for p in (whole, killed))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
      np.testing.assert_array_equal(x, y)
  names = {path.name for path in (killed / 'checkpoints').iterdir()}
  assert names == {'39', '40'}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--config.train.stepz=3', 'train.stepz is not a config field'),
    (
      '--batch_size=3',
      '--batch_size is not a flag; did you mean --config.train.batch_size or ',
    ),
    ('--wrkdir=3', '--wrkdir is not a flag; did you mean --workdir?'),
  ],
)
def test_a_mistake_is_one_message_and_exit_code_two(
  tmp_path, command, flag, message
):
  code, out = _finish(command(tmp_path, flag))
  assert code == 2
  assert out.startswith(f'error: {message}')
  assert out.count('\n') == 1
  assert 'Traceback' not in out
  assert not list(tmp_path.iterdir())
