"""A feature of every kind, with what it takes and refuses."""

import dataclasses
import math
from typing import Any

import numpy as np

from tests.data.features.encoded import make_image, make_sound, save_npy

RNG = np.random.default_rng(0)

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
# A word of SIFT: gradients in one half of a patch.
HALF = (0.125,) * 64 + (0.0,) * 64
GIF = make_image(3, 'GIF', count=7)
SMALL_PATCHES = {'patch_size': 2, 'window': 1}
SMALL_PATCHES |= {'min_pixels': 16, 'max_pixels': 64}
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
    'uint8',
    {'should be bytes, not str': 'a.png'},
    ILLEGAL_IMAGES,
    ('png', IMAGE),
  ),
  'images': Case(
    {'size': (3, 4), 'number': 3, 'augment': FLIP},
    [IMAGE, make_image(1)],
    (3, 3, 4, 3),
    'uint8',
    {'a list of bytes, not bytes': b'', 'of bytes, not list': ['a']},
    (*ILLEGAL_IMAGES, {'number': 0}, {'number': True}),
  ),
  'flexible_image': Case(
    {'tokens': 6, 'patch_size': 2, 'lengths': (4, 9), 'augment': FLIP},
    IMAGE,
    (6, 12),
    'uint8',
    {'should be bytes, not str': 'a.png'},
    (
      *ILLEGAL_IMAGES[-3:],
      *({name: 0} for name in ('tokens', 'patch_size', 'multiple')),
      *({'lengths': lengths} for lengths in ((4, 4), (0,), (2.5,))),
      *({'multiple': 2, 'tokens': 6}, {'lengths': (), 'constant_tokens': True}),
    ),
    ('png', IMAGE),
  ),
  'patches': Case(
    {**SMALL_PATCHES, 'tokens': 3, 'temporal_patch_size': 3},
    IMAGE,
    (12, 12),
    'uint8',
    {'should be bytes, not str': 'a.png', 'of bytes, not list': ['a']},
    (
      *ILLEGAL_IMAGES[-3:],
      *({name: 0} for name in ('tokens', 'patch_size', 'min_pixels')),
      {'window': -1},
      {'min_pixels': 65},
    ),
    ('png', IMAGE),
    is_random=False,
  ),
  'tiles': Case(
    {'scheme': 'ratio', 'number': 6, 'size': (3, 4), 'most': 4},
    IMAGE,
    (6, 3, 4, 3),
    'uint8',
    {'should be bytes, not str': 'a.png', 'of bytes, not list': ['a']},
    (
      *ILLEGAL_IMAGES[:4],
      *ILLEGAL_IMAGES[-3:],
      *({name: 0} for name in ('number', 'least', 'most')),
      {'scheme': 'x'},
      {'scheme': 'sides', 'size': (3, 4)},
      *({'scheme': 'padded', 'size': 3, 'sizes': s} for s in ((), ((3, 4),))),
      {'longest': -1},
      {'resample': 99},
    ),
    ('png', IMAGE),
    is_random=False,
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
  'sounds': Case(
    {'rate': 1000, 'seconds': 0.5, 'number': 3, 'step': 50},
    [make_sound(), make_sound(0.2, 500)],
    (3, 500),
    'float32',
    {'a list of bytes, not bytes': b'', 'of bytes, not list': ['a']},
    (
      {'rate': 5},
      *({'seconds': seconds} for seconds in (0, 0.51)),
      *({name: 0} for name in ('number', 'step', 'merged')),
    ),
    is_random=False,
  ),
  'video': Case(
    {'size': (3, 4), 'number': 3},
    [GIF],
    (3, 3, 4, 3),
    'uint8',
    {'a list of bytes, not bytes': b''},
    (*ILLEGAL_IMAGES, {'number': 0}),
    ('gif', GIF),
  ),
  'videos': Case(
    {**SMALL_PATCHES, 'tokens': 6},
    [GIF],
    (24, 24),
    'uint8',
    {'a list of bytes, not bytes': b'', 'of bytes, not list': ['a']},
    (
      *ILLEGAL_IMAGES[-3:],
      {'min_pixels': 65},
      {'min_frames': 769},
      {'max_frames': 1, 'min_frames': 1},
      *({name: 0} for name in ('tokens', 'fps', 'min_frames')),
      *({name: -1} for name in ('total_pixels', 'tokens_per_second')),
      {'scheme': 'half'},
      {'frame_pixels': 9},
      {'scheme': 'whole', 'total_pixels': 9},
      {'time_text': 'now'},
      {'time_text': '{seconds}'},
    ),
    ('gif', GIF),
    is_random=False,
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
  'texts': Case(
    {'length': 7, 'number': 3},
    ['one', 'two'],
    (3, 7),
    'int32',
    {'should be list, not str': 'one', 'should hold texts, not 3': ['one', 3]},
    ({'length': 1}, {'number': 0}),
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
      "the role 'bot' in turn 1; use one of": [{'role': 'bot', 'content': []}],
      'content that is not a list: None': [{'role': 'user', 'content': None}],
      'neither a text nor a field: 3': [{'role': 'user', 'content': [3]}],
      'a field: {': [{'role': 'user', 'content': [{'field': 3}]}],
    },
    ({'length': 1},),
    is_random=False,
  ),
  'preference': Case(
    {'length': 29, 'field': 'x', 'rejected': 'x'},
    TURNS,
    (29,),
    'int32',
    {'should be a list of turns': 'hi'},
    ({'packed': True},),
    is_random=False,
    key='x_rejected',
  ),
  'prompt': Case(
    {'length': 29},
    TURNS,
    (29,),
    'int32',
    {'should be a list of turns': 'hi'},
    ({'packed': True}, {'last': -1}),
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
  'sift': Case(
    {
      'size': (37, 41),
      'words': 2,
      'centers': (HALF, HALF[::-1]),
      'augment': FLIP,
    },
    IMAGE,
    (2,),
    'float32',
    {'should be bytes, not str': 'a.png'},
    (
      {'size': 5},
      {'words': 0, 'centers': ()},
      {'words': 3},
      {'centers': ((0.0,) * 128, (0.5,) * 127)},
      {'centers': ((0.0,) * 128, (math.nan,) * 128)},
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
