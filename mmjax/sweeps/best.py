"""What a sweep found: its best trials, and their configs as files."""

import json
import os
import pprint
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
import optuna

from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import settings

FILE = 'best_config.py'
_TEXT = '''\
"""{title}.

  {command}

Differs from {location} in:
{changes}
"""

import ml_collections


def get_config():
  return ml_collections.ConfigDict(
{data}
  )
'''


def trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
  """The best complete trial; with several metrics, the Pareto front."""
  complete = study.get_trials(
    deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
  )
  if not complete:
    return []
  if len(study.directions) > 1:
    return sorted(study.best_trials, key=lambda trial: trial.values)
  return [study.best_trial]


def config_of(
  study: optuna.Study, trial: optuna.trial.FrozenTrial
) -> ml_collections.ConfigDict:
  """The config that a trial ran, as its sweep's file would be started."""
  base = study.user_attrs['sweep']['config']
  config = ml_collections.ConfigDict(settings.tuples(base))
  for path, value in trial.user_attrs['values'].items():
    sweep_lib.assign(config, path, settings.tuples(value))
  return config


def changes(
  study: optuna.Study, trial: optuna.trial.FrozenTrial
) -> list[tuple[str, Any, Any]]:
  """(path, value in the sweep's config, value in the trial) of its fields."""
  base = study.user_attrs['sweep']['config']
  values = trial.user_attrs['values']
  return [(path, _at(base, path), value) for path, value in values.items()]


def command(
  study: optuna.Study, trial: optuna.trial.FrozenTrial, workdir: str
) -> str:
  """The one line that trains the trial's config anew."""
  name = study.user_attrs['sweep']['config']['experiment']
  parts = [
    f'python -m experiments.{name}',
    f'--config={shlex.quote(study.user_attrs["location"])}',
  ]
  values = study.user_attrs['overrides'] | trial.user_attrs['values']
  for path, value in values.items():
    parts.append(shlex.quote(f'--config.{path}={_as_flag(value)}'))
  return ' '.join([*parts, f'--workdir={shlex.quote(workdir)}'])


def write(study: optuna.Study, workdir: Path | str) -> list[Path]:
  """Writes the best trials' configs as files that any experiment accepts.

  Returns:
    WORKDIR/best_config.py; with several metrics WORKDIR/pareto_NUMBER.py of
    each trial on the front, and those of others are removed.
  """
  workdir, files = Path(workdir), []
  found = trials(study)
  several = len(study.directions) > 1
  for trial in found:
    path = workdir / (f'pareto_{trial.number}.py' if several else FILE)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(text(study, trial, path))
    os.replace(part, path)
    files.append(path)
  if several and found:
    for path in set(workdir.glob('pareto_*.py')) - set(files):
      path.unlink(missing_ok=True)
  return files


def text(
  study: optuna.Study, trial: optuna.trial.FrozenTrial, path: Path
) -> str:
  """A config file's text."""
  metrics = study.user_attrs['sweep']['metric']
  numbers = ', '.join(
    f'{name} {value:.5g}'
    for name, value in zip(metrics, trial.values, strict=True)
  )
  name = study.user_attrs['sweep']['config']['experiment']
  data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
  return _TEXT.format(
    title=f'Trial {trial.number} of {study.user_attrs["file"]}: {numbers}',
    command=f'python -m experiments.{name} --config={path} --workdir=DIR',
    location=study.user_attrs['location'],
    changes='\n'.join(
      f'  {p}: {old!r} -> {new!r}' for p, old, new in changes(study, trial)
    ),
    data='\n'.join('    ' + line for line in data.splitlines()),
  )


def _at(tree: Mapping[str, Any], path: str) -> Any:
  for name in path.split('.'):
    tree = tree.get(name) if hasattr(tree, 'get') else None
  return tree


def _as_flag(value: Any) -> str:
  """A value as `--config.a.b=VALUE` is read."""
  if isinstance(value, str):
    return value
  if isinstance(value, dict | list):
    return repr(settings.tuples(json.loads(json.dumps(value))))
  return repr(value)
