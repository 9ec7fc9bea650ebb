"""What holds for every kind of field."""

import json

import numpy as np
import pytest

from mmjax.data import features, preprocess, records, tokenizers
from mmjax.errors import ConfigError
from tests.data.features.every_feature import CASES

EACH = pytest.mark.parametrize('kind', list(CASES))


def build(kind: str, **changes) -> features.Feature:
  settings = {'kind': kind} | CASES[kind].settings | changes
  built = preprocess.build({'x': settings})['x']
  return built.with_tokenizer(tokenizers.make_byte_tokenizer())


def make_record(kind: str) -> records.Record:
  return {'id': 'r', 'fields': {'x': CASES[kind].value}, 'metadata': {}}


def make(feature, record, seed=None) -> features.Example:
  rng = None if seed is None else np.random.default_rng(seed)
  chosen = feature.choose(record, rng)
  if chosen is None:
    return feature.make_absent(rng)
  return feature.make_arrays(chosen, rng, flips=True)


def describe(example: features.Example) -> dict[str, tuple]:
  for value in example.values():
    assert isinstance(value, np.ndarray | np.generic), type(value)
  return {key: (v.shape, v.dtype.name) for key, v in example.items()}


def test_the_table_is_complete():
  assert list(CASES) == list(features.KINDS)
  for kind, cls in features.KINDS.items():
    assert cls.word and cls.field_kinds and cls.kind == kind


@pytest.mark.parametrize('kind', list(features.STORED))
@pytest.mark.parametrize('is_absent', [False, True])
def test_values_survive_storage(kind, is_absent):
  schema = records.Schema({'x': kind, 'other': 'text'})
  record = make_record(kind)
  if is_absent:
    record['fields'] = {}
  else:
    schema.check(record)
  whole = schema.make_tfds_features()
  data = whole.serialize_example(whole.encode_example(schema.encode(record)))
  raw = whole.deserialize_example_np(data, decoders=schema.make_decoders())
  np.testing.assert_equal(schema.decode(raw), record)
  small = schema.make_tfds_features(large=False).deserialize_example_np(data)
  expected = record['fields']
  if features.KINDS[kind].is_large:
    expected = {}
  np.testing.assert_equal(schema.decode(small)['fields'], expected)


@EACH
@pytest.mark.parametrize('seed', [None, 3])
def test_what_is_absent_has_the_same_shapes_and_is_masked(kind, seed):
  changes = {'number': 3} if kind == 'questions' else {}
  feature = build(kind, **changes)
  example = make(feature, make_record(kind), seed)
  absent = make(feature, {'id': 'r', 'fields': {}, 'metadata': {}}, seed)
  assert set(example) == set(feature.list_keys())
  assert describe(absent) == describe(example)
  for key, value in absent.items():
    if key == 'x_label':
      assert np.all(value == -1)
    else:
      assert not np.any(value), key


@EACH
def test_the_array_has_its_mask(kind):
  case = CASES[kind]
  example = make(build(kind), make_record(kind))
  array, mask = example[case.key], example[f'{case.key}_mask']
  assert (array.shape, array.dtype.name) == (case.shape, case.dtype)
  assert mask.dtype == bool and np.any(mask)
  # A mask is of the whole array, of its first axis, or of all numbers in it.
  assert mask.shape == array.shape[: mask.ndim]
  assert mask.ndim in (0, 1, array.ndim)
  assert not np.any(array[~mask])
  assert build(kind).has(make_record(kind), case.key)
  assert not build(kind).has({'fields': {}, 'metadata': {}}, case.key)


@EACH
def test_training_is_a_function_of_the_generator(kind):
  feature, record = build(kind), make_record(kind)
  first = make(feature, record)
  np.testing.assert_equal(make(feature, record), first)
  trained = [make(feature, record, seed) for seed in range(8)]
  for seed, example in enumerate(trained):
    np.testing.assert_equal(make(feature, record, seed), example)
    assert describe(example) == describe(first)
  seen = {b''.join(v.tobytes() for v in e.values()) for e in trained}
  assert (len(seen) > 1) == CASES[kind].is_random


@pytest.mark.parametrize('kind', [k for k, c in CASES.items() if c.file])
def test_a_file_is_prepared_as_in_evaluation(kind, tmp_path):
  ending, data = CASES[kind].file
  path = tmp_path / f'a.{ending}'
  path.write_bytes(data)
  expected = make(build(kind), make_record(kind))
  np.testing.assert_equal(build(kind).prepare(str(path)), expected)
  np.testing.assert_equal(build(kind).prepare(path), expected)
  path.write_bytes(data[: len(data) // 9])
  with pytest.raises(ConfigError, match=r'a\.\w+'):
    build(kind).prepare(str(path))
  with pytest.raises(ConfigError, match='none'):
    build(kind).prepare(str(tmp_path / f'none.{ending}'))


@EACH
def test_settings_survive_json(kind):
  feature = build(kind)
  settings = json.loads(json.dumps({'x': feature.to_dict()}))
  again = preprocess.build(settings)['x'].with_tokenizer(
    getattr(feature, 'tokenizer', None)
  )
  assert again == feature
  assert feature.is_fitted


@EACH
def test_wrong_values_are_explained(kind):
  cls = features.KINDS[kind]
  assert cls.explain_fault(CASES[kind].value) == ''
  for reason, value in CASES[kind].wrong.items():
    assert reason in cls.explain_fault(value)


@EACH
def test_wrong_values_of_people_are_refused(kind):
  for value in (None, 3j, [], {}, '', [[]], object()):
    with pytest.raises((ConfigError, OSError)):
      build(kind).prepare(value)


@pytest.mark.parametrize(
  ('kind', 'changes'),
  [(kind, change) for kind, c in CASES.items() for change in c.illegal],
)
def test_illegal_settings_are_named(kind, changes):
  with pytest.raises(ConfigError, match=r'data\.features\.x\.') as error:
    build(kind, **changes)
  assert any(f'data.features.x.{name}=' in str(error.value) for name in changes)


@EACH
def test_values_are_drawn(kind):
  drawing, lines = features.KINDS[kind].render(CASES[kind].value)
  assert drawing is not None or lines
  if drawing is not None:
    assert drawing.dtype == np.uint8
    assert drawing.ndim == 3 and drawing.shape[2] == 3
  for line in lines:
    assert isinstance(line if isinstance(line, str) else line[0], str)
