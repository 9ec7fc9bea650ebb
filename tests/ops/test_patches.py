"""Patches are cut, joined and left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders, ops
from mmjax.errors import ConfigError


def test_joined_patches_are_the_image():
  images = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  patches, grid = ops.cut_patches(images, 2)
  assert patches.shape == (2, 6, 12) and grid == (2, 3)
  np.testing.assert_array_equal(patches[0, 4, :3], images[0, 2, 2])
  np.testing.assert_array_equal(ops.join_patches(patches, grid, 3), images)


def test_ragged_pixels_are_refused_or_left_out():
  images = jnp.ones((1, 5, 4, 1))
  with pytest.raises(ConfigError, match='5 is not divisible by patch size 2'):
    ops.cut_patches(images, 2)
  assert ops.cut_patches(images, 2, ragged=True)[1] == (2, 2)


def test_channels_first_are_refused():
  with pytest.raises(ConfigError, match=r'looks like \[B, C, H, W\]; move'):
    ops.cut_patches(jnp.zeros((2, 3, 8, 8)), 4)


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((8, 8, 3), r'shape \(8, 8, 3\); of one image, pass images\[None\]'),
    ((2, 5, 8, 8, 3), r'shape \(2, 5, 8, 8, 3\); reshape'),
    ((2, 3, 8, 8), r'looks like \[B, C, H, W\]'),
  ],
)
def test_images_of_another_layout_are_refused(shape, message):
  images = jnp.zeros(shape)
  encoder = encoders.ResNet((1,), 16, block='basic', stem='small')
  for use in (
    ops.check_layout,
    lambda x: encoder.init(jax.random.key(0), x, train=False),
  ):
    with pytest.raises(ConfigError, match=message):
      jax.eval_shape(use, images)


def test_visible_patches_follow_the_first_tokens():
  x = jnp.arange(5.0).reshape(1, 5, 1)  # A class token and 4 patches.
  kept = ops.take_patches(x, jnp.array([[3, 0]]), front=1)
  np.testing.assert_array_equal(kept[0, :, 0], [0, 4, 1])
