"""Kills a sweep's worker at random times and compares its results with another.

Runs one small sweep twice with one worker: once without interruption, once
killed with SIGKILL at random times and resumed each time. Parameters, states
and metrics of all trials must be equal, and every trial ends once. It is an
error too if the sweep ends before the last kill: use fewer seconds for
--longest.

  python benchmarks/kill_sweep.py --kills=5
"""

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import optuna
from absl import app, flags

from mmjax import errors
from mmjax.sweeps import storage

_KILLS = flags.DEFINE_integer(
  'kills', 5, 'number of times to kill the worker', lower_bound=1
)
_TRIALS = flags.DEFINE_integer('trials', 6, 'number of trials', lower_bound=1)
_LONGEST = flags.DEFINE_float('longest', 18.0, 'most seconds until a kill')
_SEED = flags.DEFINE_integer('seed', 0, 'seed of the times')

_SWEEP = """
def get_sweep():
  return dict(
    config='configs/contrastive_shapes.py:runlocal',
    set={{
      'data.extra_splits': (),
      'optimizer.warmup_steps': 2,
      'train.steps': 16,
      'train.batch_size': 16,
      'train.eval_every': 4,
      'train.checkpoint_every': 4,
      'train.keep_best': '',
      'eval.num_examples': 50,
    }},
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={{
      'optimizer.lr': loguniform(1e-4, 1e-2),
      'model.text.pooling': choice('last', 'mean'),
    }},
    trials={trials},
    sampler=dict(name='tpe', n_startup_trials=2),
    pruner=dict(name='successive_halving', min_resource=8, reduction_factor=2),
  )
"""


def main(argv):
  """Prints what happened at each kill, and the verdict."""
  del argv
  scratch = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-kill-sweep-'))
  file = scratch / 'small.py'
  file.write_text(_SWEEP.format(trials=_TRIALS.value))
  # Pruners that draw lots draw them by the study's name, the folder's.
  whole, killed = scratch / 'whole/small', scratch / 'killed/small'
  began = time.time()
  subprocess.run(_command(file, whole), check=True, stdout=subprocess.DEVNULL)
  seconds = time.time() - began
  print(f'undisturbed: {_TRIALS.value} trials in {seconds:.0f} s', flush=True)

  draw, kills = random.Random(_SEED.value), 0
  while kills < _KILLS.value:
    process = subprocess.Popen(
      _command(file, killed), stdout=subprocess.DEVNULL
    )
    try:
      process.wait(draw.uniform(3.0, _LONGEST.value))
      print(f'kill {kills + 1}: the sweep had already ended')
      break
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.wait()
      kills += 1
      states = [t.state.name.lower() for t in _trials(killed)]
      print(f'kill {kills}: {", ".join(states)}', flush=True)
  subprocess.run(_command(file, killed), check=True, stdout=subprocess.DEVNULL)

  differ = 0
  for one, other in zip(_trials(whole), _trials(killed), strict=True):
    same = _end(one) == _end(other)
    differ += not same
    print(
      f'trial {one.number}: {one.state.name.lower()}, {one.value}: '
      f'{"equal" if same else _end(other)}'
    )
  print(f'{differ} of {_TRIALS.value} trials differ after {kills} kills')
  shutil.rmtree(scratch)
  sys.exit(1 if differ or kills < _KILLS.value else 0)


def _command(file: pathlib.Path, workdir: pathlib.Path) -> list[str]:
  return [
    sys.executable,
    '-m',
    'experiments.sweep',
    f'--sweep={file}',
    f'--workdir={workdir}',
  ]


def _trials(workdir: pathlib.Path) -> list[optuna.trial.FrozenTrial]:
  """None, where the worker had not even made them."""
  try:
    return storage.load_study('journal', workdir).get_trials()
  except errors.ConfigError:
    return []


def _end(trial: optuna.trial.FrozenTrial) -> tuple:
  return (
    trial.state,
    trial.params,
    trial.values,
    trial.intermediate_values,
    trial.user_attrs['steps'],
  )


if __name__ == '__main__':
  app.run(main)
