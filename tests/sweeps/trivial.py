"""Trials that take no time, in folders like those of runs.

python trivial.py SWEEP WORKDIR STORAGE SECONDS_A_STEP
"""

import functools
import json
import math
import multiprocessing
import pathlib
import sys
import time

from mmjax.runs import owner
from mmjax.sweeps import load, study, worker

CONFIG = """
def get_config():
  return {
    'experiment': 'contrastive',
    'train': {'steps': 9, 'batch_size': 8, 'eval_every': 1},
    'model': {'width': 16, 'part': {'name': 'a'}},
  }
"""
SWEEP = """
def get_sweep():
  return dict(
    config={config!r},
    {more}
  )
"""


def quality(config, step):
  """Best at lr=1e-3, and better with every step; the seed is noise."""
  distance = abs(math.log10(config.optimizer.lr) + 3)
  return step / config.train.steps - distance + 0.01 * config.seed


def trainer(seconds=0.0):
  """Like `mmjax.training.runner.run`: alone, from the last saved step on."""

  return functools.partial(_train, seconds)


def _train(seconds, config, workdir, report):
  with owner.claim(workdir):
    return _train_alone(seconds, config, workdir, report)


def _train_alone(seconds, config, workdir, report):
  saved, kept = workdir / 'saved', workdir / 'results.json'
  begun = int(saved.read_text()) if saved.exists() else 0
  if begun == config.train.steps:
    return json.loads(kept.read_text())
  for step in range(begun + 1, config.train.steps + 1):
    time.sleep(seconds)
    with (workdir / 'steps.txt').open('a') as file:
      print(step, file=file)
    results = {'val/quality': quality(config, step), 'step': step}
    results['train_seconds'] = 0.5 * step
    _write_whole(kept, json.dumps(results))
    ends = step < config.train.steps and report(step, results)
    _write_whole(saved, str(step))
    if ends:
      break
  return results


def _write_whole(path, text):
  """All or nothing, also if it is killed."""
  part = path.with_suffix('.part')
  part.write_text(text)
  part.replace(path)


def write(folder, **more):
  """A sweep file and its config."""
  config = folder / 'config.py'
  config.write_text(CONFIG)
  more = {
    'metric': "'val/quality'",
    'direction': "'maximize'",
    'space': "{'optimizer.lr': loguniform(1e-5, 1e-1)}",
    'trials': 6,
  } | more
  lines = ',\n    '.join(f'{name}={value}' for name, value in more.items())
  path = folder / 'some_sweep.py'
  path.write_text(SWEEP.format(config=str(config), more=lines))
  return path


def work(file, workdir, location='journal', train=None, **options):
  """Runs a worker; returns its study."""
  loaded = load.load(file)
  its_study = study.Study(loaded, location, workdir)
  worker.work(
    loaded, its_study, workdir, train or trainer(), poll=0.1, **options
  )
  return its_study


def start(file, workdir, location='journal', seconds=0.0):
  """Runs a worker in a process of its own."""
  # Forked from a process that has imported all, but not begun to use JAX.
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['trivial'])
  process = context.Process(
    target=work, args=(file, workdir, location, trainer(seconds))
  )
  process.start()
  return process


if __name__ == '__main__':
  work(
    sys.argv[1],
    pathlib.Path(sys.argv[2]),
    sys.argv[3],
    trainer(float(sys.argv[4])),
  )
