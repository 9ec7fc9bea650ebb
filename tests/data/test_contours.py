"""Edges, by hand."""

import numpy as np

from mmjax.data import contours


def test_sharpness_goes_towards_the_mean_or_away_from_it():
  image = np.full((9, 9, 3), 90, np.uint8)
  image[4, 4] = 99  # The mean there is 91.
  seen = [
    int(contours.sharpness(image, np.random.default_rng(i), p=1)[4, 4, 0])
    for i in range(50)
  ]
  assert 91 <= min(seen) <= 93
  assert 105 <= max(seen) <= 107


def test_outlines_by_hand():
  image = np.full((5, 6, 3), 200, np.uint8)
  image[:, 3:] = 149  # An edge of 51, a fifth of the range.
  rng = np.random.default_rng(0)
  drawn = contours.outline(image, rng, strength=(2, 2), drawing=0, p=1)
  # Two fifths darker on both sides of the edge.
  np.testing.assert_array_equal(drawn[2, :, 0], [200, 200, 120, 89, 149, 149])
  lines = contours.outline(image, rng, strength=(2, 2), drawing=1, p=1)
  np.testing.assert_array_equal(lines[2, :, 1], [255, 255, 153, 153, 255, 255])
  black = contours.outline(image, rng, strength=(9, 9), drawing=1, p=1)
  assert (black[:, 2:4] == 0).all()
