"""Blocks of a vision transformer that don't count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

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
