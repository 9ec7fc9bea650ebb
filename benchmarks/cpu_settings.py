"""Measures training speed on CPUs with other settings than the default.

Trains one config for a number of steps under each of three settings in turn,
several rounds, and prints the median examples/s of each and its ratio to the
first:

  plain command   memory is kept between steps, in huge pages
  devices         with JAX_NUM_CPU_DEVICES, one JAX device per core
  plain malloc    --nokeep_memory: malloc as it is

  python benchmarks/cpu_settings.py --steps=100 --rounds=3
"""

import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from absl import app, flags

_LOG_EVERY = 10

_STEPS = flags.DEFINE_integer(
  'steps', 100, 'steps of each run', lower_bound=3 * _LOG_EVERY
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 3, 'runs of each setting', lower_bound=1
)
_DEVICES = flags.DEFINE_integer('devices', 2, 'JAX devices', lower_bound=1)
_CONFIG = flags.DEFINE_string(
  'config', 'configs/captioning_shapes.py', 'config to train'
)
_EXPERIMENT = flags.DEFINE_string(
  'experiment', 'captioning', 'name of the experiment file'
)


def main(argv):
  """Prints a line a run, then the medians."""
  del argv
  choices = {
    'plain command': ({}, ()),
    'devices': ({'JAX_NUM_CPU_DEVICES': str(_DEVICES.value)}, ()),
    'plain malloc': ({}, ('--nokeep_memory',)),
  }
  speeds = {name: [] for name in choices}
  for number in range(_ROUNDS.value):
    for name, (environment, extra) in choices.items():
      speeds[name].append(_speed(environment, extra))
      print(
        f'round {number + 1}, {name}: {speeds[name][-1]:.0f} examples/s',
        flush=True,
      )
  first = statistics.median(speeds['plain command'])
  print('medians:')
  for name, values in speeds.items():
    median = statistics.median(values)
    print(f'  {name:13} {median:5.0f} examples/s  {median / first:.2f}')


def _speed(environment: dict[str, str], extra: Sequence[str]) -> float:
  """Median examples/s of one run, the first steps left out."""
  plain = {
    name: value
    for name, value in os.environ.items()
    if name not in ('JAX_NUM_CPU_DEVICES', 'GLIBC_TUNABLES')
  }
  scratch = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-cpu-'))
  flags_ = (
    f'train.steps={_STEPS.value}',
    f'train.log_every={_LOG_EVERY}',
    f'train.checkpoint_every={_STEPS.value}',
    'train.eval_every=0',
    'train.keep_best=',
    'optimizer.warmup_steps=1',
    'data.extra_splits=()',
    'eval.num_examples=2',
  )
  run = subprocess.run(
    [
      sys.executable,
      '-m',
      f'experiments.{_EXPERIMENT.value}',
      f'--config={_CONFIG.value}',
      f'--workdir={scratch}',
      *(f'--config.{flag}' for flag in flags_),
      *extra,
    ],
    env={**plain, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
  )
  if run.returncode:
    sys.exit(f'{shlex.join(run.args)} failed:\n{run.stderr.strip()}')
  lines = (scratch / 'metrics.jsonl').read_text().splitlines()
  shutil.rmtree(scratch)
  values = [json.loads(line)['examples_per_second'] for line in lines]
  return statistics.median(values[2:])


if __name__ == '__main__':
  app.run(main)
