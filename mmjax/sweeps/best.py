"""The best trials of a sweep, and their configs as files."""

import os
import pprint
import shlex
from pathlib import Path

import ml_collections
import optuna

from mmjax.config import settings
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import progress

Frozen = optuna.trial.FrozenTrial
_TEXT = '''\
"""{docstring}
"""

import ml_collections


def get_config():
  return ml_collections.ConfigDict(
{data}
  )
'''


def trials(study: optuna.Study) -> list[Frozen]:
  """The best complete trial; with several metrics, the Pareto front."""
  front = sorted(study.best_trials, key=lambda trial: trial.values)
  return front if len(study.directions) > 1 else front[:1]


def config_of(study: optuna.Study, trial: Frozen) -> ml_collections.ConfigDict:
  """The config that a trial ran."""
  base = study.user_attrs['sweep']['base']
  config = ml_collections.ConfigDict(settings.tuples(base))
  for path, value in trial.user_attrs['values'].items():
    sweep_lib.assign(config, path, settings.tuples(value))
  config.train.blind_baseline = False  # As `Sweep.run_config` sets it.
  return config


def file_of(study: optuna.Study, trial: Frozen, workdir: Path | str) -> Path:
  """The file with the config of one of the best trials."""
  several = len(study.directions) > 1
  name = f'pareto_{trial.number}.py' if several else 'best_config.py'
  return Path(workdir) / name


def description(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  """What one of the best trials is: metrics, cost, command, changed fields."""
  sweep, config = study.user_attrs['sweep'], config_of(study, trial)
  metrics = zip(sweep['metric'], trial.values, strict=True)
  numbers = ', '.join(f'{name} {value:.5g}' for name, value in metrics)
  file = shlex.quote(str(file_of(study, trial, workdir)))
  run = shlex.quote(f'runs/{study.study_name}_trial_{trial.number}')
  old = settings.leaves(sweep['in_file'])
  new = settings.leaves(settings.to_json(config))
  name = config.experiment
  module = name if '.' in name else f'experiments.{name}'
  program = name if name.endswith('.py') else f'-m {module}'
  lines = [
    f'Trial {trial.number} of {sweep["file"]}: {numbers}; '
    f'{trial.user_attrs["steps"]:,} steps in '
    f'{progress.duration(trial.user_attrs["seconds"])}.\n',
    f'  python {program} --config={file} --workdir={run}\n',
    f'Different from {sweep["config"]}:',
  ]
  lines += [
    f'  {path}: {settings.tuples(old.get(path))!r} -> '
    f'{settings.tuples(new.get(path))!r}'
    for path in {**new, **old}
    if old.get(path) != new.get(path)
  ]
  return '\n'.join(lines)


def write(study: optuna.Study, workdir: Path | str) -> None:
  """Writes the best trials' configs as files for any experiment.

  WORKDIR/best_config.py; with several metrics WORKDIR/pareto_NUMBER.py of each
  trial on the front, and those of others are removed.
  """
  workdir, files = Path(workdir), set()
  for trial in trials(study):
    path = file_of(study, trial, workdir)
    text = description(study, trial, workdir)
    data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
    workdir.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(
      _TEXT.format(
        # What a value contains must not end the docstring.
        docstring=text.replace('\\', r'\\').replace('"""', r'\"\"\"'),
        data='\n'.join('    ' + line for line in data.splitlines()),
      )
    )
    os.replace(part, path)
    files.add(path)
  if files:
    for path in set(workdir.glob('pareto_*.py')) - files:
      path.unlink(missing_ok=True)
