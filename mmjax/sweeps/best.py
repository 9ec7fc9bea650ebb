"""The best trial of a sweep, and its config as a file."""

import os
import pprint
import shlex
from pathlib import Path

import ml_collections
import optuna

from mmjax.config import settings
from mmjax.sweeps import sweep as sweep_lib
from mmjax.training import progress

FILE = 'best_config.py'  # In the sweep's folder.
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


def find(study: optuna.Study) -> Frozen | None:
  """The best complete trial, and of equal ones the first."""
  return min(study.best_trials, key=lambda trial: trial.number, default=None)


def config_of(study: optuna.Study, trial: Frozen) -> ml_collections.ConfigDict:
  """The config that a trial ran."""
  base = settings.tuples(study.user_attrs['sweep']['base'])
  values = settings.tuples(trial.user_attrs['values'])
  return sweep_lib.vary(ml_collections.ConfigDict(base), values)


def description(study: optuna.Study, trial: Frozen, workdir: Path | str) -> str:
  """What the best trial is: metric, cost, command, changed fields."""
  sweep, config = study.user_attrs['sweep'], config_of(study, trial)
  file = shlex.quote(str(Path(workdir) / FILE))
  run = shlex.quote(f'runs/{study.study_name}_trial_{trial.number}')
  old = settings.leaves(sweep['in_file'])
  new = settings.leaves(settings.to_json(config))
  name = config.experiment
  module = name if '.' in name else f'experiments.{name}'
  program = name if name.endswith('.py') else f'-m {module}'
  lines = [
    f'Trial {trial.number} of {sweep["file"]}: {sweep["metric"]} '
    f'{trial.value:.5g}; {trial.user_attrs["steps"]:,} steps in '
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
  """Writes WORKDIR/best_config.py, if a trial is complete."""
  trial = find(study)
  if trial is None:
    return
  path = Path(workdir) / FILE
  text = description(study, trial, workdir)
  data = pprint.pformat(config_of(study, trial).to_dict(), width=72)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'{FILE}.{os.getpid()}.part')
  part.write_text(
    _TEXT.format(
      # What a value contains must not end the docstring.
      docstring=text.replace('\\', r'\\').replace('"""', r'\"\"\"'),
      data='\n'.join('    ' + line for line in data.splitlines()),
    )
  )
  os.replace(part, path)
