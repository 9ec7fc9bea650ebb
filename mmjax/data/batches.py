"""Batches in an order that depends on a seed and the batch's number alone.

Not on the number of hosts, threads, workers or restarts: the position in the
data is one integer, the step.
"""

import dataclasses
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from mmjax.errors import ConfigError

Batch = dict[str, np.ndarray]
Preprocess = Callable[..., dict[str, np.ndarray]]

ON_ERROR = ('raise', 'replace')
MAX_REPLACEMENTS = 100


class BatchIterator:
  """Hands out batches that are made ahead; also a context manager.

  It closes itself, threads and workers, when it is exhausted, dropped or the
  program ends.
  """

  def __init__(self, batches: grain.DatasetIterator, owns_memory: bool):
    # The one reference to it, so that closing also frees it.
    self._opened = [batches]
    self._owns_memory = owns_memory
    self._closing = weakref.finalize(self, _close, self._opened)
    batches.start_prefetch()

  def __iter__(self) -> 'BatchIterator':
    return self

  def __next__(self) -> Batch:
    if not self._opened:
      raise StopIteration
    try:
      batch = next(self._opened[0])
    except StopIteration:
      self.close()
      raise
    if not self._owns_memory:
      # Workers hand over shared memory, which must not outlive them.
      batch = {key: np.array(value) for key, value in batch.items()}
    return batch

  def close(self) -> None:
    """Stops what reads ahead; there are no batches after this."""
    self._closing()

  def __enter__(self) -> 'BatchIterator':
    return self

  def __exit__(self, *_) -> None:
    self.close()


def _close(opened: list[grain.DatasetIterator]) -> None:
  while opened:
    opened.pop().close()


class TrainBatches:
  """An endless stream of shuffled batches; every epoch has its own order.

  Global batch i holds the examples number i * batch_size to
  (i + 1) * batch_size - 1 of the shuffled epochs laid end to end, so a batch
  may straddle two epochs. A host may read some of its rows only.

  Attributes:
    batch_size: B, of the global batch.
    epoch_steps: steps that it takes to see every record once; a fraction.
  """

  def __init__(
    self,
    source: Sequence[dict[str, Any]],
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int,
    rows: Sequence[int] | None = None,
    num_threads: int = 1,
    num_workers: int = 0,
    prefetch: int = 4,
    on_error: str = 'raise',
  ):
    """Sets the stream up; nothing is read yet.

    Args:
      source: records by index.
      preprocess: `preprocess(record, rng)` gives an example's arrays.
      batch_size: examples in a global batch.
      seed: of the order, and of all that `preprocess` draws.
      rows: which examples of every global batch are read here, numbers in
        0..B - 1; None for all.
      num_threads: batches made at the same time, in this process or in each
        worker; 0 makes them when asked.
      num_workers: processes that read; 0 reads in this one.
      prefetch: batches made ahead (in each worker).
      on_error: 'raise' stops at a record that can't be read; 'replace' takes
        another record, which seed and position determine, and marks it True
        in the batch's `replaced`.

    Raises:
      ConfigError: if a row is not in the batch, if there are no records, or for
        an unknown on_error.
    """
    _check(source, batch_size, on_error)
    rows = range(batch_size) if rows is None else rows
    if not len(rows) or min(rows) < 0 or max(rows) >= batch_size:
      raise ConfigError(
        f'rows {list(rows)} are not those of a batch of {batch_size}; use '
        f'numbers in 0..{batch_size - 1}'
      )
    self.batch_size = batch_size
    self.epoch_steps = len(source) / batch_size
    self._reading = _Reading(num_threads, num_workers, prefetch)
    read = _Read(source, preprocess, on_error)
    # Grain folds the seed with each step of this pipeline, and the epoch.
    order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    examples = order.random_map(read.random_map)
    self._batches = grain.MapDataset.source(
      _Rows(examples, batch_size, np.asarray(rows))
    ).batch(len(rows), drop_remainder=True, batch_fn=_stack)

  def iterate(self, start_step: int = 0) -> BatchIterator:
    """Returns the rows of global batches from `start_step` on.

    Starts there at once, whatever the step: nothing is skipped through.
    """
    batches = self._batches.slice(slice(start_step, len(self._batches)))
    return self._reading.start(batches)


@dataclasses.dataclass(frozen=True)
class _Rows:
  """The examples of some rows of every batch, one batch after the other."""

  examples: grain.MapDataset
  batch_size: int
  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.examples) // self.batch_size * len(self.rows)

  def __getitem__(self, position: int) -> Batch:
    batch, place = divmod(position, len(self.rows))
    return self.examples[batch * self.batch_size + int(self.rows[place])]


def eval_batches(
  source: Sequence[dict[str, Any]],
  preprocess: Preprocess,
  batch_size: int,
  *,
  num_examples: int | None = None,
  num_threads: int = 1,
  num_workers: int = 0,
  prefetch: int = 4,
  on_error: str = 'raise',
) -> BatchIterator:
  """Every record once, in order, without augmentation.

  All batches have one shape; the last is filled up with zeros, of index and
  label -1, whose `mask` is False as are all their other masks.

  Args:
    source: records by index.
    preprocess: `preprocess(record)` gives an example's arrays.
    batch_size: examples in a batch.
    num_examples: only so many records, from the first; None or 0 for all.
    num_threads: as in `TrainBatches`, and so are the next two.
    num_workers: processes that read.
    prefetch: batches made ahead.
    on_error: 'raise' stops at a record that can't be read; 'replace' leaves
      it out: its `mask` is False and its `replaced` True.

  Returns:
    An iterator of batches with `index` and `mask` [B].

  Raises:
    ConfigError: as in `TrainBatches`.
  """
  _check(source, batch_size, on_error)
  total = min(len(source), num_examples or len(source))
  read = _Read(source, preprocess, on_error)
  num_batches = -(-total // batch_size)
  positions = grain.MapDataset.range(num_batches * batch_size)
  batches = positions.map(_ReadInOrder(read, total)).batch(
    batch_size, batch_fn=_stack
  )
  return _Reading(num_threads, num_workers, prefetch).start(batches)


def _check(
  source: Sequence[dict[str, Any]], batch_size: int, on_error: str
) -> None:
  if batch_size < 1:
    raise ConfigError(f'batch size {batch_size} is not legal; use 1 or more')
  if len(source) == 0:
    raise ConfigError('the source has no records')
  if on_error not in ON_ERROR:
    raise ConfigError(
      f'on_error {on_error!r} is unknown; use one of {ON_ERROR}'
    )


@dataclasses.dataclass(frozen=True)
class _Read:
  """Reads and prepares the record of an index."""

  source: Sequence[dict[str, Any]]
  preprocess: Preprocess
  on_error: str

  def random_map(self, index: int, rng: np.random.Generator) -> Batch:
    """For training: replaces what can't be read, if told to."""
    for attempt in range(MAX_REPLACEMENTS):
      try:
        example = self(index, rng)
      except ConfigError as error:
        if self.on_error == 'raise':
          raise ConfigError(
            f"{error}, or set data.on_error='replace' to train without it"
          ) from error
        index = int(rng.integers(len(self.source)))
        continue
      if self.on_error == 'replace':
        example['replaced'] = np.bool_(attempt > 0)
      return example
    raise ConfigError(
      f'{MAX_REPLACEMENTS} records drawn one after the other cannot be read; '
      "see what is wrong with on_error='raise'"
    )

  def __call__(
    self, index: int, rng: np.random.Generator | None = None
  ) -> Batch:
    """Reads and prepares.

    Raises:
      ConfigError: naming a record that can't be read. A bug keeps its
        traceback, with the record's id as a note.
    """
    name = f'number {index}'
    try:
      record = self.source[index]
      name = repr(record['id'])
      example = self.preprocess(record, rng)
    except (ConfigError, OSError) as error:
      raise ConfigError(
        f'record {name} cannot be read: {error}; repair it'
      ) from error
    except Exception as error:
      error.add_note(f'This happened with record {name}.')
      raise
    example['index'] = np.int64(index)
    return example


class _ReadInOrder:
  """Reads for evaluation: blanks past the end and for what can't be read."""

  def __init__(self, read: _Read, total: int):
    self._read = read
    self._total = total
    self._template: Batch | None = None

  def __call__(self, position: int) -> Batch:
    failed = False
    example = None
    if position < self._total:
      try:
        example = self._read(position)
      except ConfigError:
        if self._read.on_error == 'raise':
          raise
        failed = True
    if example is None:
      example = self._blank()
      example['index'] = np.int64(position if failed else -1)
    example['mask'] = np.bool_(position < self._total and not failed)
    if self._read.on_error == 'replace':
      example['replaced'] = np.bool_(failed)
    return example

  def _blank(self) -> Batch:
    """Zeros of an example's shapes, with all masks False."""
    for position in range(self._total):
      if self._template is not None:
        break
      try:
        self._template = self._read(position)
      except ConfigError:
        if self._read.on_error == 'raise':
          raise
    if self._template is None:
      raise ConfigError(f'none of {self._total} records can be read')
    blank = {key: np.zeros_like(value) for key, value in self._template.items()}
    if 'label' in blank:
      blank['label'] = np.int32(-1)
    return blank


@dataclasses.dataclass(frozen=True)
class _Reading:
  """How batches are made ahead of their use; never what is in them."""

  num_threads: int
  num_workers: int
  prefetch: int

  def start(self, batches: grain.MapDataset) -> BatchIterator:
    threads = self.num_threads if self.prefetch else 0
    options = grain.ReadOptions(
      num_threads=min(threads, self.prefetch),
      prefetch_buffer_size=self.prefetch,
    )
    ahead = batches.to_iter_dataset(options)
    if self.num_workers:
      if not flags.FLAGS.is_parsed():
        # Grain asks absl for flags; notebooks and tests parse none.
        flags.FLAGS.mark_as_parsed()
      ahead = ahead.mp_prefetch(
        grain.MultiprocessingOptions(
          num_workers=self.num_workers,
          per_worker_buffer_size=max(1, self.prefetch),
        ),
        worker_init_fn=_leave_interrupts_alone,
      )
    return BatchIterator(iter(ahead), owns_memory=self.num_workers == 0)


def _leave_interrupts_alone(worker: int, num_workers: int) -> None:
  """Ctrl-C reaches all processes; the parent decides and stops its workers."""
  del worker, num_workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stack(examples: Sequence[Batch]) -> Batch:
  return {
    key: np.stack([example[key] for example in examples]) for key in examples[0]
  }
