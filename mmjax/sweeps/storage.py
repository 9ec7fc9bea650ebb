"""Where a study is stored: a file beside the trials, or a database."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError, RunError, suggest_folder

FILE = 'study.journal'  # In the sweep's folder.
# What a storage raises that is out of reach: databases, and files.
ERRORS = optuna.exceptions.StorageInternalError, OSError
_ATTEMPTS = 3
_PATIENCE = 120.0


class UnreachableError(RunError):
  """The storage did not answer for minutes."""


def open_storage(
  location: str, workdir: Path | str
) -> optuna.storages.BaseStorage:
  """Opens the storage of a sweep.

  Args:
    location: 'journal', the file in the work directory; or a URL of SQLAlchemy,
      such as postgresql://user:password@host/database.
    workdir: the sweep's folder.

  Raises:
    ConfigError: if there is no such kind, or it can't be opened.
  """
  if location == 'journal':
    # Absolute, since the journal's lock is a symbolic link to it.
    path = Path(workdir).absolute() / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(backend)
  if '://' not in location:
    raise ConfigError(
      f"--storage={location} is not legal: 'journal', or a URL such as "
      'postgresql://user@host/database'
    )
  options = {'pool_pre_ping': True}  # A connection may die between trials.
  if location.startswith('sqlite'):
    options['connect_args'] = {'timeout': 60}
  for attempt in range(1, _ATTEMPTS + 1):
    try:
      return optuna.storages.RDBStorage(location, engine_kwargs=options)
    except Exception as error:  # Each driver has errors of its own.
      # Of workers that start together in an empty database, one creates the
      # tables, and the others fail because they exist.
      if attempt == _ATTEMPTS or isinstance(error, ModuleNotFoundError):
        raise ConfigError(
          without_password(f'--storage={location} cannot be opened: {error}')
        ) from error
      time.sleep(random.uniform(0.5, 1.5))
  raise AssertionError


def with_retry(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
  """Calls a function again until the storage answers it.

  Args:
    function: may be called again after it failed, done or not.
    *args, **kwargs: its.

  Raises:
    UnreachableError: if it fails for two minutes.
  """
  until, pause = time.monotonic() + _PATIENCE, 0.1
  while True:
    try:
      return function(*args, **kwargs)
    except ERRORS as error:
      if time.monotonic() > until:
        message = without_password(str(error.__cause__ or error))
        raise UnreachableError(
          f"the study's storage did not answer for {_PATIENCE:.0f} seconds: "
          f'{message}; the same command resumes the sweep'
        ) from error
    time.sleep(pause)
    pause = min(2 * pause, 5.0)


def load_study(location: str, workdir: Path | str) -> optuna.Study:
  """The study of a sweep's folder, to read.

  Args:
    location: location, as in `open_storage`.
    workdir: the sweep's folder.

  Raises:
    ConfigError: if there is none.
  """
  if not Path(workdir).is_dir():
    raise ConfigError(
      f'there is no folder {workdir}'
      f'{suggest_folder(workdir) or "; give the --workdir of a sweep"}'
    )
  if location == 'journal' and not (Path(workdir) / FILE).exists():
    raise ConfigError(
      f'{workdir} holds no {FILE}; give the --workdir of a sweep, and '
      '--storage=URL if its study is in a database'
    )
  name = study_name(workdir)
  try:
    return optuna.load_study(
      study_name=name, storage=open_storage(location, workdir)
    )
  except KeyError as error:
    raise ConfigError(
      f'the storage has no study {name!r}, the name of this folder'
    ) from error


def without_password(text: str) -> str:
  """A text with the URLs in it as they may be shown.

  >>> without_password('postgresql://me:secret@host/db')
  'postgresql://me:***@host/db'
  """
  return re.sub(r'(://[^:/@\s]*):[^@\s]*@', r'\1:***@', text)


def study_name(workdir: Path | str) -> str:
  """The name of a sweep folder's study: the folder's."""
  return Path(workdir).absolute().name
