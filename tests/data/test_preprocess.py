"""Records become the arrays that the settings describe."""

import dataclasses
import io
import json

import jax
import numpy as np
import PIL.Image
import pytest

from mmjax.data import features, images, preprocess, tokenizers
from mmjax.errors import ConfigError

SIZE = 7
HALF = (0.5, 0.5, 0.5)


def make_png(seed: int = 0, size: int = SIZE) -> bytes:
  rng = np.random.default_rng(seed)
  image = PIL.Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
  buffer = io.BytesIO()
  image.save(buffer, 'PNG')
  return buffer.getvalue()


def make_record(**changes) -> dict:
  fields = {
    'image': make_png(),
    'captions': ['one', 'two', 'three'],
    'questions': [
      {'question': 'what?', 'answers': ['b', 'a', 'a'], 'type': 't'},
      {'question': 'who?', 'answers': ['c'], 'type': 't'},
    ],
  } | changes
  return {
    'id': 'r',
    'fields': {name: value for name, value in fields.items() if value},
    'metadata': {'tags': ['x', 'y', 'z'], 'line': 'p, q'},
  }


def make_preprocessor(
  *, image=None, text=None, questions=None
) -> preprocess.Preprocessor:
  """Makes a preprocessor of the features whose settings are given."""
  settings = {
    'image': image and {'kind': 'image', **image},
    'text': text and {'kind': 'text', 'field': 'captions', **text},
    'questions': questions and {'kind': 'questions', **questions},
  }
  built = preprocess.build({k: v for k, v in settings.items() if v})
  return preprocess.Preprocessor(built, tokenizers.make_byte_tokenizer())


def list_texts(make_text, count: int = 40) -> set[str]:
  """Lists the texts that training makes of one record."""
  found = set()
  for i in range(count):
    example = make_text(make_record(), np.random.default_rng(i))
    found.add(make_text.tokenizer.decode(example['text']))
  return found


def test_settings_determine_the_keys():
  assert make_preprocessor()(make_record()) == {}
  everything = make_preprocessor(
    image={'size': SIZE},
    text={'length': 11},
    questions={
      'length': 13,
      'answer_length': 5,
      'has_label': True,
      'answers': ('a', 'c'),
    },
  )(make_record())
  shapes = {key: (v.shape, v.dtype.name) for key, v in everything.items()}
  assert shapes == {
    'image': ((SIZE, SIZE, 3), 'uint8'),
    'image_mask': ((), 'bool'),
    'text': ((11,), 'int32'),
    'text_mask': ((11,), 'bool'),
    'question': ((13,), 'int32'),
    'question_mask': ((13,), 'bool'),
    'answer': ((5,), 'int32'),
    'answer_mask': ((5,), 'bool'),
    'label': ((), 'int32'),
  }


def test_a_field_that_is_always_there_has_no_mask_in_training():
  prepare = dataclasses.replace(
    make_preprocessor(image={'size': SIZE}, text={'length': 11}),
    complete={'image', 'captions'},
  )
  example = prepare(make_record(), np.random.default_rng(0))
  assert set(example) == {'image', 'text', 'text_mask'}
  assert set(prepare(make_record())) == {*example, 'image_mask'}
  pixels = {'image': example['image'][None]}
  masked = pixels | {'image_mask': np.array([True])}
  np.testing.assert_array_equal(
    prepare.make_inputs(pixels)['image'], prepare.make_inputs(masked)['image']
  )
  with pytest.raises(ConfigError, match="no 'image', which all records of"):
    prepare({**make_record(), 'fields': {}}, np.random.default_rng(0))


def test_evaluation_takes_the_first_and_the_commonest():
  prepare = make_preprocessor(
    text={'length': 11},
    questions={
      'length': 11,
      'answer_length': 5,
      'has_label': True,
      'answers': ('c', 'a'),
    },
  )
  example = prepare(make_record())
  decode = prepare.tokenizer.decode
  assert decode(example['text']) == 'one'
  assert decode(example['question']) == 'what?'
  assert decode(example['answer']) == 'a'
  assert example['label'] == 1


def test_training_draws_captions_questions_and_answers():
  prepare = make_preprocessor(
    text={'length': 11}, questions={'length': 11, 'answer_length': 5}
  )
  assert list_texts(prepare) == {'one', 'two', 'three'}
  drawn = set()
  for i in range(40):
    example = prepare(make_record(), np.random.default_rng(i))
    decode = prepare.tokenizer.decode
    drawn.add((decode(example['question']), decode(example['answer'])))
  assert drawn == {('what?', 'a'), ('what?', 'b'), ('who?', 'c')}


def test_several_different_questions_in_training():
  prepare = make_preprocessor(
    questions={
      'length': 11,
      'answer_length': 5,
      'has_label': True,
      'answers': ('a', 'c'),
      'number': 3,
    }
  )
  orders = set()
  for i in range(20):
    example = prepare(make_record(), np.random.default_rng(i))
    asked = [prepare.tokenizer.decode(ids) for ids in example['question']]
    orders.add(tuple(asked))
    assert (
      example['question'].shape == example['question_mask'].shape == (3, 11)
    )
    assert example['answer'].shape == (3, 5)
    assert example['label'][asked.index('who?')] == 1
    # The record has two.
    assert not example['question_mask'][2].any()
    assert not example['answer_mask'][2].any()
    assert example['label'][2] == -1
  assert orders == {('what?', 'who?', ''), ('who?', 'what?', '')}
  assert prepare(make_record())['question'].shape == (11,)


def test_missing_modalities_are_zeros_and_masked():
  prepare = make_preprocessor(
    image={'size': SIZE},
    text={'length': 5},
    questions={
      'length': 5,
      'answer_length': 5,
      'has_label': True,
      'answers': ('a',),
    },
  )
  empty = make_record(image=b'', captions=[], questions=[])
  for rng in (None, np.random.default_rng(0)):
    example = prepare(empty, rng)
    assert example.pop('label') == -1
    assert all(not value.any() for value in example.values())
    assert example['image'].shape == (SIZE, SIZE, 3)


def test_unknown_answers_have_no_label():
  prepare = make_preprocessor(questions={'has_label': True, 'answers': ('q',)})
  assert prepare(make_record())['label'] == -1


def test_training_appends_metadata_to_captions():
  prepare = make_preprocessor(text={'length': 29, 'metadata': {'tags': 2}})
  assert prepare.tokenizer.decode(prepare(make_record())['text']) == 'one'
  found = list_texts(prepare, 200)
  tags = ['x', 'y', 'z']
  endings = ['', *(f', {t}' for t in tags)]
  endings += [f', {t}, {u}' for t in tags for u in tags if t != u]
  captions = ('one', 'two', 'three')
  assert found == {c + e for c in captions for e in endings}


def test_text_fields_in_evaluation_and_from_a_line():
  prepare = make_preprocessor(
    text={
      'length': 29,
      'metadata': {'line': 5, 'none': 2},
      'metadata_in_evaluation': True,
    }
  )
  assert prepare.tokenizer.decode(prepare(make_record())['text']) == 'one, p, q'
  alone = prepare(make_record(captions=[]))
  assert prepare.tokenizer.decode(alone['text']) == 'p, q'


@pytest.mark.parametrize(
  ('changes', 'flipped'),
  [
    ({}, True),
    ({'captions': ['a cube left of a ball']}, False),
    ({'questions': [{'question': 'right?', 'answers': ['a']}]}, False),
    ({'questions': [{'question': 'where?', 'answers': ['Left']}]}, False),
    ({'captions': ['a bright ball']}, True),
  ],
)
def test_images_whose_texts_mention_a_side_are_not_flipped(changes, flipped):
  prepare = make_preprocessor(
    image={'size': SIZE, 'augment': ({'name': 'flip', 'p': 1.0},)},
    text={'length': 29},
    questions={'length': 29},
  )
  row = make_record(**changes)
  plain = prepare(row)['image']
  trained = prepare(row, np.random.default_rng(0))['image']
  expected = plain[:, ::-1] if flipped else plain
  np.testing.assert_array_equal(trained, expected)


def test_only_texts_of_the_batch_stop_flips():
  prepare = make_preprocessor(
    image={'size': SIZE, 'augment': ({'name': 'flip', 'p': 1.0},)}
  )
  row = make_record(captions=['left'])
  trained = prepare(row, np.random.default_rng(0))['image']
  np.testing.assert_array_equal(trained, prepare(row)['image'][:, ::-1])


def test_the_crop_uses_all_pixels():
  prepare = make_preprocessor(
    image={
      'size': SIZE,
      'augment': (
        {'name': 'random_resized_crop', 'scale': (1, 1), 'ratio': (1, 1)},
      ),
    }
  )
  row = make_record(image=make_png(size=29))
  trained = prepare(row, np.random.default_rng(0))['image']
  # The crop of the whole image equals evaluation's resize.
  np.testing.assert_array_equal(trained, prepare(row)['image'])


def test_image_sizes_and_normalisation():
  prepare = make_preprocessor(
    image={'size': (5, 3), 'mean': (0.1, 0.2, 0.3), 'std': HALF}
  )
  row = prepare(make_record())
  decoded = images.resize(images.decode(make_png()), (5, 3))
  np.testing.assert_array_equal(row['image'], decoded)
  batch = {key: np.stack([value] * 2) for key, value in row.items()}
  batch['image_mask'][1] = False
  expected = (decoded / 255 - np.array([0.1, 0.2, 0.3])) / 0.5
  for inputs in (
    prepare.make_inputs(batch),
    jax.jit(prepare.make_inputs)(batch),
  ):
    assert inputs['image'].dtype == np.float32
    # float32 against float64, of values below 2.
    np.testing.assert_allclose(inputs['image'][0], expected, atol=1e-6)
    # An absent image is zeros after its normalisation.
    assert not inputs['image'][1].any()
  assert prepare.make_inputs({'text': 1}) == {'text': 1}
  with pytest.raises(ValueError, match="'image' is float32, but Image"):
    prepare.make_inputs(inputs)


def test_settings_survive_their_file(tmp_path):
  prepare = make_preprocessor(
    image={
      'size': [5, 3],
      'resize': 'pad',
      'augment': [{'name': 'random_resized_crop', 'scale': [0.5, 1.0]}],
    },
    text={'length': 7, 'metadata': {'tags': 2}},
    questions={'has_label': True, 'answers': ['a', 'b']},
  )
  prepare.save(tmp_path / 'p.json')
  assert 'tokenizer' not in json.loads((tmp_path / 'p.json').read_text())
  again = preprocess.Preprocessor.load(tmp_path / 'p.json', prepare.tokenizer)
  assert again == prepare


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'a': 'image'}, r"data\.features\.a='image' is not legal"),
    ({'a': {'kind': 'imgae'}}, r"features\.a\.kind.*'imgae'"),
    ({'a': {'size': 3}}, r'features\.a\.kind'),
    (
      {'a': {'kind': 'image', 'colour': 1}},
      r'data\.features\.a\.colour is unknown; image has .*size',
    ),
    (
      {
        'questions': {'kind': 'questions', 'length': 5},
        'question': {'kind': 'text'},
      },
      r"\.questions and data\.features\.question both make .*'question'",
    ),
    ({'index': {'kind': 'number'}}, "makes the array 'index', a name that ev"),
  ],
)
def test_unknown_features_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    preprocess.build(settings)


def test_texts_need_a_tokenizer():
  with pytest.raises(ConfigError, match='need a tokenizer'):
    preprocess.Preprocessor({'text': features.Text(name='text')})


def test_prepare_makes_a_batch_of_what_is_passed(tmp_path):
  prepare = make_preprocessor(image={'size': SIZE}, text={'length': 5})
  (tmp_path / 'a.png').write_bytes(make_png())
  paths = [str(tmp_path / 'a.png')] * 2
  batch = prepare.prepare(image=paths, text=['a', 'b'])
  assert set(batch) == {'image', 'image_mask', 'text', 'text_mask'}
  row = prepare(make_record())['image'] / 127.5 - 1
  # float32 against float64, of values below 1.
  np.testing.assert_allclose(batch['image'], [row, row], atol=1e-6)
  assert set(prepare.prepare(text='a')) == {'text', 'text_mask'}
  with pytest.raises(ConfigError, match='there are 2 image, 1 text'):
    prepare.prepare(image=paths, text='a')
  with pytest.raises(ConfigError, match="'sound'"):
    prepare.prepare(sound='a.wav')


def test_golden_values():
  """A change here changes the data of a seed: note it in the changelog."""
  prepare = make_preprocessor(
    text={'length': 7},
    image={
      'size': 5,
      'augment': (
        {'name': 'random_resized_crop', 'scale': (0.5, 1.0)},
        {'name': 'flip'},
        {'name': 'translate', 'pixels': 1},
      ),
    },
  )
  example = prepare(make_record(), np.random.default_rng(17))
  assert prepare.tokenizer.decode(example['text']) == 'three'
  np.testing.assert_array_equal(
    example['image'][2, :, 1], [141, 172, 124, 190, 190]
  )
