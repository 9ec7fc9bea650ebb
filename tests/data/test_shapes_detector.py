"""The reader of drawn scenes: right on true images, strict on others."""

import random

import numpy as np
import pytest

from mmjax.data import shapes_captions, shapes_detector, shapes_drawing
from mmjax.data import shapes_scenes as scenes
from mmjax.errors import ConfigError

SCENE = (
  scenes.Object('small', 'red', 'circle', 'top left'),
  scenes.Object('large', 'blue', 'square', 'center'),
)


def draw(scene=SCENE, seed=0):
  return shapes_drawing.draw(scene, random.Random(seed))


@pytest.mark.parametrize('held_out', (False, True))
def test_nearly_all_true_images_are_read_right(held_out):
  rng = random.Random(3)
  number, right = 200, 0
  for _ in range(number):
    scene = scenes.sample_scene(rng, held_out=held_out)
    found = shapes_detector.read(shapes_drawing.draw(scene, rng))
    right += found == shapes_detector.Reading(scene)
  assert right >= 0.99 * number


@pytest.mark.parametrize('caption', shapes_captions.write_captions(SCENE))
def test_a_caption_of_any_form_holds(caption):
  assert shapes_detector.holds(draw(), caption)


@pytest.mark.parametrize(
  'i, change',
  [
    (0, {'size': 'large'}),
    (0, {'color': 'orange'}),
    (1, {'shape': 'circle'}),
    (1, {'position': 'right'}),
  ],
)
def test_one_wrong_attribute_is_enough(i, change):
  asked = list(SCENE)
  asked[i] = asked[i]._replace(**change)
  (caption, *_) = shapes_captions.write_captions(tuple(asked))
  assert not shapes_detector.holds(draw(), caption)


def test_a_missing_object_and_one_too_many_do_not_hold():
  (caption, *_) = shapes_captions.write_captions(SCENE)
  assert not shapes_detector.holds(draw(SCENE[:1]), caption)
  more = (*SCENE, scenes.Object('small', 'gray', 'star', 'bottom'))
  assert not shapes_detector.holds(draw(more), caption)


def test_what_is_no_object_is_unclear():
  image = draw(())
  assert shapes_detector.read(image) == shapes_detector.Reading(())
  image[18:30, 20:23] = (190, 30, 30)  # A bar of a right color.
  assert shapes_detector.read(image) == shapes_detector.Reading((), ('center',))
  image = draw(SCENE[1:])
  noise = np.random.default_rng(0).normal(0, 40, image.shape)
  noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
  assert shapes_detector.read(noisy).unclear


def test_other_inputs_are_refused():
  with pytest.raises(ConfigError, match=r'images of shapes are \[48, 48, 3\]'):
    shapes_detector.read(np.zeros((32, 48, 3), np.uint8))
  with pytest.raises(ConfigError, match="'a cat' is not a caption of shapes"):
    shapes_detector.holds(draw(), 'a cat')
