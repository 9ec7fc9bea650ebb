"""Where a study is stored: a file beside the trials, or a database."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from mmjax.errors import ConfigError, RunError

JOURNAL = 'study.journal'
SQLITE = 'study.db'
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
    location: 'journal' or 'sqlite', a file in the work directory; or a URL of
      SQLAlchemy, such as postgresql://user:password@host/database.
    workdir: the sweep's folder.

  Raises:
    ConfigError: if there is no such kind, or it can't be opened.
  """
  workdir = Path(workdir)
  if location in ('journal', 'sqlite'):
    workdir.mkdir(parents=True, exist_ok=True)
  if location == 'journal':
    # Its lock is a symbolic link to this path. A worker that waits for a lock
    # reads the link's target; a relative one would never be found.
    path = str((workdir / JOURNAL).absolute())
    return optuna.storages.JournalStorage(
      optuna.storages.journal.JournalFileBackend(path)
    )
  if location == 'sqlite':
    location = f'sqlite:///{(workdir / SQLITE).absolute()}'
  if '://' not in location:
    raise ConfigError(
      f"--storage={location} is not legal: 'journal', 'sqlite', or a URL such "
      'as postgresql://user@host/database'
    )
  options = {'pool_pre_ping': True}  # A connection may die between trials.
  if location.startswith('sqlite'):
    options['connect_args'] = {'timeout': 60}
  where = f'--storage={without_password(location)}'
  for left in range(_ATTEMPTS - 1, -1, -1):
    try:
      return optuna.storages.RDBStorage(location, engine_kwargs=options)
    except ModuleNotFoundError as error:
      raise ConfigError(
        f'{where} needs the package {error.name}; install the driver that '
        'SQLAlchemy names for this database'
      ) from error
    except Exception as error:  # Each driver has errors of its own.
      # Of workers that start together in an empty database, one creates the
      # tables, and the others fail because they exist.
      if not left:
        message = without_password(str(error))
        raise ConfigError(f'{where} cannot be opened: {message}') from error
      time.sleep(random.uniform(0.5, 1.5))
  raise AssertionError


def with_retry(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
  """Calls a function again until the storage answers it.

  Args:
    function: may be called again after it failed, done or not.
    *args: its.
    **kwargs: its.

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


def file_in(workdir: Path | str) -> str:
  """The kind of file storage in a sweep's folder: 'journal' or 'sqlite'.

  Raises:
    ConfigError: if there is none.
  """
  for name, file in (('journal', JOURNAL), ('sqlite', SQLITE)):
    if (Path(workdir) / file).exists():
      return name
  raise ConfigError(
    f'{workdir} holds no study ({JOURNAL} or {SQLITE}); give the --workdir of '
    'a sweep, and --storage=URL if its study is in a database'
  )


def without_password(location: str) -> str:
  """The URL as it may be shown.

  >>> without_password('postgresql://me:secret@host/db')
  'postgresql://me:***@host/db'
  """
  return re.sub(r'(://[^:/@\s]*):[^@\s]*@', r'\1:***@', location)


def study_name(workdir: Path | str) -> str:
  """The name of a sweep folder's study: the folder's."""
  return Path(workdir).absolute().name
