"""Two processes are one worker: same trials, one record, pruned together."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from mmjax.sweeps import lease, storage

HERE = pathlib.Path(__file__).parent
SWEEP = f"""
def get_sweep():
  return dict(
    config='{HERE.parent / 'training/toy_config.py'}',
    set={{'train.eval_every': 4, 'train.steps': 8, 'experiment': 'toy'}},
    metric='val/toy/norm',
    direction='minimize',
    space={{'optimizer.lr': choice(1e-4, 1e-1, 2e-1)}},
    sampler='grid',
    pruner=dict(name='successive_halving', min_resource=4, reduction_factor=3),
    seed=1,
  )
"""


@pytest.fixture
def start(tmp_path):
  """Starts both hosts; (processes, paths of what they print)."""
  (tmp_path / 'a_sweep.py').write_text(SWEEP)
  (tmp_path / 'lr').mkdir()
  started = []

  def hosts(**variables):
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    environment = os.environ | {
      'PYTHONPATH': os.pathsep.join(
        [str(HERE.parents[1]), str(HERE.parent / 'training')]
      ),
      'JAX_NUM_CPU_DEVICES': '1',
      'JAX_PLATFORMS': 'cpu',
      'MMJAX_CACHE_DIR': str(tmp_path / 'xla'),
      **variables,
    }
    logs = [tmp_path / f'{len(started)}.{i}.log' for i in range(2)]
    processes = []
    for i, log in enumerate(logs):
      command = [
        sys.executable,
        str(HERE / 'two_hosts.py'),
        f'--sweep={tmp_path / "a_sweep.py"}',
        f'--workdir={tmp_path / "lr"}',
        f'--coordinator=localhost:{port}',
        '--num_processes=2',
        f'--process_id={i}',
      ]
      with log.open('w') as out:
        processes.append(
          subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment
          )
        )
    started.extend(processes)
    return processes, logs

  yield hosts
  for process in started:
    process.kill()


def _codes(hosts):
  return [process.wait(300) for process in hosts[0]]


def _said(hosts):
  return [log.read_text() for log in hosts[1]]


def _study(workdir):
  return storage.load_study('journal', workdir)


@pytest.mark.slow
def test_two_hosts_are_one_worker(tmp_path, start):
  workdir = tmp_path / 'lr'
  hosts = start()
  assert _codes(hosts) == [0, 0], _said(hosts)

  trials = _study(workdir).get_trials()
  assert len(trials) == 3
  seen = [(workdir / f'seen.{i}').read_text().split() for i in range(2)]
  # The check before the first trial, of the base and of each choice; then
  # every trial.
  assert seen[0] == seen[1]
  assert seen[0][4:] == [str(t.params['optimizer.lr']) for t in trials]
  states = [trial.state.name for trial in trials]
  assert states.count('PRUNED') and states.count('COMPLETE')
  for trial in trials:
    folder = workdir / 'trials' / str(trial.number)
    results = json.loads((folder / 'results.json').read_text())
    assert results['step'] == (4 if trial.state.name == 'PRUNED' else 8)
    assert trial.value == results['val/toy/norm']
    # One process writes.
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == list(
      range(1, int(results['step']) + 1)
    )


@pytest.mark.slow
def test_what_one_host_refuses_ends_both(start):
  hosts = start(REFUSING_HOST='1')
  assert _codes(hosts) == [2, 2], _said(hosts)
  first, other = _said(hosts)
  assert 'process 1 of 2 failed' in first
  assert 'data/toy is not there; prepare it' in other


@pytest.mark.slow
def test_sigterm_to_one_host_stops_both_in_any_trial_and_between(
  tmp_path, start
):
  def until(happens):
    end = time.time() + 150
    while not happens() and time.time() < end:
      time.sleep(0.02)
    assert happens(), _said(hosts)

  def stopped():
    hosts[0][1].send_signal(signal.SIGTERM)
    assert _codes(hosts) == [143, 143], _said(hosts)

  workdir = tmp_path / 'lr'
  # In the second trial, whose steps count from the start again.
  hosts = start(SECONDS_A_BATCH='1.2')
  until((workdir / 'trials/1/metrics.jsonl').exists)
  stopped()
  states = lambda: [t.state.name for t in _study(workdir).get_trials()]
  assert states()[1:] == ['RUNNING']
  # While another worker has the last trial.
  other, trial = lease.Worker(), _study(workdir).ask()
  other.claim(trial)
  with other.holding(trial):
    hosts = start()
    until(lambda: states().count('RUNNING') == 1)
    time.sleep(3)
    stopped()
  assert states()[2] == 'RUNNING'
  hosts = start()
  assert _codes(hosts) == [0, 0], _said(hosts)
  assert not {'RUNNING', 'WAITING'} & set(states())
