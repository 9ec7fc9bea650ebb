"""A disk that fills up while a run writes to it."""

import contextlib
import errno
import gc
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax

from mmjax import errors
from mmjax.errors import RunError
from mmjax.runs import checkpoints, late_reads

# As C++ libraries report them.
_MESSAGES = tuple(os.strerror(number) for number in errors.FULL_DISK)
# A disk with so many bytes free is hardly the one that is full.
_MUCH = 2**30


class FullError(RunError):
  """A disk is full, and the run ended; what was saved before is safe."""


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
  """Has a full disk end a run by one error, whoever noticed it.

  What writes in the background logs the same error several times over; that is
  left out.

  Args:
    folder: the run's.

  Raises:
    FullError: naming the disk, the newest step that is saved, and the way out.
  """
  full = None
  with _quiet():
    try:
      yield
    except Exception as error:
      if not is_full(error):
        raise
      _forget(error)
      removed = jax.process_count() == 1 and (
        checkpoints.remove_unfinished(folder)
      )
      full = FullError(_message(folder, error, removed))
      full.__cause__ = error
    if full is not None:
      gc.collect()  # What was being written, before the interpreter ends.
      raise full


def is_full(error: BaseException) -> bool:
  """Whether an error, or one that led to it, is of a full disk."""
  return any(
    errors.is_full_disk(one) or _says_full(str(one)) for one in _chain(error)
  )


def _says_full(text: str) -> bool:
  return any(message in text for message in _MESSAGES)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """The error and all that led to it."""
  left, seen = [error], set()
  while left:
    one = left.pop()
    if one is None or id(one) in seen:
      continue
    seen.add(id(one))
    yield one
    left += [one.__cause__, one.__context__, *getattr(one, 'exceptions', ())]


def _message(folder: Path, error: BaseException, removed: bool) -> str:
  message = _state(folder, error, removed)
  steps = checkpoints.steps_in(folder)
  if not steps:
    return (
      f'{message} Nothing of this run is saved yet; make room, and the same '
      'command starts it again'
    )
  size = sum(
    file.stat().st_size
    for file in (folder / checkpoints.FOLDER / str(steps[-1])).rglob('*')
    if file.is_file()
  )
  fewer = ''
  if len(steps) > 1:
    fewer = ', or keep fewer checkpoints with --config.train.keep_last=1'
  return (
    f'{message} The run is saved up to step {steps[-1]}, in a checkpoint of '
    f'{size:,} bytes. Make room{fewer}, and the same command resumes from step '
    f'{steps[-1]}'
  )


def _state(folder: Path, error: BaseException, removed: bool) -> str:
  """Which disk is full, and how full, in a sentence."""
  named = [getattr(one, 'filename', None) for one in _chain(error)]
  path = next((Path(str(name)) for name in named if name), folder)
  there = next(p for p in (path, *path.parents) if p.exists())
  disk = os.statvfs(there)
  free = disk.f_bavail * disk.f_frsize
  room = f'{free:,} bytes free'
  if removed:
    room += ' now that the unfinished checkpoint is removed'
  first = next(one for one in _chain(error) if is_full(one))
  if any(getattr(one, 'errno', None) == errno.EDQUOT for one in _chain(error)):
    return f'the disk of {path} has no room left within your quota ({room}).'
  if disk.f_files and not disk.f_favail:
    return f'the disk of {path} can hold no more files ({room}).'
  if free > _MUCH and not removed:
    # Another one may be, such as that of temporary files.
    return f'a disk is full: {first}. That of {path} has {room}.'
  return f'the disk of {path} is full ({room}).'


def _forget(error: BaseException) -> None:
  """Frees what the frames of an error hold: writes that were begun."""
  for one in _chain(error):
    traceback.clear_frames(one.__traceback__)


class _NotFull(logging.Filter):
  """Leaves out what is logged of a full disk."""

  def filter(self, record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    full = error is not None and is_full(error)
    return not full and not _says_full(record.getMessage())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Leaves out what would be printed of writes besides the error itself."""
  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  unwanted = _NotFull()
  before = sys.unraisablehook

  def hook(unraisable) -> None:
    # Writes end late as well, after another one's failure.
    if not late_reads.is_late(unraisable.exc_value):
      before(unraisable)

  for logger in loggers:
    logger.addFilter(unwanted)
  sys.unraisablehook = hook
  try:
    yield
  finally:
    for logger in loggers:
      logger.removeFilter(unwanted)
    sys.unraisablehook = before
