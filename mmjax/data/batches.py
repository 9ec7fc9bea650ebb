"""Batches in an order that depends only on a seed and the batch's number.

The number of hosts, threads, workers and restarts doesn't change it: the
position in the data is one integer, the step.
"""

import dataclasses
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags
from etils import epy

from mmjax.data import mixtures
from mmjax.data import order as order_lib
from mmjax.data import variants as variants_lib
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import grain

Batch = dict[str, np.ndarray]
Example = dict[str, np.ndarray]  # Without the batch axis.
Preprocess = Callable[..., Example]

ON_ERROR = ('raise', 'replace')
MAX_REPLACEMENTS = 100


class BatchIterator:
  """Iterates over prefetched batches; also a context manager.

  Its threads and workers stop when it is exhausted or dropped, or the program
  ends.
  """

  def __init__(self, batches: 'grain.DatasetIterator', owns_memory: bool):
    # The only reference to the iterator, so that closing also frees it.
    self._iterators = [batches]
    self._owns_memory = owns_memory
    self._closing = weakref.finalize(self, _close, self._iterators)
    batches.start_prefetch()

  def __iter__(self) -> 'BatchIterator':
    return self

  def __next__(self) -> Batch:
    if not self._iterators:
      raise StopIteration
    try:
      batch = next(self._iterators[0])
    except StopIteration:
      self.close()
      raise
    if not self._owns_memory:
      # Workers return shared memory, which must not outlive them.
      batch = {key: np.array(value) for key, value in batch.items()}
    return batch

  def close(self) -> None:
    """Stops prefetching; the iterator yields no more batches."""
    self._closing()

  def __enter__(self) -> 'BatchIterator':
    return self

  def __exit__(self, *_) -> None:
    self.close()


def _close(iterators: 'list[grain.DatasetIterator]') -> None:
  while iterators:
    iterators.pop().close()


class TrainBatches:
  """An endless stream of shuffled batches; every epoch has its own order.

  The sources of a `mixtures.Mixture` are interleaved by their weights; batches
  then have `source_index` [B], the number of each example's source.
  Global batches take consecutive examples of the concatenated shuffled epochs,
  so a batch may contain examples of two. Of n variants, every n batches have
  each once, in an order that the seed draws, so the first example is known:

    batch      0        1    2    3
    examples   0 1 2 3  4 5  6 7  8 9 10 11

  Attributes:
    variants: what a batch uses one of; () if all are alike.
    batch_sizes: numbers of examples B that global batches have.
    epoch_steps: number of steps in an epoch, in which every record is drawn at
      least once; not rounded.
  """

  def __init__(
    self,
    source: Sequence[dict[str, Any]],
    preprocess: Preprocess,
    *,
    batch_size: int,
    seed: int,
    rows: Callable[[int], Sequence[int]] | None = None,
    num_threads: int = 1,
    num_workers: int = 0,
    prefetch: int = 4,
    on_error: str = 'raise',
    variants: Sequence[variants_lib.Variant] = (),
    multiple: int = 1,
  ):
    """Sets up the stream; nothing is read yet.

    Args:
      source: records by index.
      preprocess: function (record, rng) that returns an example's arrays.
      batch_size: number of examples in a global batch of a variant of scale 1.
      seed: random seed of the order and of all that `preprocess` draws.
      rows: function from a global batch's number of examples B to those of its
        rows that this process reads, in 0..B - 1; None for all.
      num_threads: number of batches prepared at the same time, in this process
        or in each worker; 0 prepares each on demand.
      num_workers: number of reading processes; 0 reads in this one.
      prefetch: number of batches prepared ahead (by each worker).
      on_error: 'raise' stops at an unreadable record; 'replace' takes another
        record of the same source, which seed and position determine, and marks
        it True in the batch's `replaced`.
      variants: what each batch uses one of, instead of `preprocess`; () for
        batches of one shape.
      multiple: what divides the number of examples of every batch.

    Raises:
      ConfigError: if a row is not in the batch, there are no records, or
        on_error is unknown.
    """
    _check(source, batch_size, on_error)
    used = variants or (variants_lib.Variant(preprocess),)
    sizes = [one.count_examples(batch_size, multiple) for one in used]
    self.variants, self.batch_sizes = tuple(variants), tuple(sizes)
    self.epoch_steps = mixtures.count_epoch(source) * len(sizes) / sum(sizes)
    self._prefetch = _PrefetchOptions(num_threads, num_workers, prefetch)
    # Grain folds the number of each transformation and the epoch into the seed.
    order = order_lib.make_order(source, seed)
    readers = [_RecordReader(source, one.preprocess, on_error) for one in used]
    self._batches = grain.MapDataset.source(
      _Batches(
        [order.random_map(read.read_for_training) for read in readers],
        sizes,
        [_list_rows(size, rows or range) for size in sizes],
        seed,
      )
    )

  def iterate(self, start_step: int = 0) -> BatchIterator:
    """Iterates over the rows of global batches, beginning with `start_step`.

    Starting at a late step takes no longer: no earlier batch is read.
    """
    batches = self._batches.slice(slice(start_step, len(self._batches)))
    return self._prefetch.start(batches)


def _list_rows(size: int, rows: Callable[[int], Sequence[int]]) -> list[int]:
  """The rows of a global batch of some size that this process reads."""
  found = list(map(int, rows(size)))
  if not found or min(found) < 0 or max(found) >= size:
    raise ConfigError(
      f'rows {found} are not rows of a batch of {size}; use one or more of '
      f'0..{size - 1}'
    )
  return found


@dataclasses.dataclass(frozen=True)
class _Batches:
  """This process's rows of global batches, by number; all by variant."""

  examples: 'Sequence[grain.MapDataset]'
  sizes: Sequence[int]  # Of global batches.
  rows: Sequence[Sequence[int]]
  seed: int

  def __len__(self) -> int:
    return len(self.examples[0]) // sum(self.sizes) * len(self.sizes)

  def __getitem__(self, number: int) -> Batch:
    variant, start = self._locate(number)
    examples = self.examples[variant]
    return _stack([examples[start + row] for row in self.rows[variant]])

  def _locate(self, number: int) -> tuple[int, int]:
    """A batch's variant, and the number of its first example."""
    cycle, place = divmod(number, len(self.sizes))
    rng = np.random.default_rng((self.seed, cycle))
    order = rng.permutation(len(self.sizes)).tolist()
    earlier = sum(self.sizes[variant] for variant in order[:place])
    return order[place], cycle * sum(self.sizes) + earlier


def iterate_eval(
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
  """Iterates over every record once, in order, without augmentation.

  All batches have one shape. The last is padded with zeros whose index and
  label are -1 and whose masks are all False.

  Args:
    source: records by index.
    preprocess: function (record) that returns an example's arrays.
    batch_size: number of examples in a batch.
    num_examples: number of records, from the first; None or 0 for all.
    num_threads: number of batches prepared at the same time, as in
      `TrainBatches`.
    num_workers: number of reading processes; 0 reads in this one.
    prefetch: number of batches prepared ahead.
    on_error: 'raise' stops at an unreadable record; 'replace' masks it: its
      `mask` is False and its `replaced` True.

  Returns:
    Batches with `index` and `mask` [B].

  Raises:
    ConfigError: if the batch size is not positive, there are no records, or
      on_error is unknown.
  """
  _check(source, batch_size, on_error)
  total = min(len(source), num_examples or len(source))
  read = _RecordReader(source, preprocess, on_error)
  num_batches = -(-total // batch_size)
  positions = grain.MapDataset.range(num_batches * batch_size)
  batches = positions.map(_EvaluationReader(read, total)).batch(
    batch_size, batch_fn=_stack
  )
  return _PrefetchOptions(num_threads, num_workers, prefetch).start(batches)


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
class _RecordReader:
  """Reads and preprocesses the record of an index."""

  source: Sequence[dict[str, Any]]
  preprocess: Preprocess
  on_error: str

  def read_for_training(self, index: int, rng: np.random.Generator) -> Example:
    """Reads for training; on_error='replace' replaces unreadable records."""
    number, peers = mixtures.find_peers(self.source, index)
    for attempt in range(MAX_REPLACEMENTS):
      try:
        example = self(index, rng)
      except ConfigError as error:
        if self.on_error == 'raise':
          raise ConfigError(
            f"{error}, or set data.on_error='replace' to train without it"
          ) from error
        index = peers[int(rng.integers(len(peers)))]
        continue
      if number is not None:
        example['source_index'] = np.int32(number)
      if self.on_error == 'replace':
        example['replaced'] = np.bool_(attempt > 0)
      return example
    raise ConfigError(
      f'{MAX_REPLACEMENTS} records drawn one after the other cannot be read; '
      "data.on_error='raise' stops at the first one and names its fault"
    )

  def __call__(
    self, index: int, rng: np.random.Generator | None = None
  ) -> Example:
    """Reads and preprocesses the record of an index.

    Raises:
      ConfigError: if the record can't be read; it names the record. Other
        exceptions keep their traceback and get the record's id as a note.
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


class _EvaluationReader:
  """Reads for evaluation: blanks past the end and for unreadable records."""

  def __init__(self, read: _RecordReader, total: int):
    self._read = read
    self._total = total
    self._template: Example | None = None

  def __call__(self, position: int) -> Example:
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
      example = self._make_blank()
      example['index'] = np.int64(position if failed else -1)
    example['mask'] = np.bool_(position < self._total and not failed)
    if self._read.on_error == 'replace':
      example['replaced'] = np.bool_(failed)
    return example

  def _make_blank(self) -> Example:
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
    for key in blank:
      # A label without a mask is -1 where there is none, as objectives read it.
      if key.endswith('label') and f'{key}_mask' not in blank:
        blank[key] = np.full_like(blank[key], -1)
    return blank


@dataclasses.dataclass(frozen=True)
class _PrefetchOptions:
  """Settings of prefetching, which don't change the batches."""

  num_threads: int
  num_workers: int
  prefetch: int

  def start(self, batches: 'grain.MapDataset') -> BatchIterator:
    threads = self.num_threads if self.prefetch else 0
    options = grain.ReadOptions(
      num_threads=min(threads, self.prefetch),
      prefetch_buffer_size=self.prefetch,
    )
    dataset = batches.to_iter_dataset(options)
    if self.num_workers:
      if not flags.FLAGS.is_parsed():
        # Grain reads absl's flags, which notebooks and tests don't parse.
        flags.FLAGS.mark_as_parsed()
      dataset = dataset.mp_prefetch(
        grain.MultiprocessingOptions(
          num_workers=self.num_workers,
          per_worker_buffer_size=max(1, self.prefetch),
        ),
        worker_init_fn=_ignore_interrupts,
      )
    return BatchIterator(iter(dataset), owns_memory=self.num_workers == 0)


def _ignore_interrupts(worker: int, num_workers: int) -> None:
  """Ignores Ctrl-C in a worker: it reaches the parent, which stops workers."""
  del worker, num_workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stack(examples: Sequence[Example]) -> Batch:
  return {
    key: np.stack([example[key] for example in examples]) for key in examples[0]
  }
