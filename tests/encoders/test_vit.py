"""Blocks of a vision transformer that don't count."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders
from mmjax.errors import ConfigError

SMALL = {'width': 8, 'depth': 2, 'num_heads': 2, 'mlp_dim': 7}


@pytest.mark.parametrize(('layer', 'depth'), [(-2, 1), (0, 0), (2, 2)])
def test_a_vit_gives_what_an_earlier_block_gives(layer, depth, draw):
  images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 3)))
  module = encoders.ViT(3, layer=layer, **SMALL)
  params = draw(module, images, train=False)['params']
  got = module.apply({'params': params}, images, train=False)
  assert 'last_norm' in params
  first = jax.tree.map(lambda leaf: leaf[:depth], params['blocks'])
  short = encoders.ViT(3, **{**SMALL, 'depth': depth}, final_norm=False)
  want = short.apply(
    {'params': {**params, 'blocks': first}}, images, train=False
  )
  # The other blocks are computed too, in float32.
  np.testing.assert_allclose(got.values, want.values, rtol=1e-4, atol=1e-5)


FLAT = {**SMALL, 'depth': 0, 'final_norm': False}


@pytest.mark.parametrize(
  ('module', 'shape', 'front'),
  [
    (encoders.ViT(3, class_token=True, registers=2, **FLAT), (2, 6, 6, 3), 3),
    (
      encoders.SpectrogramTransformer(
        patch_size=3, strides=(3, 3), num_bands=6, **FLAT
      ),
      (2, 6, 6),
      2,
    ),
  ],
)
def test_visible_patches_have_the_tokens_that_they_have_among_all(
  module, shape, front, draw
):
  inputs = jnp.asarray(np.random.default_rng(0).normal(size=shape))
  params = draw(module, inputs, train=False)['params']
  visible = jnp.array([[3, 1], [0, 2]])
  run = lambda **more: module.apply(
    {'params': params}, inputs, train=False, **more
  )
  every, some = run().values, run(visible=visible)
  assert some.mask.shape == (2, front + 2)
  np.testing.assert_array_equal(some.values[:, :front], every[:, :front])
  for row in range(2):
    kept = every[row, front + visible[row]]
    np.testing.assert_array_equal(some.values[row, front:], kept)
  patches, grid = module.cut(inputs)
  assert patches.shape[:2] == (2, 4) and grid == (2, 2)


def test_patch_dropout_leaves_out_patches_in_training_alone(draw):
  module = encoders.ViT(2, class_token=True, patch_dropout=0.6, **FLAT)
  images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 3)))
  params = draw(module, images, train=False)['params']
  run = lambda **more: module.apply({'params': params}, images, **more).values
  every = run(train=False)  # [2, 1 + 9, D]
  some = run(train=True, rngs={'dropout': jax.random.key(0)})
  assert every.shape[1] == 10 and some.shape[1] == 1 + 4
  found = (some[:, :, None] == every[:, None]).all(-1)  # [2, 5, 10]
  assert (found.sum(2) == 1).all() and (found.sum(1) <= 1).all()
  assert (found[0] != found[1]).any()


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((1, 12, 12, 3), r'3 x 3 patches, .* of 2 x 2; .* position_grid=\(2, 2\)'),
    ((1, 4, 16, 3), r'1 x 4 patches, .* of 2 x 2; .* position_grid=\(2, 2\)'),
    ((1, 8, 8, 1), 'have 1 channels, the parameters are for 3'),
  ],
)
def test_images_that_the_parameters_are_not_for_are_refused(shape, message):
  model = encoders.ViT(
    patch_size=4, width=4, depth=1, num_heads=1, mlp_dim=4, positions='learned'
  )
  init = lambda shape: model.init(
    jax.random.key(0), jnp.zeros(shape), train=False
  )
  variables = jax.eval_shape(lambda: init((1, 8, 8, 3)))
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(
      lambda v: model.apply(v, jnp.zeros(shape), train=False), variables
    )


@pytest.mark.parametrize(
  'module',
  [
    encoders.ViT(3, pooling='attention', **SMALL),
    encoders.FlexibleViT(patch_size=3, position_grid=(2, 2), **SMALL),
    encoders.PackedViT(
      patch_size=3, merge_size=1, out_width=5, **{**SMALL, 'num_heads': 1}
    ),
  ],
)
def test_images_that_are_all_there_have_no_mask(module, draw):
  images = jnp.zeros((2, 6, 6, 3))
  params = draw(module, images, train=False)['params']

  def list_masks(*mask):
    """The types of what could mask logits of several keys, on the last axis."""
    read = lambda images, *mask: module.apply(
      {'params': params}, images, *mask, train=False
    )
    text = str(jax.make_jaxpr(read)(images, *mask))
    return re.findall(r'bool\[(?:\d+,){3,}(?!1\])\d+\]', text)

  assert not list_masks()
  assert list_masks(jnp.ones(2, bool))
