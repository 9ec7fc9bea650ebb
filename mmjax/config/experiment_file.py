"""Finds the experiment that a config names."""

import functools
import importlib
import importlib.util
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
  if _is_started(name):
    return sys.modules['__main__'].build
  if not name.endswith('.py'):
    return _of_module(name, _module_of(name))
  path = Path(name)
  if not path.is_file():
    return _run(path)  # It says what is missing.
  stat = path.stat()
  return _of_file(path.resolve(), (stat.st_mtime_ns, stat.st_size))


def choose(
  experiment: types.ModuleType | Callable[..., Any] | os.PathLike | str,
) -> tuple[Callable[..., Any], str]:
  """The `build` of an experiment that a caller passes, and its name.

  Args:
    experiment: a module with a `build`; a `build` itself, such as a
      `Builder`, which may use classes of this session; or a name as for
      `find`, such as the path of a file.

  Raises:
    ConfigError: if it is something else, or as `find`.
  """
  if isinstance(experiment, str | os.PathLike):
    name = os.fspath(experiment)
    return find(name), name
  if not isinstance(experiment, types.ModuleType):
    if not callable(experiment):
      raise ConfigError(
        f'experiment={experiment!r} is not an experiment; give a module with a '
        '`build`, an mmjax.training.experiment.Builder, a function '
        'build(config, mesh), or the path of an experiment file'
      )
    return experiment, keep_in_memory(experiment)
  build = getattr(experiment, 'build', None)
  if not callable(build):
    raise ConfigError(
      f'the module {experiment.__name__} has no `build`; an experiment file '
      'says build = mmjax.training.experiment.Builder(...)'
    )
  name = name_of(experiment)
  # A path that leaves the working folder says less than a whole one.
  return build, os.path.abspath(name) if name.startswith('..') else name


def locate(name: str) -> Path | None:
  """The file of an experiment, absolute; it does not run.

  Args:
    name: a config's `experiment`.

  Returns:
    None without such a file: an experiment of a notebook has none.
  """
  if name in ('', IN_MEMORY):
    return None
  if _is_started(name):
    return Path(sys.modules['__main__'].__file__).resolve()
  if name.endswith('.py'):
    path = Path(name).resolve()
    return path if path.is_file() else None
  _make_importable(os.getcwd())
  try:
    spec = importlib.util.find_spec(_module_of(name))
  except ModuleNotFoundError:
    return None
  return Path(spec.origin).resolve() if spec and spec.has_location else None


def name_at(path: Path, name: str) -> str:
  """The name by which `find` finds an experiment at a known path.

  Args:
    path: its file, absolute.
    name: the name in the folder where it was started.

  Raises:
    ConfigError: if it is a module of a package of which this process has
      imported another.
  """
  if name.endswith('.py'):
    return str(path)
  module = _module_of(name)
  root = str(path.parents[module.count('.')])
  if locate(name) != path:
    sys.path.insert(0, root)
    importlib.invalidate_caches()
  if locate(name) != path:
    raise ConfigError(
      f'experiment={name!r}: it is {path}, but this process has imported '
      f'{module.partition(".")[0]} from another folder; open the run in a '
      'process of its own'
    )
  return name


def _of_memory() -> Callable[..., Any]:
  if not _in_memory:
    raise ConfigError(
      f'experiment={IN_MEMORY!r}: the run was trained by mmjax.train with an '
      'experiment that no file has, in a notebook that has ended; write the '
      'experiment to a file, and open the run with it: --experiment=FILE, in '
      'Python mmjax.load(RUN, experiment=FILE)'
    )
  return _in_memory[-1]


def _module_of(name: str) -> str:
  """The module of an experiment that is not named by a file."""
  return name if '.' in name else f'experiments.{name}'


def _is_started(name: str) -> bool:
  """Whether a name stands for the file that Python was started with.

  Running it once more would give other classes of the same names. A relative
  path may be one from the folder in which the run began.
  """
  main = sys.modules['__main__']
  spec, file = getattr(main, '__spec__', None), getattr(main, '__file__', None)
  if not hasattr(main, 'build'):
    return False
  if not name.endswith('.py'):
    return spec is not None and spec.name == _module_of(name)
  if file is None:
    return False
  started, path = Path(file).resolve(), Path(name)
  return path.resolve() == started or (
    started.parts[-len(path.parts) :] == path.parts
  )


@functools.lru_cache
def _of_file(path: Path, version: tuple[int, int]) -> Callable[..., Any]:
  del version  # Another version of the file runs again.
  return _run(path)


def _run(path: Path) -> Callable[..., Any]:
  return user_file.function(
    path, 'build', flag='config.experiment', keeps_traceback=True
  )


def _make_importable(folder: str) -> None:
  # An installed command doesn't have the working folder on its path.
  if folder not in sys.path:
    sys.path.insert(0, folder)


def _of_module(name: str, module: str) -> Callable[..., Any]:
  _make_importable(os.getcwd())
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
