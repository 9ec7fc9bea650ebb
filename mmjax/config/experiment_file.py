"""Finds the experiment that a config names."""

import functools
import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmjax.config import user_file
from mmjax.errors import ConfigError

# The name of an experiment that no file has, as one of a notebook.
IN_MEMORY = '__main__'
_in_memory: list[Callable[..., Any]] = []  # The newest one, if any.


def keep_in_memory(build: Callable[..., Any]) -> str:
  """Keeps an experiment for `find` until this process ends.

  Args:
    build: the experiment's; it replaces the one before.

  Returns:
    The name by which `find` finds it, for a config's `experiment`.
  """
  _in_memory[:] = [build]
  return IN_MEMORY


def name_of(module: types.ModuleType) -> str:
  """The name by which `find` finds a module of an experiment.

  Returns:
    The name of a module in a package, else the file's path; '' if the module
    has neither, as the main module of a notebook.
  """
  spec, file = module.__spec__, getattr(module, '__file__', None)
  if spec is not None and '.' in spec.name:
    return spec.name.removeprefix('experiments.')
  return os.path.relpath(file) if file is not None else ''


def find(name: str) -> Callable[..., Any]:
  """The `build` of an experiment file.

  The same file gives the same object, so that its classes are the same too.

  Args:
    name: a config's `experiment`: a module of the folder `experiments/`, such
      as 'contrastive'; any other module, such as 'my_project.experiment'; a
      file, such as 'my_project/experiment.py'; or `IN_MEMORY`.

  Raises:
    ConfigError: if there is no such file or module, or it has no `build`.
  """
  if not name:
    raise ConfigError(
      "experiment='': the config names no experiment; set it, for example to "
      "'contrastive'"
    )
  if name == IN_MEMORY:
    return _of_memory()
  module = name if '.' in name else f'experiments.{name}'
  started = _started(name, module)
  if started is not None:
    return started
  if name.endswith('.py'):
    path = Path(name)
    stat = path.stat() if path.is_file() else None
    version = (stat.st_mtime_ns, stat.st_size) if stat else None
    return _of_file(name, path.resolve(), version)
  return _of_module(name, module)


def _of_memory() -> Callable[..., Any]:
  if not _in_memory:
    raise ConfigError(
      f'experiment={IN_MEMORY!r}: the run was trained by mmjax.train with an '
      'experiment that no file has, in a notebook that has ended; write the '
      "experiment to a file, and its path as `experiment` into the run's "
      'config.json'
    )
  return _in_memory[-1]


def _started(name: str, module: str) -> Callable[..., Any] | None:
  """The `build` of the file that Python was started with, if it is this one.

  Running it once more would give other classes of the same names.
  """
  main = sys.modules['__main__']
  spec, file = getattr(main, '__spec__', None), getattr(main, '__file__', None)
  if name.endswith('.py'):
    same = file is not None and Path(file).resolve() == Path(name).resolve()
  else:
    same = spec is not None and spec.name == module
  return getattr(main, 'build', None) if same else None


@functools.lru_cache
def _of_file(
  name: str, path: Path, version: tuple[int, int] | None
) -> Callable[..., Any]:
  del path, version  # Another file, or another version of it, runs again.
  return user_file.function(
    name, 'build', flag='config.experiment', keeps_traceback=True
  )


def _of_module(name: str, module: str) -> Callable[..., Any]:
  # An installed command doesn't have the working folder on its path.
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    found = importlib.import_module(module)
  except ModuleNotFoundError as error:
    # A module that the experiment itself imports is not the config's mistake.
    if error.name not in (module, module.partition('.')[0]):
      raise
    raise ConfigError(
      f'experiment={name!r}: there is no module {module} in {os.getcwd()}'
      f'{_others()}'
    ) from error
  if not callable(getattr(found, 'build', None)):
    raise ConfigError(
      f'experiment={name!r}: {module} has no function build(config, mesh)'
      f'{_others()}'
    )
  return found.build


def _others() -> str:
  """Names of the experiment files of the working folder, for a message."""
  names = {path.stem for path in Path('experiments').glob('[!_]*.py')}
  if not names:
    return (
      '. The folder experiments/ is in a clone of mmjax: start the command '
      "there, or name a file of yours, as in experiment='experiment.py'; "
      '`mmjax new FOLDER` writes one'
    )
  return f'; experiments/ has {", ".join(sorted(names - {"sweep"}))}'
