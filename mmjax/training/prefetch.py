"""Batches put on the devices up to two ahead of the step that needs them."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Prefetch:
  """Draws from an iterator in a thread of its own.

  >>> with Prefetch(iter([2, 3]), put=lambda x: 10 * x) as batches:
  ...   next(batches), next(batches)
  (20, 30)
  """

  def __init__(self, batches: Iterator[Any], put: Callable[[Any], Any]):
    self._batches = batches
    self._queue: queue.Queue = queue.Queue(maxsize=1)
    self._closed = threading.Event()
    self._thread = threading.Thread(
      target=self._fill, args=(batches, put), daemon=True, name='prefetch'
    )
    self._thread.start()

  def _fill(self, batches: Iterator[Any], put: Callable[[Any], Any]) -> None:
    try:
      for batch in batches:
        self._offer((put(batch), None))
        if self._closed.is_set():
          return
      self._offer((None, StopIteration('the training data ended')))
    except BaseException as error:  # Raised where the batch is asked for.
      self._offer((None, error))

  def _offer(self, item: tuple[Any, BaseException | None]) -> None:
    while not self._closed.is_set():
      try:
        return self._queue.put(item, timeout=0.1)
      except queue.Full:
        continue

  def ready(self) -> bool:
    """Whether `next` would return at once."""
    return not self._queue.empty()

  def __next__(self) -> Any:
    batch, error = self._queue.get()
    if error is not None:
      raise error
    return batch

  def __iter__(self):
    return self

  def close(self) -> None:
    """Stops thread and iterator; what was read ahead is dropped."""
    self._closed.set()
    self._thread.join(timeout=10)
    if hasattr(self._batches, 'close'):
      self._batches.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()
