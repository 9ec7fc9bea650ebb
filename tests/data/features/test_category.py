"""Classes are learnt from the training records and become numbers."""

import numpy as np
import pytest

from mmjax.data import features, sources
from mmjax.errors import ConfigError


def make_source(*values, field='kind'):
  rows = [
    {'id': str(i), 'fields': {field: v} if v else {}, 'metadata': {'n': [v]}}
    for i, v in enumerate(values)
  ]
  return sources.ListSource(rows, kinds={field: 'category'})


def make(feature, value):
  return feature.make_arrays(value, None, flips=True)


def test_classes_are_those_of_training_by_alphabet():
  source = make_source(['dog'], ['cat'], None, ['dog'], ['ant'])
  feature = features.Category(name='kind')
  assert not feature.is_fitted
  fitted = feature.fit(source)
  assert fitted.classes == ('ant', 'cat', 'dog')
  assert make(fitted, ['dog']) == {'kind': 2, 'kind_mask': True}
  assert make(fitted, ['bee']) == {'kind': 0, 'kind_mask': False}
  assert fitted.fit(make_source(['x'], ['y'])) == fitted


def test_several_classes_are_ones():
  feature = features.Category(name='kind', multi_label=True)
  fitted = feature.fit(make_source(['b', 'a'], ['c']))
  example = make(fitted, ['c', 'a', 'new'])
  np.testing.assert_array_equal(example['kind'], [1, 0, 1])
  assert example['kind'].dtype == np.float32 and example['kind_mask']


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ([['a'], ['a', 'b']], r'the classes a, b; with .*kind\.multi_label'),
    ([['a'], ['a']], r"have \['a'\] in the field 'kind', which needs at"),
    ([None], 'have no class'),
  ],
)
def test_records_without_classes_to_learn_are_refused(values, message):
  with pytest.raises(ConfigError, match=message):
    features.Category(name='kind').fit(make_source(*values))


def test_a_metadata_field_can_be_the_class():
  rows = [
    {'id': n, 'fields': {}, 'metadata': {'style': s}}
    for n, s in (('a', 'ink'), ('b', 3), ('c', None))
  ]
  wrong = features.Category(name='style', field='metadata/styl')
  with pytest.raises(ConfigError, match='their metadata have style'):
    wrong.fit(sources.ListSource(rows))
  feature = features.Category(name='style', field='metadata/style')
  fitted = feature.fit(sources.ListSource(rows))
  assert fitted.classes == ('3', 'ink')
  assert make(fitted, fitted.choose(rows[1], None))['style'] == 0
  assert fitted.choose(rows[2], None) is None
  number = features.Number(name='n', field='metadata/style', mean=0.0, std=2.0)
  assert make(number, number.choose(rows[1], None))['n'] == 1.5
  with pytest.raises(ConfigError, match="'ink' is not a number"):
    number.choose(rows[0], None)
  sound = features.Sound(name='said', field='metadata/style')
  with pytest.raises(ConfigError, match='metadata holds no sound'):
    sound.choose(rows[0], None)


def test_people_name_a_class():
  feature = features.Category(name='kind', classes=('cat', 'dog'))
  assert feature.prepare('dog') == {'kind': 1, 'kind_mask': True}
  with pytest.raises(ConfigError, match="no class 'bee'; it has cat, dog"):
    feature.prepare('bee')
  with pytest.raises(ConfigError, match='kind is one class, not cat, dog'):
    feature.prepare(['cat', 'dog'])


def test_labels_of_a_fraction_are_nested_and_hidden_in_training_alone():
  rows = [
    {'id': f'train-{i}', 'fields': {'kind': ['ab'[i % 2]]}, 'metadata': {}}
    for i in range(2_000)
  ]
  rng = np.random.default_rng(0)

  def select(fraction):
    feature = features.Category(
      name='kind', classes=('a', 'b'), labelled=fraction
    )
    assert all(feature.choose(row, None) for row in rows)  # Evaluation.
    return {row['id'] for row in rows if feature.choose(row, rng)}

  few, more = select(0.05), select(0.1)
  assert 70 < len(few) < 130 and few < more < select(1.0)
  assert few == select(0.05)
  with pytest.raises(ConfigError, match='labelled=0 is not legal: more than 0'):
    features.Category(name='kind', labelled=0)
