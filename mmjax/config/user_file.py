"""The user's Python files: run, and their mistakes told by file and line."""

import contextlib
import importlib.util
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmjax.errors import ConfigError

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def function(
  file: Path | str,
  name: str,
  *,
  flag: str,
  names: Mapping[str, Any] = _NOTHING,
) -> Callable[..., Any]:
  """Runs a file and gives one of its functions.

  Args:
    file: Python.
    name: the function's.
    flag: that names the file, for messages.
    names: what the file can use without an import.

  Raises:
    ConfigError: if there is no such file, it can't be run, or it has no such
      function.
  """
  path = Path(file)
  if not path.is_file():
    near = sorted(str(p) for p in path.parent.glob('[!_]*.py'))
    raise ConfigError(
      f'--{flag}={file}: no such file'
      + (f'; there are {", ".join(near)}' if near else '')
    )
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if spec is None:
    raise ConfigError(f'--{flag}={file} is no Python file; they end with .py')
  module = importlib.util.module_from_spec(spec)
  vars(module).update(names)
  with mistakes_told(file, flag):
    spec.loader.exec_module(module)
  found = getattr(module, name, None)
  if not callable(found):
    raise ConfigError(f'--{flag}={file}: it has no function {name}')
  return found


@contextlib.contextmanager
def mistakes_told(
  file: Path | str, flag: str, but: type[Exception] | tuple[()] = ()
) -> Iterator[None]:
  """Around the running of a file: what it raises is told with its line.

  Args:
    file: what is run.
    flag: that names it.
    but: errors that are told otherwise.

  Raises:
    ConfigError: for any other error.
  """
  try:
    yield
  except but:
    raise
  except Exception as error:
    where = f'--{flag}={file}'
    line = _line(error, Path(file))
    if line is not None:
      where += f', line {line}'
    kind, message = type(error).__name__, getattr(error, 'msg', error)
    raise ConfigError(f'{where}: {kind}: {message}') from error


def _line(error: Exception, file: Path) -> int | None:
  """Where in the file it came from, if it did."""
  here = lambda name: Path(name).resolve() == file.resolve()
  if isinstance(error, SyntaxError) and here(error.filename or ''):
    return error.lineno
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if here(frame.filename)]
  return lines[-1] if lines else None
