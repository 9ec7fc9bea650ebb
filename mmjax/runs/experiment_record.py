"""Which experiment file a run was trained with, so that it is found again.

experiment.json, in a run's folder:

path      the file, absolute
from_run  the same from the run's folder, for projects that are moved as a whole
sha256    checksum of its content

A config's `experiment` alone would be another file in another working folder.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.config import components, experiment_file, settings
from mmjax.errors import ConfigError
from mmjax.runs import metric_writers

FILE = 'experiment.json'


def write(workdir: Path, name: str) -> None:
  """Records the file of an experiment, if it has one.

  Args:
    workdir: the run's folder.
    name: the config's `experiment`.
  """
  path = experiment_file.locate(name)
  if path is None:
    return
  record = {
    'path': str(path),
    'from_run': os.path.relpath(path, workdir.resolve()),
    'sha256': _checksum(path),
  }
  metric_writers.write_json(workdir / FILE, record)


def is_same(workdir: Path, name: str) -> bool:
  """Whether a name stands for the file that a run was trained with.

  Args:
    workdir: the run's folder.
    name: a config's `experiment`, perhaps another one than the run's.
  """
  record, path = _read(workdir), experiment_file.locate(name)
  if record is None or path is None:
    return False
  return str(path) == record['path'] or _checksum(path) == record['sha256']


def describe_change(workdir: Path, name: str) -> str:
  """Note that a run resumes with another code; '' if it doesn't.

  Args:
    workdir: the run's folder.
    name: the config's `experiment`.
  """
  record, path = _read(workdir), experiment_file.locate(name)
  if record is None or path is None or _checksum(path) == record['sha256']:
    return ''
  if str(path) == record['path']:
    return f'note: {path} has changed since the run was last started'
  return (
    f'note: the run was last started with {record["path"]}; it continues with '
    f'{path}, which differs'
  )


def read_config(workdir: Path, experiment: Any = None) -> Any:
  """The completed config of a run, whose `experiment` is the run's own.

  Args:
    workdir: the run's folder.
    experiment: what has the classes of the run, as for `mmjax.load`; None for
      the recorded file.

  Raises:
    ConfigError: if the run needs its experiment file, and it is not found.
  """
  # Fields that are newer than the run have their defaults.
  config = settings.complete(settings.from_json(workdir / 'config.json'))
  if experiment is not None:
    _, name = experiment_file.choose(experiment)
    if name.endswith('.py'):
      name = os.path.abspath(name)
    config.experiment = name
    return config
  own, record = components.own_name(config), _read(workdir)
  if own is None:
    return config
  if record is not None:
    config.experiment = _find(workdir, config.experiment, record, own)
  elif path := experiment_file.locate(config.experiment):
    _note(f'{workdir} does not record its experiment file; {path} is used')
  return config


def _find(workdir: Path, name: str, record: Mapping[str, str], own: str) -> str:
  """The name by which the recorded experiment is found.

  Args:
    workdir: the run's folder.
    name: `experiment` of its config.
    record: what is recorded.
    own: what the config names that mmjax lacks.
  """
  path = Path(record['path'])
  if path.is_file():
    if _checksum(path) != record['sha256']:
      _note(f'{path} has changed since {workdir} was trained')
    return experiment_file.name_at(path, name)
  here = experiment_file.locate(name)
  beside = (workdir.resolve() / record['from_run']).resolve()
  others = [p for p in (beside, here) if p is not None and p.is_file()]
  for other in others:
    if _checksum(other) == record['sha256']:
      return experiment_file.name_at(other, name)
  differs = f'; {others[0]} is another file' if others else ''
  raise ConfigError(
    f'mmjax has no {own}, and the experiment that the run was trained with, '
    f'{path}, is gone{differs}; put it back, or say where it is: '
    f'--experiment=FILE, in Python mmjax.load({str(workdir)!r}, '
    'experiment=FILE)'
  )


def _note(text: str) -> None:
  print(f'note: {text}', file=sys.stderr)


def _read(workdir: Path) -> Mapping[str, str] | None:
  path = workdir / FILE
  return settings.read_json(path) if path.exists() else None


def _checksum(path: Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()
