"""The user's Python files, whose mistakes are shown by file and line."""

import contextlib
import difflib
import importlib.util
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmjax.errors import ConfigError

_NOTHING: Mapping[str, Any] = MappingProxyType({})
# Modules that are the same for all folders.
_SHARED = {*sys.stdlib_module_names, 'mmjax'}


def function(
  file: Path | str,
  name: str,
  *,
  flag: str,
  names: Mapping[str, Any] = _NOTHING,
  keeps_traceback: bool = False,
) -> Callable[..., Any]:
  """Runs a file and returns one of its functions.

  The file can import modules of its own folder.

  Args:
    file: path of a Python file.
    name: name of the function.
    flag: flag that names the file, for messages.
    names: names that the file can use without an import.
    keeps_traceback: whether an error in the file is raised as it is.

  Raises:
    ConfigError: if there is no such file, it can't be run, or it has no such
      function.
  """
  path = Path(file)
  if not path.is_file():
    raise ConfigError(f'--{flag}={file}: {_describe_missing(path, name)}')
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if spec is None:
    raise ConfigError(
      f'--{flag}={file} is not a Python file; their names end with .py'
    )
  module = importlib.util.module_from_spec(spec)
  vars(module).update(names)
  show = contextlib.nullcontext() if keeps_traceback else naming(file, flag)
  with show, _importable(path.parent):
    spec.loader.exec_module(module)
  found = getattr(module, name, None)
  if not callable(found):
    raise ConfigError(f'--{flag}={file}: it has no function {name}')
  return found


def _describe_missing(path: Path, name: str) -> str:
  """What is in the place of a missing file, and which file may be meant.

  Args:
    path: path of the file.
    name: name of the function that it should have.
  """
  what = 'a folder, not a file' if path.is_dir() else 'no such file'
  folder = path if path.is_dir() else path.parent
  if not folder.is_dir():
    return f'{what}; there is no folder {folder}'
  known = {
    file.name: file
    for file in sorted(folder.glob('[!_]*.py'))
    if _defines(file, name)
  }
  close = difflib.get_close_matches(path.with_suffix('.py').name, known, n=1)
  if close:
    return f'{what}; did you mean {known[close[0]]}?'
  if not known:
    return what
  return f'{what}; there are {", ".join(map(str, known.values()))}'


def _defines(file: Path, name: str) -> bool:
  """Whether a Python file has a function or value of this name."""
  text = file.read_text(errors='replace')
  return (
    re.search(rf'^(def {name}\b|{name} *=)', text, re.MULTILINE) is not None
  )


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
  """Puts a folder on the path of imports.

  Modules of other folders that have the names of its own are hidden.
  """
  entry = folder.resolve()
  hidden = _find_others(entry)
  for name in hidden:
    del sys.modules[name]
  sys.path.insert(0, str(entry))
  importlib.invalidate_caches()
  try:
    yield
  finally:
    sys.path.remove(str(entry))
    sys.modules.update(hidden)


def _find_others(folder: Path) -> dict[str, types.ModuleType]:
  """Imported modules that a folder has files of the same names as, by name."""
  own = {path.stem: path for path in folder.glob('*.py')}
  own |= {path.parent.name: path for path in folder.glob('*/__init__.py')}
  others = {
    name
    for name in own.keys() & sys.modules.keys() - _SHARED
    if not _is_of_file(sys.modules[name], own[name])
  }
  return {
    name: module
    for name, module in sys.modules.items()
    if name.partition('.')[0] in others
  }


def _is_of_file(module: types.ModuleType, path: Path) -> bool:
  file = getattr(module, '__file__', None)
  return file is not None and Path(file).resolve() == path.resolve()


@contextlib.contextmanager
def naming(file: Path | str, flag: str) -> Iterator[None]:
  """Around running a file: names the file and line of an error in it.

  Args:
    file: path of the file.
    flag: flag that names it.

  Raises:
    ConfigError: for any error; one that is a `ConfigError` itself is named
      without a line.
  """
  where = f'--{flag}={file}'
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f'{where}: {error}') from error
  except Exception as error:
    line = _line(error, Path(file))
    if line is not None:
      where += f', line {line}'
    kind, message = type(error).__name__, getattr(error, 'msg', error)
    raise ConfigError(f'{where}: {kind}: {message}') from error


def _line(error: Exception, file: Path) -> int | None:
  """The file's line from which an error came, None if from elsewhere."""
  here = lambda name: Path(name).resolve() == file.resolve()
  if isinstance(error, SyntaxError) and here(error.filename or ''):
    return error.lineno
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if here(frame.filename)]
  return lines[-1] if lines else None
