"""Several sources are mixed by weight, and lack fields of each other."""

import itertools
import json

import numpy as np
import pytest

from mmjax.config import overrides, settings
from mmjax.data import (
  audio,
  batches,
  extra_fields,
  feeds,
  importing,
  mixtures,
  sources,
)
from mmjax.errors import ConfigError

WEIGHTS = {'a': 3.0, 'b': 1.0, 'c': 0.4}
SIZES = {'a': 7, 'b': 5, 'c': 3}


def make_mixture(weights=WEIGHTS):
  parts = {
    name: sources.ListSource(
      {'id': f'{name}{i}', 'fields': {}, 'metadata': {}}
      for i in range(SIZES[name])
    )
    for name in weights
  }
  return mixtures.Mixture(parts, weights)


def preprocess(record, rng):
  return {
    'id': np.frombuffer(record['id'].encode(), np.uint8),
    'drawn': rng.integers(1 << 30),
  }


def read(mixture, number, start=0, **options):
  train = batches.TrainBatches(
    mixture, preprocess, batch_size=8, seed=5, prefetch=0, **options
  )
  with train.iterate(start) as iterator:
    return list(itertools.islice(iterator, number))


def test_weights_of_three_to_one_by_hand():
  chosen = [mixtures.choose_part(n, (3, 1)) for n in range(8)]
  assert [part for part, _ in chosen] == [0, 0, 0, 1, 0, 0, 0, 1]
  assert [earlier for _, earlier in chosen] == [0, 1, 2, 0, 3, 4, 5, 1]


@pytest.mark.parametrize('weights', [(1,), (2, 7), (30, 10, 4), (1, 1, 1, 997)])
def test_counts_stay_at_their_shares(weights):
  counts = np.zeros(len(weights), int)
  for position in range(2 * sum(weights)):
    part, earlier = mixtures.choose_part(position, weights)
    assert earlier == counts[part]
    counts[part] += 1
    exact = (position + 1) * np.array(weights) / sum(weights)
    assert np.all(np.abs(counts - exact) <= max(len(weights) - 1, 0))
  np.testing.assert_array_equal(counts, 2 * np.array(weights))


def test_shares_are_those_that_are_written():
  # In binary, 0.1 is more than a tenth of 1.0.
  shares = make_mixture({'a': 1.0, 'b': 0.1}).list_shares()
  assert [share.as_integer_ratio() for share in shares] == [(10, 11), (1, 11)]


def test_each_source_has_its_own_epochs_and_the_stream_resumes():
  mixture = make_mixture()
  whole = read(mixture, 11)
  ids = np.concatenate([b['id'] for b in whole])  # [88, 2]
  names = [bytes(row).decode() for row in ids]
  for number, (name, size) in enumerate(SIZES.items()):
    own = [i for i in names if i[0] == name]
    for epoch in range(len(own) // size):
      one = own[epoch * size : (epoch + 1) * size]
      assert len(set(one)) == size
    chosen = np.concatenate([b['source_index'] for b in whole]) == number
    assert [i for i, c in zip(names, chosen, strict=True) if c] == own
  assert len({tuple(b['id'][:, 1]) for b in whole}) == 11
  np.testing.assert_equal(read(mixture, 4, start=7), whole[7:])


def test_an_example_costs_one_read_of_one_source_at_any_step():
  reads = []

  class Counted(sources.ListSource):
    def read(self, index):
      record = super().read(index)
      reads.append(record['id'][0])
      return record

  mixture = make_mixture()
  for name, part in mixture.parts.items():
    mixture.parts[name] = Counted(list(part))
  for start in (0, 10**9):
    reads.clear()
    read(mixture, 11, start=start, num_threads=0)
    # 88 examples at 30 : 10 : 4.
    assert [reads.count(name) for name in 'abc'] == [60, 20, 8]


def test_hosts_read_the_rows_of_the_whole():
  mixture = make_mixture()
  whole = read(mixture, 3)
  hosts = ((0, 1, 5), (2, 3, 4, 6, 7))
  parts = [read(mixture, 3, rows=lambda _, rows=rows: rows) for rows in hosts]
  for step, batch in enumerate(whole):
    for rows, part in zip(hosts, parts, strict=True):
      for key, value in batch.items():
        np.testing.assert_array_equal(part[step][key], value[list(rows)])


def test_an_epoch_ends_with_the_rarest_record():
  # Of 22 examples, 15 are of a, 5 of b and 2 of c, which has 3 records.
  epoch = mixtures.count_epoch(make_mixture())
  assert epoch == max(7 * 4.4 / 3, 5 * 4.4, 3 * 4.4 / 0.4) == 33


def test_the_smallest_weights_have_an_epoch_too():
  epoch = mixtures.count_epoch(make_mixture({'a': 1.0, 'b': 5e-324}))
  assert epoch > 10**323


def test_a_broken_record_is_replaced_from_its_own_source():
  def break_some(record, rng):
    if record['id'] in ('b0', 'b1', 'b2'):
      raise ConfigError('broken')
    return preprocess(record, rng)

  train = batches.TrainBatches(
    make_mixture(), break_some, batch_size=22, seed=0, on_error='replace'
  )
  with train.iterate() as iterator:
    batch = next(iterator)
  assert batch['replaced'].sum() == 3
  counts = np.bincount(batch['source_index'])
  np.testing.assert_array_equal(counts, (15, 5, 2))
  np.testing.assert_array_equal(
    batch['id'][:, 0], np.frombuffer(b'abc', np.uint8)[batch['source_index']]
  )


def import_rows(folder, name, rows, fields=''):
  path = folder / f'{name}.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  importing.import_data(
    'jsonl',
    str(path),
    importing.Settings(name, fields=extra_fields.parse(fields)),
    data_dir=folder / 'data',
    progress=False,
  )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Folder of data sets of sounds, of ages, and of ages as classes."""
  folder = tmp_path_factory.mktemp('mixed')
  splits = ['train'] * 6 + ['validation'] * 2 + ['test'] * 2
  sounds, ages, classes = [], [], []
  for i, split in enumerate(splits):
    (folder / f'{i}.wav').write_bytes(
      audio.encode_wave(np.full(20, i / 20), 800)
    )
    row = {'audio': f'{i}.wav', 'style': 'ab'[i % 2], 'split': split}
    sounds.append(row | {'caption': f'tone {i}'})
    ages.append({'caption': f'age {i}', 'years': i, 'style': 'bc'[i % 2]})
    ages[-1]['split'] = split
    classes.append(ages[-1] | {'years': 'old'})
  import_rows(folder, 'sounds', sounds, 'said=sound:audio')
  import_rows(folder, 'ages', ages, 'age=number:years')
  import_rows(folder, 'classes', classes, 'age=category:years')
  return folder / 'data'


FEATURES = {
  'said': {'kind': 'sound', 'rate': 800, 'seconds': 0.05},
  'age': {'kind': 'number'},
  'style': {'kind': 'category', 'field': 'metadata/style'},
}
NEEDS = {'align': ('said', 'text'), 'regress': ('age',), 'classify': ('style',)}
MIXTURE = {
  'heard': {'name': 'sounds', 'weight': 2},
  'known': {'name': 'ages', 'eval_split': ''},
}


def open_feed(data_dir, needs=NEEDS, mixture=MIXTURE, **changed):
  section = settings.default_config().data.to_dict()
  data = section | {
    'data_dir': str(data_dir),
    'text_length': 11,
    'tokenizer': 'bytes',
    'features': FEATURES,
    'mixture': mixture,
  }
  alternatives = changed.pop('alternatives', None)
  return feeds.open_feed(
    data | changed,
    batch_size=3,
    seed=0,
    needs=needs,
    alternatives=alternatives,
  )


def test_what_a_source_lacks_is_masked_and_not_evaluated(data_dir):
  feed = open_feed(data_dir)
  assert feed.sources == ('heard', 'known')
  assert feed.train.epoch_steps == 6  # 18 examples, 6 of them of `known`.
  with feed.train.iterate() as iterator:
    batch = next(iterator)
  np.testing.assert_array_equal(batch['source_index'], (0, 0, 1))
  np.testing.assert_array_equal(batch['age_mask'], (False, False, True))
  np.testing.assert_array_equal(
    batch['said_mask'].any(axis=1), (True, True, False)
  )
  assert batch['text_mask'].any(axis=1).all()
  assert batch['style_mask'].all()
  assert batch.keys() == feed.init_batch.keys()
  # Learnt from all records: classes of both, the mean of those that have it.
  assert feed.preprocessor['style'].classes == ('a', 'b', 'c')
  assert feed.preprocessor['age'].mean == 2.5
  assert set(feed.splits) == {'test/heard', 'val/heard', 'test/known'}
  lacking = {
    split: {task for task, _ in choices}
    for split, choices in feed.lacking.items()
  }
  assert lacking == {
    'test/heard': {'regress'},
    'val/heard': {'regress'},
    'test/known': {'align'},
  }
  assert any(
    'no evaluation on test/known: tasks.align needs' in note
    and "data.mixture.known.test_split='test'" in note
    for note in feed.notes
  )
  assert feed.sections['test/known']['name'] == 'ages'


def test_pairs_of_fields_are_enough_for_a_task(data_dir):
  # No record has both a sound and an age.
  pairs = (('said', 'text'), ('age', 'text'))
  needs = {'align': ('said', 'age', 'text'), 'classify': ('style',)}
  feed = open_feed(data_dir, needs, alternatives={'align': pairs})
  lacking = {split: set(choices) for split, choices in feed.lacking.items()}
  assert lacking == {
    'test/heard': {('align', pairs[1])},
    'val/heard': {('align', pairs[1])},
    'test/known': {('align', pairs[0])},
  }


def test_a_source_may_stand_alone_or_twice(data_dir):
  alone = {'heard': MIXTURE['heard'], 'known': None}
  needs = {'align': ('said', 'text')}
  features = {'said': FEATURES['said']}
  feed = open_feed(data_dir, needs, alone, features=features, tokenizer='')
  assert feed.sources == ('heard',) and not any(feed.lacking.values())
  unmeasured = {'eval_split': '', 'test_split': '', 'features': features}
  assert not open_feed(data_dir, needs, alone, **unmeasured).splits
  twice = {'x': {'name': 'sounds'}, 'y': {'name': 'sounds'}}
  feed = open_feed(data_dir, needs, twice, features=features, tokenizer='')
  with feed.train.iterate() as iterator:
    batch = next(iterator)
  np.testing.assert_array_equal(batch['source_index'], (0, 1, 0))


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'mixture': MIXTURE | {'last': {'name': 'classes'}}},
      "the field 'age', .* number in known and category in last; ",
    ),
    (
      {'mixture': {'heard': MIXTURE['heard']}},
      "reads the field 'age', but none of the sources has it; they have",
    ),
    (
      {'tokenizer': ''},
      r"tokenizer='', but the sources .* different .*known: .*; set it to 'by",
    ),
    (
      {'needs': NEEDS | {'both': ('said', 'age')}},
      r'tasks\.both needs .* but none of 12 records of data\.mixture has that',
    ),
  ],
)
def test_sources_that_do_not_fit_together_are_refused(
  data_dir, changed, message
):
  with pytest.raises(ConfigError, match=message):
    open_feed(data_dir, **changed)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'a.weight': '0'}, r'a\.weight=0 is not legal: .* more than 0'),
    ({'a.weight': 'nan'}, r'a\.weight=nan is not legal: .* more than 0'),
    ({'a.wieght': '2'}, r'did you mean data\.mixture\.a\.weight'),
    ({'a.image_size': '2'}, r'data\.mixture\.a\.image_size is not a config'),
    ({'c': 'dict(weight=2)'}, r'data\.mixture\.c\.name names no data set'),
    ({'c': "dict(name='x', size=2)"}, r'mixture\.c\.size is not a config'),
    ({'c': "dict(name='x', weight=-1.0)"}, r'c\.weight=-1\.0 is not legal'),
    ({'c/d': "dict(name='x')"}, r"the name 'c/d' of a source is not legal"),
    ({'a': 'None', 'b': 'None'}, r'data\.mixture has no source; add one'),
    ({'a': 'shapes'}, r'mixture\.a is a dict, or None'),
    ({'a.eval_split': '', 'b.eval_split': ''}, r'train\.eval_every=5 needs'),
    ({'b.extra_splits': 'val,x'}, r"extra_splits=\('val', 'x'\) has \['val'\]"),
    ({'../name': 'shapes'}, r"data\.name='shapes' and data\.mixture are both"),
  ],
)
def test_settings_that_are_not_legal_are_refused(flags, message):
  config = settings.default_config()
  config.train.eval_every = 5
  mixture = {'a': {'name': 'shapes'}, 'b': {'name': 'emoji', 'weight': 1}}
  overrides.override(config, [('data.mixture', repr(mixture))])
  paths = {
    path: 'data.name' if path == '../name' else f'data.mixture.{path}'
    for path in flags
  }
  with pytest.raises(ConfigError, match=message):
    overrides.override(config, [(paths[p], v) for p, v in flags.items()])
    settings.validate(config)


def test_a_changed_mixture_is_another_run():
  config = settings.default_config()
  mixture = {'a': {'name': 'shapes'}, 'b': {'name': 'emoji'}}
  overrides.override(config, [('data.mixture', repr(mixture))])
  before = settings.to_json(config)
  overrides.override(
    config,
    [
      ('data.mixture.a.weight', '1'),  # The default.
      ('data.mixture.a.data_dir', '/elsewhere'),
      ('data.mixture.b.weight', '2'),
    ],
  )
  changed = settings.differences(before, settings.to_json(config))
  assert changed == {'data.mixture.b.weight': (1.0, 2.0)}
