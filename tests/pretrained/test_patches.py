"""Images of any size as rows of patches."""

import numpy as np
import PIL.Image
import pytest

from mmjax.ops import packing
from mmjax.pretrained import patches

CONFIG = {
  'patch_size': 2,
  'merge_size': 2,
  'temporal_patch_size': 2,
  'min_pixels': 64,
  'max_pixels': 400,
  'image_mean': [0.0, 0.0, 0.0],
  'image_std': [1.0, 1.0, 1.0],
}


def make(**changes):
  return patches.PatchPreprocessor.from_config({**CONFIG, **changes}, {})


@pytest.mark.parametrize(
  ('size', 'want'),
  [
    ((9, 11), (8, 12)),
    ((3, 5), (8, 12)),  # Up to 64 pixels, in whole tokens.
    ((50, 70), (16, 20)),  # Down to 400.
    ((2, 300), (4, 100)),  # From less than a token.
    ((4, 780), (4, 276)),  # No side becomes less than one.
  ],
)
def test_sizes_are_whole_tokens_within_bounds(size, want):
  assert make().fit_size(*size) == want


def test_an_image_that_is_too_long_is_refused():
  with pytest.raises(ValueError, match='1 x 201 pixels is too long'):
    make().fit_size(1, 201)


def test_patches_that_are_merged_lie_together():
  pixels = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
  cut, grid = make(do_resize=False)([PIL.Image.fromarray(pixels)])
  assert grid == packing.Grid(1, 2, 3) and cut.shape == (24, 3 * 2 * 4)
  scaled = pixels / np.float32(255)
  # The sixth patch is in the second token: first row, fourth column of patches.
  sixth = cut[5].reshape(3, 2, 2, 2)
  want = scaled[0:2, 6:8].transpose(2, 0, 1)
  np.testing.assert_allclose(sixth[:, 0], want, rtol=1e-6)
  np.testing.assert_array_equal(sixth[:, 1], sixth[:, 0])


def test_a_video_is_filled_up_with_its_last_frame():
  frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
  cut, grid = make()(list(frames))
  assert grid == packing.Grid(2, 2, 2)
  four, _ = make()([*frames, frames[-1]])
  np.testing.assert_array_equal(cut, four)
  assert grid.tokens == 8


def test_the_bounds_have_two_names():
  one = make(min_pixels=None, size={'shortest_edge': 7, 'longest_edge': 9})
  assert (one.min_pixels, one.max_pixels) == (7, 400)
