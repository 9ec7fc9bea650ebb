"""Retrieval by hand: images and texts are put on a line of unit vectors."""

import jax.numpy as jnp
import pytest

from mmjax import evaluators
from mmjax.data import sources

# Captions start with 'a', 'b', ...: what the fake model knows of them.
ROWS = (
  {'captions': ('a', 'b'), 'style': 'x'},
  {'captions': ('c',), 'style': 'x'},
  {'captions': ('d',), 'style': 'y'},
)


def unit(angle):
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


@pytest.fixture
def evaluate(make_source, preprocessor, number_of):
  first = {c: preprocessor.tokenizer.encode(c, 3)[0][1] for c in 'abcd'}

  def run(texts, rows=ROWS, blank=(), **settings):
    """Image i lies at angle i; `texts` gives captions' angles.

    Records `blank` have no image.
    """
    records = list(make_source(rows))
    for i in blank:
      del records[i]['fields']['image']

    def embed_images(params, batch):
      return unit(params * number_of(batch['image']))

    def embed_texts(params, batch):
      angle = sum(
        jnp.where(batch['text'][:, 1] == first[c], texts[c], 0.0) for c in texts
      )
      return unit(params * angle)

    evaluator = evaluators.Retrieval(
      {'image': embed_images, 'text': embed_texts},
      sources.ListSource(records),
      preprocessor,
      batch_size=2,
      **settings,
    )
    assert evaluator.render() is None
    return evaluator, dict(evaluator.run(jnp.asarray(0.5)))

  return run


def test_several_captions_an_image(evaluate):
  # Image 0 finds 'a' first. 'b' lies at image 1, which so finds 'b' before
  # its 'c'; 'c' is nearest to image 2, 'd' too.
  evaluator, values = evaluate({'a': 0.1, 'b': 1.1, 'c': 1.7, 'd': 2.1})
  assert values == pytest.approx(
    {
      'retrieval/image_to_text_r1': 2 / 3,
      'retrieval/image_to_text_r5': 1,
      'retrieval/image_to_text_r10': 1,
      'retrieval/text_to_image_r1': 2 / 4,
      'retrieval/text_to_image_r5': 1,
      'retrieval/text_to_image_r10': 1,
      'retrieval/mean_r1': (2 / 3 + 2 / 4) / 2,
      'retrieval/chance_r1': 1 / 3,
    }
  )
  sheet = evaluator.render()
  assert min(sheet.size) > 0


def test_galleries_compete_among_themselves(evaluate):
  # Image 2 is alone in its gallery; 'c' is now nearest to image 1.
  _, values = evaluate(
    {'a': 0.1, 'b': 1.1, 'c': 1.7, 'd': 2.1}, gallery_by='style', name='r'
  )
  # Gallery x: image 0 right, image 1 wrong; texts a and c of a, b, c right.
  assert values['r/image_to_text_r1'] == pytest.approx(1 / 2 * 2 / 3 + 1 / 3)
  assert values['r/text_to_image_r1'] == pytest.approx(2 / 3 * 2 / 3 + 1 / 3)
  assert values['r/chance_r1'] == pytest.approx(1 / 2 * 2 / 3 + 1 / 3)


def test_only_the_first_records(evaluate):
  _, values = evaluate({'a': 0.1, 'b': 0.2, 'c': 1.0}, num_examples=2)
  assert values['retrieval/mean_r1'] == 1
  assert values['retrieval/chance_r1'] == 1 / 2


def test_records_without_images_are_left_out(evaluate, make_source):
  # 'b' would be the image's first, and 'd' would find it.
  rows = ({'captions': ('a',)}, {'captions': ('b',)}, {'captions': ('d',)})
  angles = {'a': 0.1, 'b': 0.0, 'd': 2.1}
  _, values = evaluate(angles, rows=rows)
  assert values['retrieval/image_to_text_r1'] == 1 / 3
  evaluator, values = evaluate(angles, rows=rows, blank=(1,))
  assert values['retrieval/image_to_text_r1'] == 1
  assert values['retrieval/text_to_image_r1'] == 1
  assert values['retrieval/chance_r1'] == 1 / 2
  assert evaluator.render() is not None
  with pytest.raises(ValueError, match='none of 3 records has an image'):
    evaluate(angles, rows=rows, blank=(0, 1, 2))
  with pytest.raises(ValueError, match='none of 2 records with an image has a'):
    evaluate({'a': 0.9}, rows=({}, {}, {'captions': ('a',)}), blank=(2,))


def test_a_record_without_captions_only_distracts(evaluate):
  rows = ({'captions': ('a',)}, {}, {'captions': ('d',)})
  evaluator, values = evaluate({'a': 0.9, 'd': 2.0}, rows=rows)
  # 'a' is nearest to the image without captions.
  assert values['retrieval/text_to_image_r1'] == 1 / 2
  assert values['retrieval/image_to_text_r1'] == 1
  assert evaluator.render() is not None
