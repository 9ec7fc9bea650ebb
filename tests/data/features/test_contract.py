"""What holds for every kind of field."""

import dataclasses
import io
import json
import math
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mmjax.data import audio, features, preprocess, records, tokenizers
from mmjax.errors import ConfigError

RNG = np.random.default_rng(0)


def make_image(seed: int, format: str = 'PNG', count: int = 1) -> bytes:
  """Encodes random images 5 pixels high and 7 wide, several as an animation."""
  rng = np.random.default_rng(seed)
  frames = [
    PIL.Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    for _ in range(count)
  ]
  file = io.BytesIO()
  more = {'save_all': True, 'append_images': frames[1:]} if count > 1 else {}
  frames[0].save(file, format, **more)
  return file.getvalue()


def make_sound(seconds: float = 0.5, rate: int = 1000) -> bytes:
  time = np.arange(round(seconds * rate)) / rate
  return audio.encode_wave(0.5 * np.sin(2 * np.pi * 50 * time), rate)


def save_npy(array: np.ndarray) -> bytes:
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


VECTOR = np.arange(3, dtype=np.float32)
SERIES = RNG.normal(size=(11, 2)).astype(np.float32)
POINTS = RNG.normal(size=(13, 4)).astype(np.float32)
QUESTIONS = [
  {'question': 'what?', 'answers': ['a', 'b'], 'type': 't'},
  {'question': 'who?', 'answers': ['c'], 'type': 't'},
]
TURNS = [
  {'role': 'user', 'content': ['hi', {'field': 'photo'}]},
  {'role': 'assistant', 'content': ['a cat']},
]


@dataclasses.dataclass(frozen=True)
class Case:
  """A feature with what it takes and refuses.

  Attributes:
    settings: settings of the feature, with which it is fitted.
    value: a value of a record.
    shape: shape of the array in evaluation.
    dtype: its type.
    wrong: values that it refuses, and a part of the reason.
    illegal: settings that it refuses.
    file: contents of a file that `prepare` reads, with the file's ending; it
      holds `value`.
    is_random: whether training depends on the generator.
    key: key of the array of `shape`.
  """

  settings: dict[str, Any]
  value: Any
  shape: tuple[int, ...]
  dtype: str
  wrong: dict[str, Any]
  illegal: tuple[dict[str, Any], ...] = ()
  file: tuple[str, bytes] | None = None
  is_random: bool = True
  key: str = 'x'


FLIP = ({'name': 'flip', 'p': 0.5},)
IMAGE = make_image(0)
GIF = make_image(3, 'GIF', count=7)
ILLEGAL_IMAGES = (
  *({'size': size} for size in (0, (3, 4, 5), ('3', '4'), 2.5)),
  {'resize': 'squash'},
  {'mean': (0.5, 0.5)},
  *({'std': std} for std in ((0.5, 0.5, 0.0), 'abc')),
)
ILLEGAL_STANDARDS = (
  {'mean': (0.0, 0.0), 'std': None},
  {'mean': (0.0, 0.0), 'std': (1.0, 0.0)},
  {'mean': (0.0, 0.0), 'std': (1.0,)},
  {'mean': 'ab', 'std': (1.0, 1.0)},
  {'mean': (), 'std': ()},
  {'mean': (0.0, math.inf), 'std': (1.0, 1.0)},
)

CASES = {
  'image': Case(
    {'size': (3, 4), 'augment': FLIP},
    IMAGE,
    (3, 4, 3),
    'float32',
    {'should be bytes, not str': 'a.png'},
    ILLEGAL_IMAGES,
    ('png', IMAGE),
  ),
  'images': Case(
    {'size': (3, 4), 'number': 3, 'augment': FLIP},
    [IMAGE, make_image(1)],
    (3, 3, 4, 3),
    'float32',
    {'a list of bytes, not bytes': b'', 'of bytes, not list': ['a']},
    (*ILLEGAL_IMAGES, {'number': 0}, {'number': True}),
  ),
  'sound': Case(
    {'rate': 1000, 'seconds': 0.3},
    make_sound(),
    (300,),
    'float32',
    {'should be bytes, not ndarray': VECTOR},
    ({'rate': 5}, {'rate': 8.5}, {'seconds': 0}, {'seconds': math.nan}),
    ('wav', make_sound()),
  ),
  'video': Case(
    {'size': (3, 4), 'number': 3},
    [GIF],
    (3, 3, 4, 3),
    'float32',
    {'a list of bytes, not bytes': b''},
    (*ILLEGAL_IMAGES, {'number': 0}),
    ('gif', GIF),
  ),
  'text': Case(
    {'length': 7},
    ['one', 'two'],
    (7,),
    'int32',
    {
      'should be list, not str': 'one',
      'should hold texts, not 3': ['one', 3],
      'a lone surrogate': ['a\ud800'],
      'be list, not int': {'en': 3},
    },
    ({'length': 1}, {'length': '7'}, {'metadata': {'tags': -1}}),
  ),
  'category': Case(
    {'classes': ('cat', 'dog')},
    ['dog'],
    (),
    'int32',
    {'should be list, not str': 'dog', 'names of classes, not 3': [3]},
    ({'classes': ('a', 'a')}, {'classes': 'ab'}, {'classes': (1, 2)}),
    is_random=False,
  ),
  'number': Case(
    {'mean': 2.0, 'std': 4.0},
    3.5,
    (),
    'float32',
    {'finite number, not nan': math.nan, "not 'x'": 'x', 'not True': True},
    (
      {'mean': None},
      {'std': 0.0},
      {'mean': (1.0, 2.0), 'std': (1.0, 2.0)},
      {'mean': math.nan},
    ),
    is_random=False,
  ),
  'vector': Case(
    {'mean': (0.0, 1.0, 2.0), 'std': (1.0, 2.0, 3.0)},
    VECTOR,
    (3,),
    'float32',
    {
      'an array of numbers, not [1': [1.0],
      'should have 1 axes': np.ones((2, 2)),
      'NaN or infinite': np.array([np.nan]),
      'not the shape [0]': np.ones(0),
    },
    (*ILLEGAL_STANDARDS, {'mean': 0.0, 'std': 1.0}),
    ('npy', save_npy(VECTOR)),
    is_random=False,
  ),
  'series': Case(
    {'length': 5, 'mean': (0.0, 1.0), 'std': (1.0, 2.0)},
    SERIES,
    (5, 2),
    'float32',
    {'should have 2 axes': VECTOR},
    (*ILLEGAL_STANDARDS, {'length': 0}, {'rate': 3.0}, {'stored_rate': -1}),
    ('npy', save_npy(SERIES)),
  ),
  'points': Case(
    {'number': 5, 'mean': (0.0,) * 4, 'std': (1.0,) * 4},
    POINTS,
    (5, 4),
    'float32',
    {'should have x, y and z, not 2': SERIES},
    (*ILLEGAL_STANDARDS, {'number': 0}),
    ('npy', save_npy(POINTS.astype(np.float64))),
  ),
  'questions': Case(
    {'length': 9, 'answer_length': 5, 'has_label': True, 'answers': ('a',)},
    QUESTIONS,
    (9,),
    'int32',
    {
      'should be list, not str': 'what?',
      'questions with answers, not 3': [3],
      "an entry with ['question']": [{'question': 'what?'}],
      'answers that are not a list': [QUESTIONS[0] | {'answers': 'a'}],
      'entry with 3, which is not a text': [QUESTIONS[0] | {'answers': [3]}],
    },
    (
      {'length': -1},
      {'answer_length': 2.5},
      {'number': 0},
      *({'answers': answers} for answers in (('a', 'a'), (1, 2))),
      {'length': 0, 'answer_length': 0, 'has_label': False},
    ),
    key='x_question',
  ),
  'turns': Case(
    {'length': 29},
    TURNS,
    (29,),
    'int32',
    {
      'should be a list of turns': 'hi',
      "not of role and content: {'role'": [{'role': 'user'}],
      "the role 'bot'; use one of": [{'role': 'bot', 'content': []}],
      'content that is not a list: None': [{'role': 'user', 'content': None}],
      'neither a text nor a field: 3': [{'role': 'user', 'content': [3]}],
      'a field: {': [{'role': 'user', 'content': [{'field': 3}]}],
    },
    ({'length': 1},),
    is_random=False,
  ),
  'hog': Case(
    {'size': (4, 6), 'cell': 2, 'augment': FLIP},
    IMAGE,
    (72,),
    'float32',
    {'should be bytes, not str': 'a.png'},
    (
      {'size': 5},
      {'size': 2},
      {'resize': 'squash'},
      *({name: 0} for name in ('size', 'cell', 'block', 'orientations')),
    ),
    ('png', IMAGE),
  ),
  'tfidf': Case(
    {'terms': ('one', 'two', 'one two'), 'idf': (1.0, 2.0, 3.0)},
    ['one', 'two'],
    (3,),
    'float32',
    {'should be list, not str': 'one', 'should hold texts, not 3': ['one', 3]},
    (
      {'size': 0},
      {'analyzer': 'letters'},
      *({'ngrams': ngrams} for ngrams in ((1,), (0, 1), (2, 1), (1, 1.5))),
      {'idf': None},
      {'idf': (1.0, 2.0)},
      {'idf': (1.0, 2.0, math.nan)},
      *({'terms': terms} for terms in (('a', 'b', 3), ('a', 'b', 'a'), ())),
    ),
  ),
}
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
    assert cls.word and cls.reads and cls.kind == kind


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
  # A mask is of the whole array, or of its first axis.
  assert mask.shape == array.shape[: mask.ndim] and mask.ndim <= 1
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
  with pytest.raises(OSError, match='none'):
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
  drawing, lines = features.KINDS[kind].draw(CASES[kind].value)
  assert drawing is not None or lines
  if drawing is not None:
    assert drawing.dtype == np.uint8
    assert drawing.ndim == 3 and drawing.shape[2] == 3
  for line in lines:
    assert isinstance(line if isinstance(line, str) else line[0], str)
