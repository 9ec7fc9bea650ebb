"""Measures training speed on CPUs by default and with two settings.

Trains one config for a number of steps under each of four environments in turn,
several rounds, and prints the median examples/s of each and its ratio to the
first:

  as it comes
  devices    JAX_NUM_CPU_DEVICES: one JAX device per core, to split each batch
  malloc     GLIBC_TUNABLES: huge pages, and memory is kept between steps
  both

  python benchmarks/cpu_settings.py --steps=100 --rounds=3
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags

_STEPS = flags.DEFINE_integer('steps', 100, 'steps of each run')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'runs of each environment')
_DEVICES = flags.DEFINE_integer('devices', 2, 'JAX devices')
_CONFIG = flags.DEFINE_string(
  'config', 'configs/captioning_shapes.py', 'config to train'
)
_EXPERIMENT = flags.DEFINE_string(
  'experiment', 'captioning', 'name of the experiment file'
)
_LOG_EVERY = 10

_KEPT = 4_000_000_000
MALLOC = ':'.join(
  (
    'glibc.malloc.hugetlb=1',
    f'glibc.malloc.mmap_threshold={_KEPT}',
    f'glibc.malloc.trim_threshold={_KEPT}',
    'glibc.malloc.top_pad=67108864',
  )
)


def main(argv):
  """Prints a line a run, then the medians."""
  del argv
  devices = {'JAX_NUM_CPU_DEVICES': str(_DEVICES.value)}
  malloc = {'GLIBC_TUNABLES': MALLOC}
  environments = {
    'as it comes': {},
    'devices': devices,
    'malloc': malloc,
    'both': devices | malloc,
  }
  speeds = {name: [] for name in environments}
  for number in range(_ROUNDS.value):
    for name, settings in environments.items():
      speeds[name].append(_speed(settings))
      print(
        f'round {number + 1}, {name}: {speeds[name][-1]:.0f} examples/s',
        flush=True,
      )
  first = statistics.median(speeds['as it comes'])
  print('medians:')
  for name, values in speeds.items():
    median = statistics.median(values)
    print(f'  {name:12} {median:5.0f} examples/s  {median / first:.2f}')


def _speed(settings: dict[str, str]) -> float:
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
  subprocess.run(
    [
      sys.executable,
      '-m',
      f'experiments.{_EXPERIMENT.value}',
      f'--config={_CONFIG.value}',
      f'--workdir={scratch}',
      *(f'--config.{flag}' for flag in flags_),
    ],
    env={**plain, 'JAX_PLATFORMS': 'cpu', **settings},
    check=True,
    stdout=subprocess.DEVNULL,
  )
  lines = (scratch / 'metrics.jsonl').read_text().splitlines()
  shutil.rmtree(scratch)
  values = [json.loads(line)['examples_per_second'] for line in lines]
  return statistics.median(values[2:])


if __name__ == '__main__':
  app.run(main)
