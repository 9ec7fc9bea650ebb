"""Reads of a checkpoint that end after another one of it has failed."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def ignored() -> Iterator[None]:
  """Has reads fail by one error, without what Python prints of the others.

  Orbax reads all arrays at once, in an event loop that it closes at the first
  error. A read that ends later finds the loop closed or is dropped, and one
  that fails as well has nobody who asks for its error: Python prints a
  traceback of each. This may be at any time, so after an error these tracebacks
  are left out until the process ends.
  """
  try:
    yield
  except Exception:
    if not isinstance(sys.unraisablehook, _Hook):
      sys.unraisablehook = _Hook(sys.unraisablehook)
    logging.getLogger('asyncio').addFilter(_leave_out)
    raise


class _Hook:
  """A `sys.unraisablehook` that leaves out errors of late reads.

  Args:
    before: the hook for all other errors.
  """

  def __init__(self, before: Callable[[Any], Any]):
    self._before = before

  def __call__(self, unraisable: Any) -> None:
    if not is_late(unraisable.exc_value):
      self._before(unraisable)


def is_late(error: BaseException | None) -> bool:
  """Whether an error is that of a closed event loop or of a dropped read."""
  if isinstance(error, RuntimeError) and 'loop is closed' in str(error):
    return True
  return error is not None and isinstance(error.__cause__, GeneratorExit)


def _leave_out(record: logging.LogRecord) -> bool:
  """Whether to log what asyncio says: all but failed reads of Orbax."""
  error = record.exc_info[1] if record.exc_info else None
  if error is None or 'never retrieved' not in record.getMessage():
    return True
  frames = traceback.extract_tb(error.__traceback__)
  return not any('orbax' in frame.filename for frame in frames)
