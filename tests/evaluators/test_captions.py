"""Written captions by hand."""

import collections

import jax.numpy as jnp
import pytest

from mmjax import evaluators
from mmjax.data import shapes_captions, sources

Thing = collections.namedtuple('Thing', 'color shape')
ROWS = (
  {'captions': ('a cat', 'one cat')},
  {'captions': ('a dog',)},
  {'captions': ('a cow',)},
)


def run(source, preprocessor, number_of, written, **settings):
  ids = jnp.stack([preprocessor.tokenizer.encode(w, 12)[0] for w in written])
  generate = lambda params, batch: ids[number_of(batch['image'])]
  evaluator = evaluators.Captions(
    generate, source, preprocessor, batch_size=2, **settings
  )
  assert evaluator.render() is None
  return evaluator, dict(evaluator.run({}))


def test_captions_by_hand(make_source, preprocessor, number_of):
  written = ('one cat', 'a dog', 'a cat')
  evaluator, values = run(
    make_source(ROWS), preprocessor, number_of, written, name='c'
  )
  assert values['c/exact'] == pytest.approx(2 / 3)
  assert values['c/chance_exact'] == 0
  assert set(values) == {
    f'c/{key}'
    for key in ('exact', 'chance_exact', 'bleu4', 'rouge_l', 'cider_d')
  }
  assert min(evaluator.render().size) > 0


def test_what_captions_say_is_counted(make_source, preprocessor, number_of):
  def parse(caption):
    words = caption.split()
    return [Thing(*words)] if len(words) == 2 else None

  _, values = run(
    make_source(ROWS),
    preprocessor,
    number_of,
    ('a cat', 'one dog', 'cow'),
    parse=parse,
  )
  assert values['captions/objects'] == pytest.approx(1 / 3)
  assert values['captions/attribute/color'] == pytest.approx(1 / 3)
  assert values['captions/attribute/shape'] == pytest.approx(2 / 3)
  assert values['captions/number'] == pytest.approx(2 / 3)


def test_records_without_captions_are_left_out(
  make_source, preprocessor, number_of
):
  rows = (ROWS[0], {}, ROWS[2])
  _, values = run(
    make_source(rows), preprocessor, number_of, ('a cat', 'a dog', 'a hen')
  )
  assert values['captions/exact'] == 1 / 2


def test_records_without_images_are_left_out(
  make_source, preprocessor, number_of
):
  records = list(make_source(ROWS))
  del records[1]['fields']['image']
  source = sources.ListSource(records)
  evaluator, values = run(
    source, preprocessor, number_of, ('a cat', 'a dog', 'a hen')
  )
  assert values['captions/exact'] == 1 / 2
  assert evaluator.render() is not None
  for record in records:
    record['fields'].pop('image', None)
  with pytest.raises(ValueError, match='both an image and a caption'):
    run(source, preprocessor, number_of, ('a cat', 'a dog', 'a hen'))


def test_a_source_without_captions_is_refused(
  make_source, preprocessor, number_of
):
  with pytest.raises(ValueError, match='none of 2 records has a caption'):
    run(make_source(({}, {})), preprocessor, number_of, ('a', 'b'))


def test_attribute_accuracy_by_hand():
  red, blue = Thing('red', 'disc'), Thing('blue', 'disc')
  written = [[red], [blue, red], None, [red, red], [red]]
  references = [[red], [blue, blue], [red], [red], None]
  values = evaluators.attribute_accuracy(written, references)
  # Five true objects; the last example has no truth.
  assert values == pytest.approx(
    {
      'objects': 3 / 5,
      'attribute/color': 3 / 5,
      'attribute/shape': 4 / 5,
      'number': 2 / 4,
    }
  )


def test_nothing_to_compare_is_refused():
  with pytest.raises(ValueError, match='none of the reference captions'):
    evaluators.attribute_accuracy([None], [None])


def test_the_captions_of_shapes_can_be_parsed():
  assert evaluators.PARSERS['shapes'] is shapes_captions.parse_caption
