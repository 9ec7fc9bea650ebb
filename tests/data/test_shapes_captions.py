"""Captions describe the whole scene and can be parsed."""

import random

import pytest

from mmjax.data import shapes_captions as captions
from mmjax.data import shapes_scenes as scenes


def test_every_caption_is_the_whole_scene():
  rng = random.Random(0)
  for i in range(300):
    scene = scenes.sample_scene(rng, held_out=i % 2 == 0)
    written = captions.write_captions(scene)
    assert len(set(written)) == 4
    for caption in written:
      assert captions.parse_caption(caption) == scene, caption


def test_three_objects_are_listed_with_commas():
  scene = tuple(
    scenes.Object('small', 'red', 'star', position)
    for position in ('left', 'right', 'bottom')
  )
  assert captions.write_captions(scene)[0] == (
    'a small red star on the left, a small red star on the right '
    'and a small red star at the bottom'
  )


def test_case_and_spaces_do_not_count():
  text = ' A small  red circle at the TOP left. '
  assert captions.parse_caption(text)[0].position == 'top left'


@pytest.mark.parametrize(
  'text',
  [
    '',
    'a dog',
    'a small red circle',
    'a small red circle at the top left and a dog',
    'no, a small red circle at the top left',
    'a small red circle at the top lefty',
    'a small pink circle at the top left',
    'a small red circle at the top left, the square in the center is large '
    'and blue',
  ],
)
def test_other_texts_are_not_captions(text):
  assert captions.parse_caption(text) is None
