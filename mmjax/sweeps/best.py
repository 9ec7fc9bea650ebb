"""What a sweep found: its best trials, and their configs as files."""

import functools
import os
import pprint
import shlex
from pathlib import Path
from typing import Any

import ml_collections
import optuna

from mmjax.config import settings
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import progress

FILE = 'best_config.py'
_TEXT = '''\
"""{told}
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
  """The config that a trial ran; with repeats, that of the first run."""
  base = study.user_attrs['sweep']['config']
  config = ml_collections.ConfigDict(settings.tuples(base))
  for path, value in trial.user_attrs['values'].items():
    sweep_lib.assign(config, path, settings.tuples(value))
  config.train.blind_baseline = False  # As `Sweep.config` has it.
  return config


def changes(
  study: optuna.Study, trial: optuna.trial.FrozenTrial
) -> list[tuple[str, Any, Any, bool]]:
  """All that a trial's config has otherwise than the config's own file.

  Returns:
    (path, value in the file, value in the trial, whether the search chose it),
    what it chose first; None where there is no such field.
  """
  old = settings.leaves(_own(study))
  new = settings.leaves(config_of(study, trial).to_dict())
  chosen = [f'{path}.' for path in trial.user_attrs['values']]
  found = [
    (path, old.get(path), new.get(path), f'{path}.'.startswith(tuple(chosen)))
    for path in {**old, **new}
    if old.get(path) != new.get(path)
  ]
  return sorted(found, key=lambda change: not change[-1])


def cost(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> str:
  """What training a trial's config anew takes, as the trial measured it."""
  steps = trial.user_attrs['steps']
  repeats = study.user_attrs['sweep']['repeats']
  took = progress.duration(trial.user_attrs['seconds'])
  return (
    f'{steps // repeats:,} steps, and '
    + (f'{took} for {repeats} runs' if repeats > 1 else took)
    + ' of training on the devices of the sweep'
  )


def file_of(
  study: optuna.Study, trial: optuna.trial.FrozenTrial, workdir: Path | str
) -> Path:
  """Where the config of one of the best trials is written."""
  several = len(study.directions) > 1
  return Path(workdir) / (f'pareto_{trial.number}.py' if several else FILE)


def command(
  study: optuna.Study, trial: optuna.trial.FrozenTrial, workdir: Path | str
) -> str:
  """The one line that trains the trial's config anew, of what `write` wrote.

  Args:
    study: the sweep's.
    trial: one of the best.
    workdir: the sweep's folder.
  """
  file = shlex.quote(str(file_of(study, trial, workdir)))
  run = shlex.quote(f'runs/{study.study_name}_trial_{trial.number}')
  name = config_of(study, trial).experiment
  return f'python -m experiments.{name} --config={file} --workdir={run}'


def write(study: optuna.Study, workdir: Path | str) -> list[Path]:
  """Writes the best trials' configs as files that any experiment accepts.

  Returns:
    WORKDIR/best_config.py; with several metrics WORKDIR/pareto_NUMBER.py of
    each trial on the front, and those of others are removed.
  """
  workdir, files = Path(workdir), []
  workdir.mkdir(parents=True, exist_ok=True)
  found = trials(study)
  for trial in found:
    path = file_of(study, trial, workdir)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(text(study, trial, workdir))
    os.replace(part, path)
    files.append(path)
  if len(study.directions) > 1 and found:
    for path in set(workdir.glob('pareto_*.py')) - set(files):
      path.unlink(missing_ok=True)
  return files


def text(
  study: optuna.Study, trial: optuna.trial.FrozenTrial, workdir: Path | str
) -> str:
  """A config file's text; see `write`."""
  metrics = study.user_attrs['sweep']['metric']
  numbers = ', '.join(
    f'{name} {value:.5g}'
    for name, value in zip(metrics, trial.values, strict=True)
  )
  lines = [
    f'Trial {trial.number} of {study.user_attrs["file"]}: {numbers}.',
    f'\n  {command(study, trial, workdir)}\n',
    f'It takes {cost(study, trial)}.',
  ]
  found = changes(study, trial)
  if any(path == 'train.blind_baseline' for path, *_ in found):
    lines.append(
      'The twin that sees no image is not trained, as in the trials;\n'
      '--config.train.blind_baseline=true trains it too.'
    )
  location = study.user_attrs['location']
  for which, title in (
    (True, 'chosen by the search'),
    (False, 'the same in all trials'),
  ):
    some = [change[:3] for change in found if change[-1] is which]
    if some:
      lines.append(f'\nOtherwise than in {location}, {title}:')
      lines += [f'  {path}: {old!r} -> {new!r}' for path, old, new in some]
  data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
  # What a value has in it must not end the docstring.
  told = '\n'.join(lines).replace('\\', r'\\').replace('"""', r'\"\"\"')
  return _TEXT.format(
    told=told, data='\n'.join('    ' + line for line in data.splitlines())
  )


def _own(study: optuna.Study) -> dict[str, Any]:
  """The config as its own file has it, without `set` and flags."""
  config = settings.tuples(study.user_attrs['sweep']['config'])
  overrides = study.user_attrs['overrides']
  for path, (old, _) in overrides.items():
    if any(path.startswith(f'{other}.') for other in overrides):
      continue  # The section is as the file has it.
    *parents, name = path.split('.')
    functools.reduce(dict.__getitem__, parents, config)[name] = old
  return settings.tuples(config)
