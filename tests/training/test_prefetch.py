"""Batches come in order, errors come where the batch was asked for."""

import itertools
import time

import pytest

from mmjax.training import prefetch


def test_order_and_end():
  with prefetch.Prefetch(iter([2, 3, 5]), put=lambda x: x + 1) as batches:
    assert list(batches) == [3, 4, 6]


def test_it_reads_two_ahead_and_closes():
  read = []

  class Numbers:
    closed = False

    def __init__(self):
      self._all = itertools.count()

    def __iter__(self):
      return self

    def __next__(self):
      read.append(next(self._all))
      return read[-1]

    def close(self):
      self.closed = True

  numbers = Numbers()
  batches = prefetch.Prefetch(numbers, put=lambda x: x)
  assert next(batches) == 0
  deadline = time.time() + 5
  while not (batches.ready() and len(read) == 3) and time.time() < deadline:
    time.sleep(0.01)
  batches.close()
  # One given, one in the queue, one waiting for its place.
  assert read == [0, 1, 2]
  assert numbers.closed


def test_an_error_is_raised_at_its_batch():
  def numbers():
    yield 1
    raise OSError('record 7 cannot be read')

  with prefetch.Prefetch(numbers(), put=lambda x: x) as batches:
    assert next(batches) == 1
    with pytest.raises(OSError, match='record 7'):
      next(batches)
