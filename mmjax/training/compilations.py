"""Programs that are compiled while a run should only train."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax

_EVENT = '/jax/core/compile/backend_compile_duration'


class Compilations:
  """Counts what the thread of the steps compiles, from `begin` on.

  Each of them holds the steps up; a run whose shapes don't change has none
  after its first step. Programs of evaluations and checkpoints don't count, nor
  those of other threads.

  >>> with Compilations() as compilations:
  ...   compilations.begin()
  ...   _ = jax.jit(lambda x: x + 17)(3)
  ...   compilations.take(), compilations.take(), compilations.total
  (1, 0, 1)
  """

  def __init__(self):
    self.total = 0
    self._taken = 0
    self._thread: int | None = None

  def begin(self) -> None:
    """Counts what this thread compiles from now on."""
    self._thread = threading.get_ident()

  @contextlib.contextmanager
  def ignored(self) -> Iterator[None]:
    """A context in which nothing is counted."""
    thread, self._thread = self._thread, None
    yield
    self._thread = thread

  def take(self) -> int:
    """Number of programs since the last call."""
    new, self._taken = self.total - self._taken, self.total
    return new

  def _count(self, event: str, seconds: float, **_: Any) -> None:
    del seconds
    if event == _EVENT and threading.get_ident() == self._thread:
      self.total += 1

  def __enter__(self) -> 'Compilations':
    jax.monitoring.register_event_duration_secs_listener(self._count)
    return self

  def __exit__(self, *_: Any) -> None:
    jax.monitoring.unregister_event_duration_listener(self._count)
