"""The warp crops, rotates and deforms images continuously."""

import numpy as np
import pytest

from mmjax.data import warp


def test_a_warp_of_strength_zero_is_the_identity():
  image = np.random.default_rng(1).integers(0, 256, (11, 13, 3), np.uint8)
  rng = np.random.default_rng(0)
  whole = warp.warp(image, rng, scale=(1, 1), ratio=(1, 1))
  np.testing.assert_array_equal(whole, image)


def test_a_warp_shrinks_within_and_enlarges_without_showing_the_outside():
  black = np.zeros((20, 20, 3), np.uint8)
  for seed in range(10):
    rng = np.random.default_rng(seed)
    # A window of twice the sides: a quarter of it is the image.
    small = warp.warp(black, rng, scale=(4, 4), ratio=(1, 1), fill=255)
    assert abs((small == 0).mean() - 0.25) < 0.06  # Half a pixel a side.
    large = warp.warp(black, rng, scale=(0.2, 0.5), fill=255)
    assert (large == 0).all()


def test_rotation_by_hand():
  image = np.zeros((21, 21, 3), np.uint8)
  image[:10] = 255
  # Seeds with a rotation between 80 and 90 degrees either way.
  sides = set()
  for seed in range(200):
    turned = warp.warp(
      image, np.random.default_rng(seed), scale=(1, 1), ratio=(1, 1), degrees=90
    )
    left, right = turned[8:13, 2].mean(), turned[8:13, -3].mean()
    if abs(left - right) > 250:
      sides.add(left > right)
  assert sides == {True, False}


def test_an_elastic_warp_is_smooth():
  ramp = np.arange(0, 240, 5, dtype=np.uint8)
  image = np.broadcast_to(ramp[None, :, None], (48, 48, 3))
  rng = np.random.default_rng(0)
  bent = warp.warp(
    image, rng, scale=(0.2, 0.2), ratio=(1, 1), elastic=0.05
  ).astype(int)
  assert (np.diff(bent[..., 0], axis=0) != 0).any()  # Columns aren't straight.
  assert np.abs(np.diff(bent, axis=0)).max() <= 10  # And nothing is torn.


@pytest.mark.parametrize('wrong', [{'scale': (0, 1)}, {'cells': 0}])
def test_an_empty_window_is_refused(wrong):
  image = np.zeros((4, 4, 3), np.uint8)
  with pytest.raises(ValueError, match='not both above 0; use'):
    warp.warp(image, np.random.default_rng(0), **wrong)
