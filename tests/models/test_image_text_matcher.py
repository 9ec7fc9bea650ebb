"""Matching images with texts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import encoders, models

SMALL = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}


def test_pairs_are_matched_and_each_is_embedded_alone(draw, batch):
  model = models.ImageTextMatcher(
    image=encoders.ViT(2, **SMALL),
    text=encoders.Transformer(
      11, max_length=5, cross_attention=True, pooling='first', **SMALL
    ),
    embed_dim=5,
  )
  variables = draw(model, batch, train=False)
  apply = jax.jit(functools.partial(model.apply, train=False))
  out = apply(variables, batch)
  assert out['match_logits'].shape == (3, 2)
  # Products of other shapes, in float32.
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(jnp.linalg.norm(out['text_embedding'], axis=1), np.ones(3))
  run = functools.partial(model.apply, variables)
  image = run(batch['image'], batch['image_mask'], method='encode_image')
  close(image, out['image_embedding'])
  close(run(batch, method='match'), out['match_logits'])
  text = run(batch['text'], batch['text_mask'], method='encode_text')
  close(text, out['text_embedding'])
  other = apply(variables, {**batch, 'image': -batch['image']})
  close(other['text_embedding'], out['text_embedding'])
  assert np.all(other['match_logits'][:2] != out['match_logits'][:2])
  close(other['match_logits'][2], out['match_logits'][2])  # No image.
