"""Images of different shapes in one batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

GRIDS = np.asarray([[3, 4], [2, 3], [5, 2]], np.int32)


def images(length=12):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(3, 12, 7)).astype(np.float32)
  values = np.pad(values, ((0, 0), (0, length - 12), (0, 0)))
  mask = np.arange(length)[None] < GRIDS.prod(axis=1)[:, None]
  return encoders.ImagePatches(
    jnp.asarray(values), jnp.asarray(mask), jnp.asarray(GRIDS)
  )


@pytest.fixture(scope='module')
def made(draw):
  module = encoders.FlexibleViT(
    8, 1, 2, 5, position_grid=(2, 3), pooling='attention'
  )
  variables = draw(module, images(), train=False)
  return variables, jax.jit(functools.partial(module.apply, train=False))


def test_padding_changes_nothing(made):
  variables, apply = made
  out = apply(variables, images())
  assert out.values.shape == (3, 12, 8) and out.pooled.shape == (3, 8)
  spoilt = images().replace(
    values=jnp.where(images().mask[:, :, None], images().values, 9.0)
  )
  # Sums of other lengths, in float32.
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(apply(variables, spoilt).pooled, out.pooled)
  close(apply(variables, images(17)).pooled, out.pooled)
  alone = jax.tree.map(lambda leaf: leaf[1:2], images())
  close(apply(variables, alone).pooled, out.pooled[1:2])


def test_the_same_patches_in_another_grid_differ(made):
  variables, apply = made
  turned = images().replace(grid=jnp.asarray(GRIDS[:, ::-1]))
  one, other = apply(variables, images()), apply(variables, turned)
  assert not np.any(np.all(np.isclose(one.pooled, other.pooled), axis=1))


def test_an_absent_image_has_no_tokens(made):
  variables, apply = made
  present = jnp.asarray([True, False, True])
  out = apply(variables, images(), present)
  assert not out.mask[1].any() and np.all(np.isfinite(out.values))
  np.testing.assert_array_equal(out.mask[::2], images().mask[::2])


def test_a_gradient_reaches_every_parameter(made):
  variables, apply = made

  @jax.jit
  def gradient(params):
    return jax.grad(
      lambda p: jnp.sum(apply({'params': p}, images()).pooled ** 3)
    )(params)

  for path, leaf in jax.tree.leaves_with_path(gradient(variables['params'])):
    where = jax.tree_util.keystr(path)
    # Softmax takes away what is added to all keys alike.
    if "['key']['bias']" not in where:
      assert np.any(leaf != 0), where


def test_images_of_one_size_are_cut_into_patches(draw):
  module = encoders.FlexibleViT(8, 1, 2, 5, position_grid=(2, 3), patch_size=2)
  pixels = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
  variables = draw(module, pixels, train=False)
  tiles = [
    pixels[:, y : y + 2, x : x + 2].reshape(2, -1)
    for y in (0, 2)
    for x in (0, 2, 4)
  ]
  cut = encoders.ImagePatches(
    jnp.stack(tiles, axis=1),
    jnp.ones((2, 6), bool),
    jnp.asarray([[2, 3]] * 2, jnp.int32),
  )
  apply = functools.partial(module.apply, variables, train=False)
  np.testing.assert_array_equal(apply(pixels).values, apply(cut).values)
  with pytest.raises(ValueError, match='4 x 5 pixels are not whole patches'):
    apply(pixels[:, :, :5])
