"""Trials that take no time, in ordinary-looking run folders.

python trivial.py SWEEP WORKDIR STORAGE SECONDS_A_STEP
"""

import json
import math
import pathlib
import sys
import time

from mmjax.sweeps import storage, study, sweep, worker

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
  """As `mmjax.train.loop.run`: goes on from where a process before stopped."""

  def train(config, workdir, report):
    workdir.mkdir(parents=True, exist_ok=True)
    saved = workdir / 'saved'
    begun = int(saved.read_text() or 0) if saved.exists() else 0
    for step in range(begun + 1, config.train.steps + 1):
      time.sleep(seconds)
      with (workdir / 'steps.txt').open('a') as file:
        print(step, file=file)
      results = {'val/quality': quality(config, step), 'step': step}
      results['train_seconds'] = 0.5 * step
      (workdir / 'results.json').write_text(json.dumps(results))
      if step < config.train.steps and report(step, results):
        return {}
      saved.write_text(str(step))
    return results

  return train


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
  """One worker's life; its study."""
  loaded = sweep.load(file)
  opened = storage.open_storage(location, workdir)
  its_study = study.Study(loaded, opened, storage.study_name(workdir))
  its_study.queue()
  worker.work(
    loaded, its_study, workdir, train or trainer(), poll=0.1, **options
  )
  return its_study


if __name__ == '__main__':
  work(
    sys.argv[1],
    pathlib.Path(sys.argv[2]),
    sys.argv[3],
    trainer(float(sys.argv[4])),
  )
