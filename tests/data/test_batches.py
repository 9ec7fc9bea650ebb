"""Batches depend only on the seed and their number."""

import dataclasses
import fractions
import itertools
import subprocess
import sys

import numpy as np
import pytest

from mmjax.data import batches, sources, variants

NUM_RECORDS = 23
BATCH = 8


@dataclasses.dataclass(frozen=True)
class Prepare:
  """Cheap preprocessing that returns its arguments as arrays."""

  broken: tuple[int, ...] = ()

  def __call__(self, record, rng=None):
    number = int(record['id'])
    if number in self.broken:
      raise OSError('no such image')
    drawn = -1.0 if rng is None else rng.random()
    return {
      'text': np.full(3, number, np.int32),
      'text_mask': np.ones(3, np.bool_),
      'label': np.int32(number % 2),
      # As of a category with several labels.
      'own_label': np.array([True, False]),
      'own_label_mask': np.True_,
      'drawn': np.float64(drawn),
    }


def make_source(count: int = NUM_RECORDS) -> sources.Source:
  return sources.ListSource({'id': str(i)} for i in range(count))


def take(count: int, start: int = 0, prepare=None, **settings) -> list[dict]:
  settings = {'batch_size': BATCH, 'seed': 5} | settings
  rows = settings.pop('rows', None)
  if rows is not None:
    settings['rows'] = rows if callable(rows) else lambda size: rows
  stream = batches.TrainBatches(make_source(), prepare or Prepare(), **settings)
  with stream.iterate(start) as iterator:
    return list(itertools.islice(iterator, count))


def assert_same(first: list[dict], second: list[dict]) -> None:
  assert len(first) == len(second)
  for one, other in zip(first, second, strict=True):
    assert one.keys() == other.keys()
    for key in one:
      assert one[key].dtype == other[key].dtype
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def select_rows(results: list[dict], rows) -> list[dict]:
  return [{key: x[list(rows)] for key, x in batch.items()} for batch in results]


@pytest.mark.parametrize('rows', [range(4), (5,), (0, 1, 6, 7), range(BATCH)])
def test_rows_are_those_of_the_global_batch(rows):
  assert_same(take(6, rows=rows), select_rows(take(6), rows))


@pytest.mark.parametrize('rows', [None, (1, 3, 6)])
def test_a_restart_resumes_at_the_same_batch(rows):
  assert_same(take(4, start=3, rows=rows), take(7, rows=rows)[3:])


@dataclasses.dataclass(frozen=True)
class PrepareLong:
  """Preprocessing whose texts have a length of their own."""

  length: int

  def __call__(self, record, rng=None):
    example = Prepare()(record, rng)
    return example | {'text': np.full(self.length, example['text'][0])}


def join(results: list[dict], key: str) -> np.ndarray:
  return np.concatenate([batch[key] for batch in results])


def test_batches_of_several_variants_take_the_examples_of_the_stream():
  # 8 examples of 7 tokens, or 18 of 3, as 56 // 3 is rounded to even numbers.
  scales = {7: fractions.Fraction(1), 3: fractions.Fraction(7, 3)}
  varied = {
    'multiple': 2,
    'variants': [
      variants.Variant(PrepareLong(n), s) for n, s in scales.items()
    ],
  }
  whole = take(9, **varied)
  shapes = [batch['text'].shape for batch in whole]
  for first, second in zip(shapes[0:8:2], shapes[1:8:2], strict=True):
    assert {first, second} == {(8, 7), (18, 3)}
  size = sum(shape[0] for shape in shapes)
  plain = take(-(-size // BATCH))
  for key in ('index', 'drawn'):
    np.testing.assert_array_equal(join(whole, key), join(plain, key)[:size])
  assert_same(take(5, start=4, num_threads=3, **varied), whole[4:])
  half = lambda size: range(size // 2, size)
  for one, other in zip(take(9, rows=half, **varied), whole, strict=True):
    assert_same([one], select_rows([other], half(len(other['index']))))
  other = take(9, seed=6, **varied)
  assert [batch['text'].shape for batch in other] != shapes


@pytest.mark.parametrize(
  'settings',
  [
    {'num_threads': 0},
    {'num_threads': 3},
    {'num_threads': 2, 'prefetch': 1},
    {'prefetch': 0},
  ],
)
def test_threads_and_prefetching_change_nothing(settings):
  assert_same(take(5, start=2, **settings), take(5, start=2))


@pytest.mark.slow
def test_worker_processes_change_nothing():
  assert_same(take(5, start=3, num_workers=2), take(5, start=3))


def test_a_late_start_is_as_quick_as_an_early_one():
  (batch,) = take(1, start=10**9)
  assert batch['index'].shape == (BATCH,)


def test_every_epoch_has_every_record_once_in_its_own_order():
  stream = np.concatenate([batch['index'] for batch in take(9)])
  epochs = stream[: 3 * NUM_RECORDS].reshape(3, NUM_RECORDS)
  for epoch in epochs:
    assert sorted(epoch) == list(range(NUM_RECORDS))
  assert (epochs[0] != epochs[1]).any()
  assert (epochs[1] != epochs[2]).any()


def test_index_is_that_of_the_record():
  for batch in take(3):
    np.testing.assert_array_equal(batch['text'][:, 0], batch['index'])


def test_seeds_differ_in_order_and_draws():
  first, second = take(3, seed=0), take(3, seed=1)
  for one, other in zip(first, second, strict=True):
    assert (one['index'] != other['index']).any()
    assert not np.isin(one['drawn'], other['drawn']).any()


def test_seeds_are_not_each_others_later_epochs():
  # They would be if the seed were only added to the epoch.
  epochs = [
    np.concatenate([b['index'] for b in take(6, seed=seed)])
    for seed in range(3)
  ]
  for one, other in itertools.combinations(epochs, 2):
    late, early = one[NUM_RECORDS : 2 * NUM_RECORDS], other[:NUM_RECORDS]
    assert (late != early).any()


def test_a_record_gets_new_random_numbers_every_epoch():
  drawn = np.concatenate([batch['drawn'] for batch in take(9)])
  assert len(np.unique(drawn)) == len(drawn)


def test_golden_order():
  """A change here changes the order of a seed: note it in the changelog."""
  (batch,) = take(1)
  np.testing.assert_array_equal(batch['index'], [12, 9, 14, 15, 18, 0, 6, 21])


def test_errors_name_the_record():
  message = r"record '7' cannot be read: no such.*data\.on_error='replace'"
  with pytest.raises(ValueError, match=message):
    take(3, prepare=Prepare(broken=(7,)))
  with pytest.raises(ValueError, match="record '7' cannot be read"):
    take(3, prepare=Prepare(broken=(7,)), num_threads=0)


def test_unreadable_records_are_replaced_and_counted():
  settings = {'prepare': Prepare(broken=(3, 7)), 'on_error': 'replace'}
  results = take(9, **settings)
  plain = take(9)
  replaced = np.stack([batch['replaced'] for batch in results])
  wanted = np.stack([np.isin(batch['index'], (3, 7)) for batch in plain])
  np.testing.assert_array_equal(replaced, wanted)
  index = np.stack([batch['index'] for batch in results])
  assert not np.isin(index, (3, 7)).any()
  np.testing.assert_array_equal(
    index[~replaced], np.stack([b['index'] for b in plain])[~replaced]
  )
  rows = (1, 2, 5)
  assert_same(take(9, rows=rows, **settings), select_rows(results, rows))


def test_replacing_gives_up_where_nothing_can_be_read():
  broken = Prepare(broken=tuple(range(NUM_RECORDS)))
  with pytest.raises(ValueError, match='100 records drawn one after'):
    take(1, prepare=broken, on_error='replace')


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'rows': (3, 8)}, r'rows \[3, 8\] are not rows of a batch of 8'),
    ({'rows': ()}, r'rows \[\] are not rows of'),
    ({'batch_size': 0}, 'batch size 0 is not legal'),
    ({'on_error': 'skip'}, "'skip' is unknown"),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    take(1, **settings)


def test_empty_sources_are_refused():
  with pytest.raises(ValueError, match='no records'):
    batches.TrainBatches(make_source(0), Prepare(), batch_size=1, seed=0)


def test_batches_of_one():
  results = take(8, batch_size=1)
  index = np.concatenate([batch['index'] for batch in results])
  np.testing.assert_array_equal(index, take(1)[0]['index'])


def test_small_sources_fill_a_batch_with_several_epochs():
  stream = batches.TrainBatches(make_source(3), Prepare(), batch_size=7, seed=0)
  batch = next(stream.iterate())
  assert sorted(batch['index'][:3]) == sorted(batch['index'][3:6]) == [0, 1, 2]


def evaluate(prepare=None, **settings) -> list[dict]:
  source = make_source()
  return list(
    batches.iterate_eval(source, prepare or Prepare(), BATCH, **settings)
  )


def test_evaluation_reads_every_record_once_in_order():
  results = evaluate()
  assert len(results) == 3
  mask = np.concatenate([batch['mask'] for batch in results])
  index = np.concatenate([batch['index'] for batch in results])
  np.testing.assert_array_equal(mask, np.arange(24) < 23)
  np.testing.assert_array_equal(index, [*range(23), -1])
  assert all((batch['drawn'][batch['mask']] == -1).all() for batch in results)


def test_padding_is_zeros_under_false_masks():
  last = evaluate()[-1]
  assert not last['text'][-1].any()
  assert not last['text_mask'][-1].any()
  assert last['label'][-1] == -1
  assert not last['own_label'][-1].any() and not last['own_label_mask'][-1]


def test_evaluation_of_a_part():
  results = evaluate(num_examples=9)
  index = np.concatenate([batch['index'][batch['mask']] for batch in results])
  np.testing.assert_array_equal(index, range(9))


def test_evaluation_errors():
  broken = Prepare(broken=(0, 7))
  with pytest.raises(ValueError, match="record '0' cannot be read: no such"):
    evaluate(broken)
  results = evaluate(broken, on_error='replace')
  index = np.concatenate([batch['index'][batch['mask']] for batch in results])
  np.testing.assert_array_equal(index, [*range(1, 7), *range(8, 23)])
  replaced = np.concatenate([batch['replaced'] for batch in results])
  np.testing.assert_array_equal(np.flatnonzero(replaced), [0, 7])
  nothing = Prepare(broken=tuple(range(NUM_RECORDS)))
  with pytest.raises(ValueError, match='none of 23 records'):
    evaluate(nothing, on_error='replace')


def test_closing_ends_the_stream():
  stream = batches.TrainBatches(make_source(), Prepare(), batch_size=4, seed=0)
  iterator = stream.iterate()
  next(iterator)
  iterator.close()
  assert list(iterator) == []
  iterator.close()


@pytest.mark.slow
def test_an_interrupted_program_ends_quietly():
  program = """
import signal
# Python leaves it ignored where it was, as in a shell's background jobs.
signal.signal(signal.SIGINT, signal.default_int_handler)
from mmjax.data import batches, sources
import numpy as np
source = sources.ListSource({'id': str(i)} for i in range(99))
prepare = lambda record, rng: {'x': np.zeros(3)}
stream = batches.TrainBatches(source, prepare, batch_size=9, seed=0)
iterator = stream.iterate()
try:
  for step, batch in enumerate(iterator):
    if step == 20:
      signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
  print('interrupted')
"""
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, timeout=300
  )
  assert done.stdout == 'interrupted\n'
  assert done.stderr == ''
  assert done.returncode == 0
