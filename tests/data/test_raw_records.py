"""Fields of users' data become records, or are refused."""

import functools

import numpy as np
import pytest

from mmjax.data import raw_records, shapes_drawing

PNG = shapes_drawing.encode_png(np.zeros((2, 3, 3), np.uint8))

NESTED = functools.reduce(lambda inner, _: [inner], range(3000), [])


def _convert(fields, image=PNG, language=None):
  raw = raw_records.RawRecord('x', 'row 1', 'x', lambda: fields, lambda: image)
  return raw_records.to_record(raw, language)


@pytest.mark.parametrize(
  'fields, captions',
  [
    ({'caption': ' a dog '}, ['a dog']),
    ({'caption': ['a dog', 'a pet']}, ['a dog', 'a pet']),
    ({'caption': 'a dog', 'captions': ['a pet', 'a dog']}, ['a dog', 'a pet']),
    ({'captions': {'de': 'x', 'en': ['a dog', 'a pet']}}, ['a dog', 'a pet']),
    ({'caption': 'a dog', 'captions': {'en': 'a pet'}}, ['a dog', 'a pet']),
    ({'captions': {'de': 'x', 'en': 'a dog', 'fr': None}}, ['a dog']),
    ({'caption': [{'raw': 'a dog', 'tokens': []}]}, ['a dog']),
    ({'caption': {'text': ['a', 'b'], 'n': [1, 2]}}, ['a', 'b']),
    ({'caption': [{'lang': 'en', 'text': t} for t in 'ab']}, ['a', 'b']),
    ({'caption': '["a", "b"]'}, ['a', 'b']),
    ({'caption': "('a', 'b')"}, ['a', 'b']),
    ({'caption': '("a" and b)'}, ['("a" and b)']),
    ({'caption': "('a')"}, ["('a')"]),
    ({'caption': "[{'raw': 'a'}]"}, ['a']),
    ({'caption': '{"en": "a", "de": "b"}'}, ['a']),
    ({'caption': '[1]'}, ['[1]']),
    ({'caption': '{a} dog'}, ['{a} dog']),
    ({'caption': 7}, ['7']),
    ({'caption': '\U0001f415'}, ['\U0001f415']),
  ],
)
def test_captions(fields, captions):
  assert _convert(fields)['fields']['captions'] == captions


def test_captions_by_language():
  captions = {'en': 'a dog', 'de': 'ein Hund'}
  fields = {'caption': 'a dog', 'captions': captions}
  assert _convert(fields)['fields']['captions'] == ['a dog']
  others = {'caption': 'a dog', 'captions': {'de': 'ein Hund'}}
  assert _convert(others)['fields']['captions'] == ['a dog']
  assert _convert(others)['metadata'] == {'captions': {'de': 'ein Hund'}}
  with pytest.raises(ValueError, match="no caption in 'en', only in de"):
    _convert(others, language='en')
  german = _convert(fields, language='de')
  assert german['fields']['captions'] == ['ein Hund']
  assert german['metadata'] == {'captions': captions}
  with pytest.raises(ValueError, match="no caption in 'fr', only in en, de"):
    _convert(fields, language='fr')


@pytest.mark.parametrize(
  'fields, answers, kind',
  [
    ({'question': 'why?', 'answer': 'so'}, ['so'], 'other'),
    ({'question': 'why?', 'answers': ['yes', 'no']}, ['yes', 'no'], 'yes/no'),
    ({'question': 'why?', 'answer': 3}, ['3'], 'number'),
    ({'question': 'why?', 'answer': True}, ['yes'], 'yes/no'),
    ({'question': 'why?', 'answer': 'None'}, ['None'], 'other'),
    ({'question': 'why?', 'answer': 'so', 'type': 't'}, ['so'], 't'),
    ({'question': 'why?', 'answers': [{'answer': 'so'}]}, ['so'], 'other'),
    ({'question': 'why?', 'answers': {'text': ['so']}}, ['so'], 'other'),
    ({'questions': ['why?'], 'answers': ['so']}, ['so'], 'other'),
    ({'questions': ['why?'], 'answers': [['a', 'b']]}, ['a', 'b'], 'other'),
    ({'questions': [{'question': 'why?', 'answer': '1'}]}, ['1'], 'number'),
  ],
)
def test_questions(fields, answers, kind):
  record = _convert(fields)
  assert record['fields']['questions'] == [
    {'question': 'why?', 'answers': answers, 'type': kind}
  ]
  assert record['metadata'] == {}


@pytest.mark.parametrize(
  'answer, expected',
  [(1, 'b'), ('1', 'b'), ('A', 'a'), ('a', 'a'), ('neither', 'neither')],
)
def test_an_answer_may_be_the_number_of_a_choice(answer, expected):
  fields = {'question': 'why?', 'answer': answer, 'choices': ['a', 'b']}
  record = _convert(fields)
  assert record['fields']['questions'][0]['answers'] == [expected]
  assert record['metadata'] == {'choices': ['a', 'b']}


@pytest.mark.parametrize(
  'answer, choices',
  [
    ('B', {'choices': {'A': 'cat', 'B': 'dog'}}),
    ('B', {'options': {'label': ['A', 'B'], 'text': ['cat', 'dog']}}),
    ('2', {'options': {'label': ['1', '2'], 'text': ['cat', 'dog']}}),
    ('B', {'choices': "['cat', 'dog']"}),
    ('B', {'choices': 'A. cat\nB. dog'}),
    ('B', {'choices': '(A) cat, (B) dog'}),
    ('(B)', {'choices': ['(A) cat', '(B) dog']}),
    ('b', {'choices': ['cat', 'dog']}),
    ('B. dog', {'choices': ['cat', 'dog']}),
    (1, {'choices': ['A. cat', 'B. dog']}),
    ('B', {'A': 'cat', 'B': 'dog', 'n': 3}),
    ('b', {'choice_b': 'dog', 'choice_a': 'cat'}),
    (1, {'Option A': 'cat', 'Option B': 'dog'}),
    (2, {'option1': 'cat', 'option2': 'dog'}),
    ('1', {'choice_0': 'cat', 'choice_1': 'dog'}),
    ('B', {'choice_1': 'cat', 'choice_2': 'dog'}),
  ],
)
def test_choices_of_all_forms(answer, choices):
  record = _convert({'question': 'why?', 'answer': answer, **choices})
  assert record['fields']['questions'][0]['answers'] == ['dog']


def test_other_fields_become_metadata():
  record = _convert({'caption': 'a dog', 'type': 'photo', 'tags': ['x']})
  assert record['metadata'] == {'type': 'photo', 'tags': ['x']}


@pytest.mark.parametrize(
  'fields, message',
  [
    ({}, r'neither a caption nor a question among the fields \(none\)'),
    ({'title': 'x'}, 'among the fields title'),
    ({'caption': ' '}, 'caption is empty'),
    ({'caption': ['a dog', '']}, 'caption is empty'),
    ({'label': 3, 'class': 'dog'}, 'for example --columns=caption=class'),
    ({'caption': None}, r'caption is missing \(null or NaN\)'),
    ({'caption': float('nan')}, 'caption is missing'),
    ({'caption': 'nan'}, r"caption is missing \('nan'\)"),
    ({'caption': ' N/A '}, r"caption is missing \('N/A'\)"),
    ({'caption': '#DIV/0!'}, "the error '#DIV/0!' of a spreadsheet"),
    ({'question': 'a', 'answer': '#n/a'}, 'of a spreadsheet'),
    ({'caption': "{'a', 'b'}"}, 'is a set, which has no order'),
    ({'caption': True}, 'not the boolean true'),
    ({'caption': 'False'}, "not the boolean 'False'"),
    ({'caption': '\0'}, r"no visible character: '\\x00'"),
    ({'caption': '\u200b\ufe0f'}, 'no visible character'),
    ({'caption': 'a\0d\0o\0g'}, 'has a null character'),
    ({'caption': float('inf')}, 'is an infinite number'),
    ({'caption': [{'raw': 'a', 'text': 'b'}]}, "under 'raw' and 'text'"),
    ({'caption': "['a' 'b']"}, 'have no commas between'),
    ({'caption': "{'en': 'a}"}, 'looks like an object, but is not one'),
    ({'caption': "{'de': 'a', 1: 'b'}"}, "no caption in 'en', only in de, 1"),
    ({'caption': "b'a dog'"}, "Python's notation of bytes"),
    ({'raw': ['two dogs'], 'name': 'x'}, 'for example --columns=caption=raw'),
    ({'messages': [{}], 'x': 'y'}, '--format=conversations reads turns'),
    ({'caption': [{'user': 'a', 'assistant': 'b'}]}, 'conversations reads th'),
    ({'caption': [], 'url': 'x y'}, 'whose captions are empty$'),
    ({'question': 'a', 'answer': {'x': 1}}, r"not an object of \['x'\]"),
    ({'question': 'a', 'answer': 2, 'choices': ['x', 'y']}, 'not one of its 2'),
    ({'question': 'a', 'answer': 1, 'options': ['1', '2']}, 'or the number of'),
    ({'question': 'a', 'answer': 'B', 'options': 'x, y'}, 'not a list; write'),
    ({'question': 'a', 'answer': 'C', 'A': 'x', 'B': 'y'}, 'are A, B, or'),
    (
      {'question': 'a', 'answer': 0, 'option1': 'x', 'option2': 'y'},
      'not one of its 2 choices, which are 1, 2',
    ),
    ({'question': 'null', 'answer': 'x'}, 'question is missing'),
    ({'question': 'why?', 'answer': '<NA>'}, 'answer is missing'),
    ({'caption': {'x': 1}}, "no caption in 'en', only in x"),
    ({'caption': 'so \ud83d'}, 'a lone surrogate'),
    ({'caption': 'x', 'by': 'so \ud83d'}, "field 'by' has a lone surrog"),
    ({'caption': 'x', 'by': b'x'}, "field 'by' has bytes, which JSON can"),
    ({'caption': 'x', 'n': [{'x': float('inf')}]}, "field 'n' has the number"),
    ({'caption': 'x', 'n': 10**5000}, "'n' has a number of more than"),
    ({'caption': 'x', 'so \ud83d': 1}, 'has a lone surrogate'),
    ({'caption': 'x', 'n': NESTED}, "field 'n' is nested too deeply"),
    ({'question': 'why?'}, "no answer to the question 'why\\?'"),
    ({'question': '', 'answer': 'so'}, 'question is empty'),
    ({'questions': ['a', 'b'], 'answers': ['c']}, '2 questions, but 1 answers'),
  ],
)
def test_refused_fields(fields, message):
  with pytest.raises(ValueError, match=message):
    _convert(fields)


def test_images_are_decoded_to_the_end():
  assert 'image' not in _convert({'caption': 'x'}, image=b'')['fields']
  with pytest.raises(ValueError, match='not a readable image'):
    _convert({'caption': 'x'}, image=PNG[:-30])
