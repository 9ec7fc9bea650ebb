"""Modules of loaded models under `jax.vmap`: an example at a time."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import families

GOLDEN = Path(__file__).parent / 'golden'


@pytest.mark.parametrize('family', ['clip', 'vit', 'llama', 't5'])
def test_one_example_at_a_time_gives_what_the_batch_gives(family):
  model = pretrained.load(GOLDEN / family)
  shapes = families.find(model.config).inputs(model.config)
  rng = np.random.default_rng(0)

  def draw(leaf):
    shape = (3, *leaf.shape[1:])
    if leaf.dtype == np.int32:
      return rng.integers(3, 11, shape, np.int32)
    return rng.normal(size=shape).astype(leaf.dtype)

  def apply(batch):
    out = model.module.apply({'params': model.params}, batch, train=False)
    if family == 'clip':
      out.pop('logit_scale')  # One for all examples.
    return out

  def alone(example):
    out = apply(jax.tree.map(lambda leaf: leaf[None], example))
    return jax.tree.map(lambda leaf: leaf[0], out)

  batch = jax.tree.map(draw, shapes)
  # Logits up to 10, after two blocks in float32.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4),
    jax.jit(jax.vmap(alone))(batch),
    jax.jit(apply)(batch),
  )
