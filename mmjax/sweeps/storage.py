"""Where a study lies: a file beside the trials, or a database by its URL."""

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
# What a storage raises that can't be reached: databases, and files.
ERRORS = optuna.exceptions.StorageInternalError, OSError
_TRIES = 3
_PATIENCE = 120.0


class Unreachable(RunError):
  """The storage could not be reached, for long."""


def open_storage(
  location: str, workdir: Path | str
) -> optuna.storages.BaseStorage:
  """Opens the storage of a sweep.

  Args:
    location: 'journal' or 'sqlite', a file in the work directory; or a URL of
      SQLAlchemy, such as postgresql://user:password@host/database.
    workdir: the sweep's folder.

  Raises:
    ConfigError: if there is no such kind, or it can't be reached.
  """
  workdir = Path(workdir)
  if location == 'journal':
    workdir.mkdir(parents=True, exist_ok=True)
    # Its lock is a symbolic link to this path, and whoever waits for one that a
    # killed process left looks at what it points to: a relative one points to
    # nothing, and is waited for forever.
    path = str((workdir / JOURNAL).absolute())
    return optuna.storages.JournalStorage(
      optuna.storages.journal.JournalFileBackend(path)
    )
  if location == 'sqlite':
    workdir.mkdir(parents=True, exist_ok=True)
    location = f'sqlite:///{(workdir / SQLITE).absolute()}'
  if '://' not in location:
    raise ConfigError(
      f"--storage={location} is not legal: 'journal', 'sqlite', or a URL such "
      'as postgresql://user@host/database'
    )
  options = {'pool_pre_ping': True}  # A connection may die between trials.
  if location.startswith('sqlite'):
    options['connect_args'] = {'timeout': 60}
  for left in range(_TRIES - 1, -1, -1):
    try:
      return optuna.storages.RDBStorage(location, engine_kwargs=options)
    except ModuleNotFoundError as error:
      raise ConfigError(
        f'--storage={without_password(location)} needs the package '
        f'{error.name}; install the driver that SQLAlchemy names for this '
        'database'
      ) from error
    except Exception as error:  # Each driver has errors of its own.
      # Of workers that begin at once in an empty database, one makes the
      # tables, and the others are told that they exist.
      if left:
        time.sleep(random.uniform(0.5, 1.5))
        continue
      raise ConfigError(
        f'--storage={without_password(location)} cannot be opened: '
        f'{without_password(str(error))}'
      ) from error
  raise AssertionError


def patiently(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
  """Calls again what needs the storage, until that answers.

  Args:
    function: may be called again after it has failed, done or not.
    *args: its.
    **kwargs: its.

  Raises:
    Unreachable: if it fails for two minutes.
  """
  until, pause = time.monotonic() + _PATIENCE, 0.1
  while True:
    try:
      return function(*args, **kwargs)
    except ERRORS as error:
      if time.monotonic() > until:
        said = without_password(str(error.__cause__ or error))
        raise Unreachable(
          f"the study's storage cannot be reached since {_PATIENCE:.0f} "
          f'seconds: {said}; the same command goes on when it can'
        ) from error
    time.sleep(pause)
    pause = min(2 * pause, 5.0)


def found_in(workdir: Path | str) -> str:
  """The file storage that a sweep's folder holds.

  Raises:
    ConfigError: if it holds none.
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
  """What the study of a sweep's folder is called: as the folder."""
  return Path(workdir).absolute().name
