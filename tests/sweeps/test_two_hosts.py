"""Two processes are one worker: same trials, one record, pruned together."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import optuna
import pytest

from mmjax.sweeps import storage

HERE = pathlib.Path(__file__).parent
SWEEP = f"""
def get_sweep():
  return dict(
    config='{HERE.parent / 'train/toy_config.py'}',
    set={{'train.eval_every': 4, 'train.steps': 8, 'experiment': 'toy'}},
    metric='val/toy/norm',
    direction='minimize',
    space={{'optimizer.lr': choice(1e-4, 1e-1, 2e-1)}},
    sampler='grid',
    pruner=dict(name='successive_halving', min_resource=4, reduction_factor=3),
    seed=1,
  )
"""


@pytest.mark.slow
def test_two_hosts_are_one_worker(tmp_path):
  (tmp_path / 'a_sweep.py').write_text(SWEEP)
  workdir = tmp_path / 'lr'
  workdir.mkdir()
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join(
      [str(HERE.parents[1]), str(HERE.parent / 'train')]
    ),
    'JAX_NUM_CPU_DEVICES': '1',
    'JAX_PLATFORMS': 'cpu',
    'MMJAX_CACHE_DIR': str(tmp_path / 'xla'),
  }
  logs = [tmp_path / f'{i}.log' for i in range(2)]
  processes = []
  for i, log in enumerate(logs):
    command = [
      sys.executable,
      str(HERE / 'two_hosts.py'),
      f'--sweep={tmp_path / "a_sweep.py"}',
      f'--workdir={workdir}',
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
  try:
    codes = [process.wait(300) for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert codes == [0, 0], logs[0].read_text() + logs[1].read_text()

  study = optuna.load_study(
    study_name='lr', storage=storage.open_storage('journal', workdir)
  )
  trials = study.get_trials()
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
