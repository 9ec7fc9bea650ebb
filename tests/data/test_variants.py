"""What training batches of several shapes can be."""

import pytest

from mmjax.data import preprocess, variants
from mmjax.errors import ConfigError

IMAGE = {'kind': 'flexible_image', 'patch_size': 2, 'lengths': (4, 9, 16)}


def list_variants(**features):
  built = preprocess.build(features)
  return variants.list_variants(preprocess.Preprocessor(built))


def test_shorter_images_have_larger_batches():
  found = list_variants(image=IMAGE | {'constant_tokens': True})
  assert [one.count_examples(24, 8) for one in found] == [96, 40, 24]
  shapes = {key: shape for one in found for key, shape in one.shapes.items()}
  assert shapes == {'image': (16, 12), 'image_mask': (16,)}
  assert [one.count_examples(24, 8) for one in list_variants(image=IMAGE)] == [
    24
  ] * 3


def test_two_features_of_several_lengths_are_refused():
  with pytest.raises(ConfigError, match=r'features\.image and .*\.x both draw'):
    list_variants(image=IMAGE, x=IMAGE | {'field': 'image'})


@pytest.mark.parametrize(
  'lengths, message',
  [
    (4, 'lengths=4 is not legal; use a tuple$'),
    (('a',), r"lengths=\('a',\) is not legal; use different whole numbers"),
    ((4,), r'lengths=\(4,\) has one length; set it as `tokens`'),
  ],
)
def test_lengths_that_are_not_several_are_refused(lengths, message):
  with pytest.raises(ConfigError, match=message):
    preprocess.build({'image': {**IMAGE, 'lengths': lengths}})
