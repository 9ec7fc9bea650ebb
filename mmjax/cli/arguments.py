"""Command lines: a parser whose errors are one line, and errors of files."""

import argparse
import contextlib
import difflib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from mmjax import errors
from mmjax.errors import ConfigError

# Of images that are written.
IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp')
_UNKNOWN_FLAG = re.compile(r'--?[A-Za-z]')


class Parser(argparse.ArgumentParser):
  """Refuses a command line in one line, with the nearest legal value.

  Args:
    hint: flag that does not exist, such as '--batch_size' -> what to use
      instead, '' if there is nothing; asked if no flag has a similar name.
    **settings: those of `argparse.ArgumentParser`.
  """

  def __init__(self, *, hint: Callable[[str], str] | None = None, **settings):
    super().__init__(**{'allow_abbrev': False, **settings})
    self._hint = hint

  def error(self, message: str) -> NoReturn:
    """Prints the error and exits with code 2."""
    self.exit(
      2, f'{self.prog}: {message}; `{self.prog} --help` lists the flags\n'
    )

  def parse_known_args(self, args=None, namespace=None):
    """Parses arguments; refuses unknown ones, those of subcommands too."""
    namespace, unknown = super().parse_known_args(args, namespace)
    if unknown:
      self.error(self._describe_unknown(unknown[0]))
    return namespace, unknown

  def _describe_unknown(self, argument: str) -> str:
    name = argument.partition('=')[0]
    if not _UNKNOWN_FLAG.match(name):
      return f'{argument!r} is not expected here; flags begin with --'
    close = difflib.get_close_matches(name, self._option_string_actions, n=1)
    hint = close[0] if close else self._hint(name) if self._hint else ''
    return f'{name} is not a flag' + (f'; did you mean {hint}?' if hint else '')

  def _check_value(self, action: argparse.Action, value: Any) -> None:
    if action.choices is None or value in action.choices:
      return
    choices = list(map(str, action.choices))
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    raise argparse.ArgumentError(
      action, f'{value!r} is unknown; use one of {", ".join(choices)}{hint}'
    )


@contextlib.contextmanager
def naming(argument: str, action: str) -> Iterator[None]:
  """Around the use of a file: an error names the argument and the action.

  Args:
    argument: argument, as the user wrote it, such as '--image=photo.png'.
    action: what is done, such as 'read'.

  Raises:
    ConfigError: for any `OSError`, except one of a full disk.
  """
  try:
    yield
  except OSError as error:
    if errors.is_full_disk(error):
      raise
    path = argument.partition('=')[2]
    other = error.filename and Path(str(error.filename)) != Path(path)
    where = f' ({error.filename})' if other else ''
    raise ConfigError(
      f'{argument}: cannot {action} it: {errors.reason(error)}{where}'
    ) from error


def add_run(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that say which checkpoint and file a run is opened with."""
  parser.add_argument(
    '--experiment',
    metavar='FILE',
    help='experiment file of a run with classes of its own (default: the one '
    'that it was trained with)',
  )
  parser.add_argument(
    '--step',
    type=_parse_step,
    help="checkpoint of a run: its step, or 'best' by train.keep_best "
    '(default: the newest)',
  )


def get_run(args: argparse.Namespace) -> dict[str, Any]:
  """How a run is opened, as `mmjax.load` takes it."""
  return {'experiment': args.experiment, 'step': args.step}


def _parse_step(text: str) -> int | str:
  if text == 'best':
    return text
  try:
    return int(text)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} is neither a number nor 'best'"
    ) from None


def check_model(name: str) -> None:
  """Refuses a model that is not there, before anything else is read.

  A model that has to be downloaded is not asked for yet.

  Raises:
    ConfigError: if it is neither a folder nor a name on the hub.
  """
  if Path(name).is_dir():
    return
  # Imported where it is needed: JAX comes with it.
  from mmjax.pretrained import hub

  hub.find_local(name)


def check_file(flag: str, kind: str, path: str) -> None:
  """Refuses a file that can't be read as its kind, before any work.

  Args:
    flag: the flag with what the user wrote, such as '--image=photos'.
    kind: 'image', 'sound' or 'video'.
    path: path of the file.

  Raises:
    ConfigError: naming the flag or the file.
  """
  # Imported where it is needed, so that other errors come at once.
  from mmjax.data import audio, images, video_files

  with naming(flag, 'read'):
    data = Path(path).read_bytes()
  decode = {'image': images.decode, 'sound': audio.decode}
  try:
    decode.get(kind, video_files.check)(data)
  except ConfigError as error:
    raise ConfigError(f'{path}: {error}') from error


def check_output_file(flag: str, path: Path | str) -> None:
  """Refuses a path that no file can be written to, before any work.

  Args:
    flag: the flag with what the user wrote, such as '--output=x.npz'.
    path: path of the file.

  Raises:
    ConfigError: if it is a folder, has no folder, or can't be written.
  """
  path = Path(path)
  if path.is_dir():
    raise ConfigError(f'{flag} is a folder; name a file')
  if not path.absolute().parent.is_dir():
    raise ConfigError(f'{flag}: there is no folder {path.parent}')
  with naming(flag, 'write'):
    if path.is_file():
      path.open('ab').close()
    else:
      _try_to_write(path.absolute().parent)


def check_output_folder(flag: str, path: Path | str) -> None:
  """Refuses a path that no folder can be made at, before any work.

  Args:
    flag: the flag with what the user wrote, such as '--output=results'.
    path: path of the folder, which may exist.

  Raises:
    ConfigError: if it, or one above it, is a file or can't be written.
  """
  path = Path(path)
  for folder in (path, *path.parents):
    if folder.is_dir():
      with naming(flag, 'write'):
        _try_to_write(folder)
      return
    if folder.exists():
      is_whole = folder == Path(flag.partition('=')[2])
      kind = 'is' if is_whole else f'is inside {folder}, which is'
      raise ConfigError(
        f'{flag} {kind} a file; name a folder, or move the file away'
      )


def _try_to_write(folder: Path) -> None:
  """Raises OSError where no file can be made; leaves none.

  Permissions alone don't say it: of root, or of a read-only disk.
  """
  try:
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(folder)) from error


def check_image_output(path: str, *, makes_folder: bool = False) -> None:
  """Refuses a path that no image can be written to, before any work.

  Args:
    path: what the user wrote behind --output=.
    makes_folder: whether the command makes the folder of the image.

  Raises:
    ConfigError: if it has no ending of an image, or as `check_output_file`.
  """
  if Path(path).suffix.lower() not in IMAGE_ENDINGS:
    raise ConfigError(
      f'--output={path} should end in {", ".join(IMAGE_ENDINGS)}'
    )
  flag = f'--output={path}'
  if makes_folder and not Path(path).exists():
    check_output_folder(flag, Path(path).parent)
  else:
    check_output_file(flag, path)
