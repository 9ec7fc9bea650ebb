"""Reads of a checkpoint that end after another one of it has failed."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def ignored() -> Iterator[None]:
  """Has reads fail by one error, without what Python prints of the others.

  Orbax reads all arrays at once, in an event loop that it closes at the first
  error. Each read that ends later finds the loop closed, of which Python prints
  a traceback. This may be at any time, so after an error these tracebacks are
  left out until the process ends.
  """
  try:
    yield
  except Exception:
    if not isinstance(sys.unraisablehook, _Hook):
      sys.unraisablehook = _Hook(sys.unraisablehook)
    raise


class _Hook:
  """A `sys.unraisablehook` that leaves out errors of a closed event loop.

  Args:
    before: the hook for all other errors.
  """

  def __init__(self, before: Callable[[Any], Any]):
    self._before = before

  def __call__(self, unraisable: Any) -> None:
    if not is_late(unraisable.exc_value):
      self._before(unraisable)


def is_late(error: BaseException | None) -> bool:
  """Whether an error is that of a closed event loop."""
  return isinstance(error, RuntimeError) and 'loop is closed' in str(error)
