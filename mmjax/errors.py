"""Exceptions whose message is all that a user needs; the rest are bugs."""

import difflib
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

_Value = TypeVar('_Value')

# Numbers of the system's errors for a disk, or the user's part of it, that is
# full.
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# Of a path that can't be what it should be.
_PATH_ERRORS = (
  FileNotFoundError,
  FileExistsError,
  IsADirectoryError,
  NotADirectoryError,
  PermissionError,
)


class ConfigError(ValueError):
  """A refused value of the user's: of a config, a flag or a file.

  Commands print its message without a traceback and end with exit code 2. Any
  exception that is neither this nor a `RunError` is a bug, of a user's module
  or of mmjax, and keeps its traceback.
  """


class RunError(RuntimeError):
  """A run or command failed for a reason that its message explains.

  Commands print its message without a traceback and end with exit code 1.
  """


def choose(name: Any, table: Mapping[str, _Value], field: str) -> _Value:
  """The value of a name that a user chose.

  Args:
    name: the user's choice.
    table: legal names and their values.
    field: what the name stands for, for the message, such as 'model.name'.

  Raises:
    ConfigError: as in `check_choice`.
  """
  check_choice(name, table, field)
  return table[name]


def check_choice(name: Any, choices: Iterable[str], field: str) -> None:
  """Refuses a name that is not one of the choices.

  Args:
    name: the user's choice.
    choices: legal names.
    field: what the name stands for, for the message, such as 'data.resize'.

  Raises:
    ConfigError: if it is not; it lists the legal names.
  """
  choices = list(choices)
  if name in choices:
    return
  raise ConfigError(
    f'{field} {name!r} is unknown; use one of {choices}{suggest(name, choices)}'
  )


def suggest(name: Any, choices: Iterable[str]) -> str:
  """End of a message about an unknown name: the one that may be meant.

  Case makes no difference.

  >>> suggest('Fractoin', ['field', 'fraction'])
  "; did you mean 'fraction'?"

  Args:
    name: the user's choice.
    choices: legal names.

  Returns:
    A question that begins with '; ', or '' if no name is close.
  """
  by_lower = {str(choice).lower(): choice for choice in choices}
  close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
  return f'; did you mean {by_lower[close[0]]!r}?' if close else ''


def suggest_folder(path: Path | str) -> str:
  """End of a message about a missing folder: the one that may be meant.

  Args:
    path: the user's choice; one of the folders above it may be wrong as well.

  Returns:
    As `suggest`, '' if no folder that exists is close.
  """
  wrong, rest = Path(path), []
  while not wrong.parent.is_dir():
    rest.insert(0, wrong.name)
    wrong = wrong.parent
  known = [p.name for p in wrong.parent.iterdir() if p.is_dir()]
  for name in difflib.get_close_matches(wrong.name, known):
    meant = wrong.parent.joinpath(name, *rest)
    if meant.is_dir():
      return f'; did you mean {str(meant)!r}?'
  return ''


def exit_code(error: Exception) -> int:
  """Exit code of a command that an error ends.

  Returns:
    2 if a value, file or path of the user's is refused; 1 if the command failed
    while it ran.
  """
  return 2 if isinstance(error, (ConfigError, *_PATH_ERRORS)) else 1


def reason(error: OSError) -> str:
  """The system's reason, such as 'no such file or directory'."""
  text = error.strerror or str(error) or type(error).__name__
  return text[:1].lower() + text[1:]


def is_full_disk(error: BaseException) -> bool:
  """Whether the system reported that a disk is full."""
  return getattr(error, 'errno', None) in FULL_DISK
