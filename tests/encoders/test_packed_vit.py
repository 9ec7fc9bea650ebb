"""Patches of several images in one row."""

import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders
from mmjax.ops import packing
from mmjax.pretrained import patches, preprocess

RNG = np.random.default_rng(0)
# Two images of 4 and 8 patches, the second in two windows, and padding.
PATCHES = jnp.asarray(RNG.normal(size=(1, 16, 5)), jnp.float32)
POSITIONS = jnp.asarray(RNG.integers(0, 4, (1, 16, 2)))
SEGMENTS = jnp.asarray([[1] * 4 + [2] * 8 + [0] * 4])
WINDOWS = jnp.asarray([[1] * 4 + [2] * 4 + [3] * 4 + [0] * 4])


def make(window_layers=()):
  return encoders.PackedViT(
    16, 2, 2, 7, out_width=6, window_layers=window_layers
  )


@pytest.fixture(scope='module')
def variables(draw):
  return draw(
    make(), PATCHES, POSITIONS, SEGMENTS, train=False, method='encode_patches'
  )


def encode(module, variables, part=slice(None), patches=PATCHES):
  arrays = (patches, POSITIONS, SEGMENTS, WINDOWS)
  read = functools.partial(
    module.apply, variables, train=False, method='encode_patches'
  )
  return jax.jit(read)(*(array[:, part] for array in arrays))


def test_tokens_have_their_shapes_and_masks(variables):
  out = encode(make(), variables)
  assert out.values.shape == (1, 4, 6) and out.pooled.shape == (1, 6)
  assert out.mask.tolist() == [[True, True, True, False]]
  mean = out.values[0, :3].mean(axis=0)
  np.testing.assert_allclose(out.pooled[0], mean, rtol=1e-5, atol=1e-6)


def test_an_image_is_read_as_it_is_alone(variables):
  both = encode(make(), variables).values[0]
  # Products of other shapes, in float32.
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  close(both[:1], encode(make(), variables, slice(0, 4)).values[0])
  close(both[1:3], encode(make(), variables, slice(4, 12)).values[0])


def test_windows_hide_the_rest_of_an_image(variables):
  moved = PATCHES.at[:, 8:12].add(1.0)
  for layers, same in (((0, 1), True), ((0,), False)):
    before = encode(make(layers), variables).values[0, 1]
    after = encode(make(layers), variables, patches=moved).values[0, 1]
    assert np.allclose(before, after) == same


def test_what_does_not_fit_is_refused(variables):
  with pytest.raises(
    ValueError, match='7 patches are not divisible by the 4 of a token'
  ):
    encode(make(), variables, slice(0, 7))
  with pytest.raises(ValueError, match=r'window_layers \(1,\) need windows'):
    module, arrays = make((1,)), (PATCHES, POSITIONS, SEGMENTS)
    module.apply(variables, *arrays, train=False, method='encode_patches')


def test_images_of_one_size_are_cut_into_patches(draw):
  module = encoders.PackedViT(
    16, 2, 2, 7, out_width=6, patch_size=2, window=1, window_layers=(0,)
  )
  images = RNG.integers(0, 9, (2, 4, 8, 3), np.uint8)
  variables = draw(module, np.float32(images), train=False)
  there = jnp.asarray([True, False])
  out = module.apply(variables, np.float32(images), there, train=False)
  assert out.values.shape == (2, 2, 6)
  assert out.mask.tolist() == [[True, True], [False, False]]
  cut = patches.PatchPreprocessor(
    preprocess.ImagePreprocessor(rescale_factor=1), patch_size=2, resize=False
  )
  rows, grids = zip(*(cut([image]) for image in images), strict=True)
  assert module.grid(4, 8) == grids[0]
  places = packing.patch_layout(grids[:1], 2, 1)
  want = module.apply(
    variables,
    jnp.stack(rows),
    **{k: jnp.stack([place] * 2) for k, place in places.items()},
    train=False,
    method='encode_patches',
  )
  np.testing.assert_array_equal(out.values[0], want.values[0])
  with pytest.raises(
    ValueError, match='4 x 6 pixels are not whole tokens of 4'
  ):
    module.grid(4, 6)
  with pytest.raises(ValueError, match=r'window_layers \(0,\) need the side'):
    module.clone(window=0).apply(variables, images, train=False)


def test_patches_in_rows_are_read_as_the_image_is(draw):
  images = jnp.asarray(RNG.normal(size=(2, 16, 24, 3)), jnp.float32)
  module = encoders.PackedViT(
    16, 2, 2, 7, out_width=6, patch_size=4, window=2, window_layers=(1,)
  )
  variables = draw(module, images, train=False)
  rows = einops.rearrange(
    images, 'b (r p) (c q) d -> b (r c) (p q d)', p=4, q=4
  )
  cut = encoders.ImagePatches(
    jnp.pad(rows, ((0, 0), (0, 8), (0, 0)), constant_values=9.0),
    jnp.broadcast_to(jnp.arange(32) < 24, (2, 32)),
    jnp.array([[4, 6], [4, 6]]),
  )
  present = jnp.array([True, False])
  read = lambda x: module.apply(variables, x, present, train=False)
  got, want = read(cut), read(images)
  assert got.mask.sum(axis=1).tolist() == [6, 0]
  # Attention over padding too, in float32.
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(got.values[0, :6], want.values[0])
  close(got.pooled[0], want.pooled[0])
