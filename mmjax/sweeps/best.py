"""The best trials of a sweep, and their configs as files."""

import os
import pprint
import shlex
from pathlib import Path
from typing import Any

import ml_collections
import optuna

from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import progress, settings

Frozen = optuna.trial.FrozenTrial
# (path, value in the config's own file, value in the trial).
Change = tuple[str, Any, Any]
FILE = 'best_config.py'
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


def searched(study: optuna.Study, trial: Frozen) -> list[Change]:
  """The fields that the search chose."""
  base = settings.tuples(study.user_attrs['sweep']['config'])
  fixed = study.user_attrs['overrides']
  return [
    (
      path,
      settings.tuples(fixed[path][0])
      if path in fixed
      else sweep_lib.value_at(base, path),
      settings.tuples(value),
    )
    for path, value in trial.user_attrs['values'].items()
  ]


def shared(study: optuna.Study) -> list[Change]:
  """The fields that the sweep sets in all trials, where they differ."""
  base = settings.tuples(study.user_attrs['sweep']['config'])
  fixed = settings.tuples(study.user_attrs['overrides'])
  changes = [(path, *values) for path, values in fixed.items()]
  changes.append(
    ('train.blind_baseline', base['train']['blind_baseline'], False)
  )
  return [change for change in changes if change[1] != change[2]]


def cost(study: optuna.Study, trial: Frozen) -> str:
  """What it takes to train a trial's config again, as the trial measured."""
  steps = trial.user_attrs['steps']
  repeats = study.user_attrs['sweep']['repeats']
  seconds = progress.duration(trial.user_attrs['seconds'])
  runs = f' for {repeats} runs' if repeats > 1 else ''
  return (
    f'{steps // repeats:,} steps, and {seconds}{runs} of training on the '
    'devices of the sweep'
  )


def file_of(study: optuna.Study, trial: Frozen, workdir: Path | str) -> Path:
  """The file with the config of one of the best trials."""
  several = len(study.directions) > 1
  return Path(workdir) / (f'pareto_{trial.number}.py' if several else FILE)


def command(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  """The command that trains the config of one of the best trials again.

  Args:
    study: the sweep's.
    trial: one of `trials`.
    workdir: the sweep's folder.
  """
  file = shlex.quote(str(file_of(study, trial, workdir)))
  run = shlex.quote(f'runs/{study.study_name}_trial_{trial.number}')
  name = config_of(study, trial).experiment
  return f'python -m experiments.{name} --config={file} --workdir={run}'


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
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(_text(study, trial, workdir))
    os.replace(part, path)
    files.append(path)
  if len(study.directions) > 1 and files:
    for path in set(workdir.glob('pareto_*.py')) - set(files):
      path.unlink(missing_ok=True)
  return files


def _text(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  facts = study.user_attrs
  metrics = zip(facts['sweep']['metric'], trial.values, strict=True)
  numbers = ', '.join(f'{name} {value:.5g}' for name, value in metrics)
  lines = [
    f'Trial {trial.number} of {facts["file"]}: {numbers}.',
    f'\n  {command(study, trial, workdir)}\n',
    f'It takes {cost(study, trial)}.',
  ]
  fixed = shared(study)
  if any(path == 'train.blind_baseline' for path, *_ in fixed):
    lines.append(
      'The blind baseline is not trained, as in the trials;\n'
      '--config.train.blind_baseline=true trains it too.'
    )
  for changes, title in (
    (searched(study, trial), 'chosen by the search'),
    (fixed, 'the same in all trials'),
  ):
    if changes:
      lines.append(f'\nDifferent from {facts["location"]}, {title}:')
      lines += [f'  {path}: {old!r} -> {new!r}' for path, old, new in changes]
  # What a value contains must not end the docstring.
  docstring = '\n'.join(lines).replace('\\', r'\\').replace('"""', r'\"\"\"')
  data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
  return _TEXT.format(
    docstring=docstring,
    data='\n'.join('    ' + line for line in data.splitlines()),
  )
