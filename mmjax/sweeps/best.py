"""The best trials of a sweep, and their configs as files."""

import os
import pprint
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
  if not study.get_trials(
    deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
  ):
    return []
  if len(study.directions) > 1:
    return sorted(study.best_trials, key=lambda trial: trial.values)
  return [study.best_trial]


def config_of(study: optuna.Study, trial: Frozen) -> ml_collections.ConfigDict:
  """The config that a trial ran; with repeats, that of the first run."""
  base = study.user_attrs['sweep']['config']
  config = ml_collections.ConfigDict(settings.tuples(base))
  for path, value in trial.user_attrs['values'].items():
    sweep_lib.assign(config, path, settings.tuples(value))
  config.train.blind_baseline = False  # As `Sweep.config` sets it.
  return config


def file_of(study: optuna.Study, trial: Frozen, workdir: Path | str) -> Path:
  """The file with the config of one of the best trials."""
  several = len(study.directions) > 1
  name = f'pareto_{trial.number}.py' if several else 'best_config.py'
  return Path(workdir) / name


def command(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  """The command that trains the config of one of the best trials again."""
  file = shlex.quote(str(file_of(study, trial, workdir)))
  run = shlex.quote(f'runs/{study.study_name}_trial_{trial.number}')
  name = config_of(study, trial).experiment
  return f'python -m experiments.{name} --config={file} --workdir={run}'


def description(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  """What one of the best trials is: metrics, command, cost, changed fields."""
  facts, sweep = study.user_attrs, study.user_attrs['sweep']
  metrics = zip(sweep['metric'], trial.values, strict=True)
  numbers = ', '.join(f'{name} {value:.5g}' for name, value in metrics)
  steps = trial.user_attrs['steps'] // sweep['repeats']
  seconds = progress.duration(trial.user_attrs['seconds'])
  runs = f' for {sweep["repeats"]} runs' if sweep['repeats'] > 1 else ''
  lines = [
    f'Trial {trial.number} of {facts["file"]}: {numbers}.',
    f'\n  {command(study, trial, workdir)}\n',
    f'It takes {steps:,} steps, and {seconds}{runs} of training on the devices',
    'of the sweep. A blind baseline is not trained, as in the trials;',
    '--config.train.blind_baseline=true trains it.',
    f'\nDifferent from {facts["location"]}, chosen by the search:',
    *_changes(study, trial.user_attrs['values']),
    f'\nDifferent from {facts["location"]}, the same in all trials:',
    *_changes(study, {p: new for p, (_, new) in facts['overrides'].items()}),
  ]
  return '\n'.join(lines)


def _changes(study: optuna.Study, values: dict[str, Any]) -> Iterator[str]:
  """A line for each field: its value in the config's own file, and the new."""
  base = study.user_attrs['sweep']['config']
  for path, new in values.items():
    # Those that `set` and flags changed before.
    fixed = study.user_attrs['overrides'].get(path)
    old = fixed[0] if fixed else sweep_lib.value_at(base, path)
    if old != new:
      yield f'  {path}: {settings.tuples(old)!r} -> {settings.tuples(new)!r}'


def write(study: optuna.Study, workdir: Path | str) -> list[Path]:
  """Writes the best trials' configs as files for any experiment.

  Returns:
    WORKDIR/best_config.py; with several metrics WORKDIR/pareto_NUMBER.py of
    each trial on the front, and those of others are removed.
  """
  workdir, files = Path(workdir), []
  workdir.mkdir(parents=True, exist_ok=True)
  for trial in trials(study):
    path = file_of(study, trial, workdir)
    text = description(study, trial, workdir)
    data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(
      _TEXT.format(
        # What a value contains must not end the docstring.
        docstring=text.replace('\\', r'\\').replace('"""', r'\"\"\"'),
        data='\n'.join('    ' + line for line in data.splitlines()),
      )
    )
    os.replace(part, path)
    files.append(path)
  if len(study.directions) > 1 and files:
    for path in set(workdir.glob('pareto_*.py')) - set(files):
      path.unlink(missing_ok=True)
  return files
