"""Data that an objective can't learn from is refused, with the reason."""

import pytest

from mmjax.data import checks, preprocess, sources, tokenizers
from mmjax.errors import ConfigError

PAIRS, ASKED = ('image', 'text'), ('question', 'answer', 'image')


def make_record(i, *, image=b'png', captions=None, answers=None, **more):
  """Makes a record of a caption and a question, each with a number in it."""
  captions = [f'caption {i}'] if captions is None else captions
  answers = [f'a{i % 3}'] if answers is None else answers
  entry = {'question': f'what is {i}?', 'answers': answers, 'type': 'kind'}
  return {
    'id': str(i),
    'image': image,
    'captions': captions,
    'questions': [entry],
    'metadata': {},
  } | more


class Source(sources.ListSource):
  """Source whose texts have no images, and whose records may be broken."""

  def read(self, index):
    if self._rows[index] is None:
      raise ConfigError('broken')
    return super().read(index)


def check(rows, needs, others=None, **settings):
  lengths = {'text_length': 40, 'question_length': 40, 'answer_length': 10}
  preprocessor = preprocess.Preprocessor(
    tokenizer=tokenizers.make_byte_tokenizer(), **(lengths | settings)
  )
  others = {name: Source(split) for name, split in (others or {}).items()}
  return checks.check(('train', Source(rows)), others, preprocessor, needs)


def test_good_data_gives_no_notes():
  rows = [make_record(i) for i in range(7)]
  needs = {'contrastive': PAIRS, 'vqa_generation': ASKED}
  assert check(rows, needs, {'val': rows}) == ()
  assert check([None, *rows, None], needs, {'val': rows}) == ()


@pytest.mark.parametrize(
  'rows, needs, message',
  [
    (
      [make_record(i, captions=[]) for i in range(7)],
      {'contrastive': PAIRS},
      r'contrastive needs records with an image and a caption, but none of 7 '
      r'records of train has that \(0 have a caption, 7 have a question',
    ),
    (
      [make_record(i, questions=[]) for i in range(7)],
      {'contrastive': PAIRS, 'vqa_classification': ASKED},
      r'with an image and a question and an answer, .* leave it out with '
      r'--config\.tasks\.vqa_classification\.weight=0, or use',
    ),
    (
      [make_record(i, image=b'') for i in range(7)],
      {'captioning': PAIRS},
      'captioning needs .* those with the rest has an image.; choose another',
    ),
    (  # Each has one of the two.
      [
        make_record(i, **({'image': b''} if i % 2 else {'captions': []}))
        for i in range(6)
      ],
      {'contrastive': PAIRS},
      'contrastive needs .* none of 6',
    ),
    (
      [make_record(i, answers=['yes']) for i in range(7)],
      {'vqa_classification': ASKED},
      "all 7 answers of train are 'yes', so there is nothing to learn",
    ),
    (
      [make_record(i, captions=['a cat']) for i in range(7)],
      {'captioning': PAIRS},
      "captioning: all 7 captions of train are 'a cat'",
    ),
  ],
)
def test_refusals_name_the_objective_and_the_counts(rows, needs, message):
  with pytest.raises(ValueError, match=message):
    check(rows, needs)


def test_a_blind_model_needs_no_image():
  rows = [make_record(i, image=b'') for i in range(7)]
  assert check(rows, {'vqa_generation': ASKED[:2]}) == ()


def test_tags_are_captions_too():
  rows = [
    make_record(i, captions=[], metadata={'tags': ['a', 'b']}) for i in range(7)
  ]
  assert check(rows, {'contrastive': PAIRS}, text_fields={'tags': 2}) == ()


def test_splits_to_evaluate_on_are_refused_too():
  rows = [make_record(i) for i in range(7)]
  bad = [make_record(i, captions=[]) for i in range(7)]
  with pytest.raises(ValueError, match='none of 7 records of val has that'):
    check(rows, {'contrastive': PAIRS}, {'val': bad})


@pytest.mark.parametrize(
  'kind, length', [('text', 10), ('question', 11), ('answer', 3)]
)
def test_lengths_that_cut_all_texts_are_refused(kind, length):
  rows = [make_record(i) for i in range(7)]
  shortest = {'text': 11, 'question': 12, 'answer': 4}[kind]  # <bos>, <eos>.
  needs = {'captioning': PAIRS, 'vqa_generation': ASKED}
  assert check(rows, needs, **{f'{kind}_length': shortest}) == ()
  with pytest.raises(ValueError) as error:
    check(rows, needs, **{f'{kind}_length': length})
  assert f'data.{kind}_length={length} cuts all 7 ' in str(error.value)
  assert f'they take {shortest} to {shortest} tokens' in str(error.value)
  assert f'set --config.data.{kind}_length={shortest} or so, or' in str(
    error.value
  )


def test_lengths_that_cut_many_texts_are_noted():
  rows = [
    make_record(i, captions=['x' * (30 if i < 2 else 3)]) for i in range(20)
  ]
  needs = {'captioning': PAIRS}
  (note,) = check([*rows, make_record(20)], needs, text_length=20)
  assert note.startswith('data.text_length=20 cuts 10% of 21 captions of 21 re')
  rows += [make_record(i) for i in range(20, 60)]  # 2 of 60 are few.
  assert check(rows, needs, text_length=20) == ()


def test_answers_that_training_lacks_are_counted():
  rows = [make_record(i) for i in range(7)]
  other = [make_record(i, answers=[f'a{i % 5}']) for i in range(10)]
  needs = {'vqa_classification': ASKED}
  (note,) = check(rows, needs, {"data.eval_split='validation'": other})
  assert note == (
    "4 of 10 answers of data.eval_split='validation' are not among those of "
    "training, such as 'a3', 'a4'"
  )
  assert check(rows, {'contrastive': PAIRS}, {'val': other}) == ()


def test_of_large_data_a_spread_sample_is_read(monkeypatch):
  monkeypatch.setattr(checks, 'SAMPLE', 5)
  # Sorted: the first half has no captions.
  rows = [make_record(i, captions=[] if i < 50 else None) for i in range(100)]
  assert check(rows, {'contrastive': PAIRS}) == ()
  with pytest.raises(ValueError, match='none of 5 of the 50 records of train'):
    check(rows[:50], {'contrastive': PAIRS})
