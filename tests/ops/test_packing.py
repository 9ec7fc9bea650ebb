"""Where patches and tokens of images are."""

import numpy as np

from mmjax.ops import packing


def test_places_by_hand():
  grids = [packing.Grid(1, 1, 2), packing.Grid(2, 1, 1)]
  out = packing.patch_layout(grids, merge_size=2, window=1)
  rows = [0, 0, 1, 1] * 4
  columns = [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 0, 1, 0, 1]
  np.testing.assert_array_equal(out['positions'][:, 0], rows)
  np.testing.assert_array_equal(out['positions'][:, 1], columns)
  segments = [1] * 8 + [2] * 4 + [3] * 4
  np.testing.assert_array_equal(out['segments'], segments)
  windows = [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
  np.testing.assert_array_equal(out['windows'], windows)
  assert 'windows' not in packing.patch_layout(grids, merge_size=2)


def test_rotary_positions_by_hand():
  grids = [packing.Grid(1, 1, 3), packing.Grid(2, 1, 1, interval=2.5)]
  ids = [1, 9, 9, 9, 2, 8, 8, 3]
  out = packing.rotary_positions(ids, grids, (9, 8))
  assert out.tolist() == [
    [0, 0, 0],
    [1, 1, 1],
    [1, 1, 2],
    [1, 1, 3],
    [4, 4, 4],
    [5, 5, 5],
    [7, 5, 5],
    [8, 8, 8],
  ]
