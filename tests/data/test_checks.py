"""Data that an objective can't learn from is refused, with the reason."""

import pytest

from mmjax.data import check_samples, checks, preprocess, sources, tokenizers
from mmjax.errors import ConfigError

PAIRS, ASKED = ('image', 'text'), ('question', 'answer', 'image')


def make_record(i, *, metadata=None, **changes):
  """Makes a record of a caption and a question, each with a number in it."""
  answers = changes.pop('answers', [f'a{i % 3}'])
  entry = {'question': f'what is {i}?', 'answers': answers, 'type': 'kind'}
  fields = {
    'image': b'png',
    'captions': [f'caption {i}'],
    'questions': [entry],
  } | changes
  return {
    'id': str(i),
    'fields': {name: value for name, value in fields.items() if value},
    'metadata': metadata or {},
  }


class Source(sources.ListSource):
  """Source whose texts have no images, and whose records may be broken."""

  def read(self, index):
    if self._rows[index] is None:
      raise ConfigError('broken')
    return super().read(index)

  def read_small(self, index):
    record = self.read(index)
    small = {k: v for k, v in record['fields'].items() if k != 'image'}
    return record | {'fields': small}


def check(rows, needs, others=None, *, own=None, on_cut='raise', **settings):
  lengths = {'text': 40, 'question': 40, 'answer': 10} | settings
  built = preprocess.build(
    {
      'image': {'kind': 'image'},
      'text': {
        'kind': 'text',
        'field': 'captions',
        'length': lengths['text'],
        'metadata': lengths.get('metadata', {}),
      },
      'questions': {
        'kind': 'questions',
        'length': lengths['question'],
        'answer_length': lengths['answer'],
      },
      **(own or {}),
    }
  )
  preprocessor = preprocess.Preprocessor(
    built, tokenizers.make_byte_tokenizer()
  )
  others = {name: Source(split) for name, split in (others or {}).items()}
  names = {key: f'data.{key}_length' for key in ('text', 'question')}
  found = checks.Checks(preprocessor, needs, names, on_cut=on_cut)
  return found.run(('train', Source(rows)), others)


def test_good_data_gives_no_notes():
  rows = [make_record(i) for i in range(7)]
  needs = {'contrastive': PAIRS, 'vqa_generation': ASKED}
  assert check(rows, needs, {'val': rows}) == ()
  assert check([None, *rows, None], needs, {'val': rows}) == ()


@pytest.mark.parametrize(
  'rows, needs, message',
  [
    (
      [make_record(i, captions=None) for i in range(7)],
      {'contrastive': PAIRS},
      r'contrastive needs records with an image and a caption, but none of 7 '
      r'records of train has that \(0 have a caption\)',
    ),
    (
      [make_record(i, questions=None) for i in range(7)],
      {'contrastive': PAIRS, 'vqa_classification': ASKED},
      r'with an image and a question and an answer, .* leave it out with '
      r'--config\.tasks\.vqa_classification\.weight=0, or use',
    ),
    (
      [make_record(i, image=None) for i in range(7)],
      {'captioning': PAIRS},
      'captioning needs .* those with the rest has an image.; choose another',
    ),
    (  # Each has one of the two.
      [
        make_record(i, **({'image': None} if i % 2 else {'captions': None}))
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


def test_a_language_that_no_text_has_is_refused_with_those_there_are():
  rows = [make_record(i, captions={'de': ['a'], 'fr': ['b']}) for i in range(7)]
  own = {'said': {'kind': 'text', 'field': 'captions', 'language': 'en'}}
  with pytest.raises(
    ConfigError, match=r"said.language='en', but its texts are in de, fr\)"
  ):
    check(rows, {'align': ('image', 'said')}, own=own)


def test_a_blind_model_needs_no_image():
  rows = [make_record(i, image=None) for i in range(7)]
  assert check(rows, {'vqa_generation': ASKED[:2]}) == ()


def test_tags_are_captions_too():
  rows = [
    make_record(i, captions=None, metadata={'tags': ['a', 'b']})
    for i in range(7)
  ]
  assert check(rows, {'contrastive': PAIRS}, metadata={'tags': 2}) == ()


def test_splits_to_evaluate_on_are_refused_too():
  rows = [make_record(i) for i in range(7)]
  bad = [make_record(i, captions=None) for i in range(7)]
  with pytest.raises(ValueError, match='none of 7 records of val has that'):
    check(rows, {'contrastive': PAIRS}, {'val': bad})


@pytest.mark.parametrize(
  'kind, length', [('text', 10), ('question', 11), ('answer', 3)]
)
def test_lengths_that_cut_all_texts_are_refused(kind, length):
  rows = [make_record(i) for i in range(7)]
  shortest = {'text': 11, 'question': 12, 'answer': 4}[kind]  # <bos>, <eos>.
  needs = {'captioning': PAIRS, 'vqa_generation': ASKED}
  assert check(rows, needs, **{kind: shortest}) == ()
  with pytest.raises(ValueError) as error:
    check(rows, needs, **{kind: length})
  setting = f'data.{kind}_length'
  if kind == 'answer':  # Not among the names that `check` passes.
    setting = 'data.features.questions.answer_length'
  assert f'{setting}={length} cuts all 7 ' in str(error.value)
  assert f'they take {shortest} to {shortest} tokens' in str(error.value)
  assert f'set --config.{setting}={shortest} or so; if' in str(error.value)
  (note,) = check(rows, needs, on_cut='note', **{kind: length})
  assert note.startswith('100% of 7 ') and f'than {setting}={length} t' in note


def test_lengths_that_cut_many_texts_are_noted():
  rows = [
    make_record(i, captions=['x' * (30 if i < 2 else 3)]) for i in range(20)
  ]
  needs = {'captioning': PAIRS}
  (note,) = check([*rows, make_record(20)], needs, text=20)
  assert note.startswith(
    '10% of 21 captions are longer than data.text_length=20 '
  )
  rows += [make_record(i) for i in range(20, 60)]  # 2 of 60 are few.
  assert check(rows, needs, text=20) == ()


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
  monkeypatch.setattr(check_samples, 'SAMPLE', 5)
  # Sorted: the first half has no captions.
  rows = [
    make_record(i, **({'captions': None} if i < 50 else {})) for i in range(100)
  ]
  assert check(rows, {'contrastive': PAIRS}) == ()
  with pytest.raises(ValueError, match='none of 5 of the 50 records of train'):
    check(rows[:50], {'contrastive': PAIRS})


def test_fields_of_other_kinds_are_needed_by_their_names():
  own = {
    'said': {'kind': 'sound'},
    'age': {'kind': 'number', 'mean': 0.0, 'std': 1.0},
  }
  needs = {'regression': ('said', 'age')}
  rows = [make_record(i, said=b'wav' if i else None) for i in range(7)]
  with pytest.raises(
    ConfigError,
    match=r"regression needs records with a number 'age' and a sound 'said', "
    r".* \(0 have a number 'age'\)",
  ):
    check(rows, needs, own=own)
  rows[0]['fields']['age'] = 3.0
  with pytest.raises(ConfigError, match="with the rest has a sound 'said'"):
    check(rows, needs, own=own)
  rows[1]['fields']['age'] = 3.0
  assert check(rows, needs, own=own) == ()


def test_few_labels_are_noted_and_none_is_refused():
  def check_labelled(fraction, names):
    rows = [make_record(i, kind=[names[i % len(names)]]) for i in range(40)]
    kind = {
      'kind': 'category',
      'classes': tuple(names),
      'labelled': fraction,
    }
    return check(rows, {'classify': ('kind',)}, own={'kind': kind})

  number, missing = check_labelled(0.2, [f'k{i:02}' for i in range(40)])
  used = int(number.split('class of ')[1].split(' ')[0])
  assert 0 < used < 20 and 'of the 40 records of train' in number
  assert f'no record of {40 - used} of the 40 classes' in missing
  with pytest.raises(ConfigError, match='leaves none of the 40 records'):
    check_labelled(1e-6, ['a', 'b'])


def test_more_processes_than_cores_can_run_are_refused(monkeypatch):
  monkeypatch.setattr(checks.os, 'cpu_count', lambda: 3)
  checks.check_workers(24)
  with pytest.raises(ConfigError, match=r'num_workers=25 .* use at most 24$'):
    checks.check_workers(25)
