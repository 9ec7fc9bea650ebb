"""The kernels for TPUs equal plain attention; they compile for a TPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops
from mmjax.parallel import splash_attention

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-5)
LENGTH = 131
ROW = jnp.arange(LENGTH)
SEGMENTS = jnp.stack([1 + ROW // 50, jnp.where(ROW < 97, 1 + ROW % 2, 0)])
REAL = jnp.stack([ROW % 5 > 0, ROW > LENGTH])[:, None]
CASES = {
  'keys': (
    LENGTH,
    257,
    {'mask': jnp.arange(257) < jnp.array([[[200]], [[0]]])},
  ),
  'causal': (256, 256, {'causal': True}),
  'all': (
    *(LENGTH, LENGTH),
    {'causal': True, 'segments': SEGMENTS, 'mask': REAL},
  ),
}


def _arrays(length, keys, mask=None):
  """Queries, keys and values; what the mask leaves out is NaN."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  query, *others = (
    draw(2, length, 6, 5),
    draw(2, keys, 2, 5),
    draw(2, keys, 2, 5),
  )
  if mask is not None:
    others = [jnp.where(mask[:, 0, :, None, None], x, jnp.nan) for x in others]
  return query, *others


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_kernels_equal_the_plain_form(name, monkeypatch):
  monkeypatch.setattr(splash_attention, 'BLOCK', 128)  # Two or three blocks.
  length, keys, structure = CASES[name]
  mask, segments = (structure.get(n) for n in ('mask', 'segments'))
  inputs = _arrays(length, keys, mask)
  dense = ops.allowed_keys(
    mask,
    earlier=ops.causal_mask(length) if 'causal' in structure else None,
    segments=None if segments is None else (segments, segments),
  )
  splash = functools.partial(
    splash_attention.splash_attention, interpret=True, **structure
  )
  plain = lambda *inputs: ops.dot_product_attention(*inputs, dense)[0]

  def compute(function):
    loss = lambda *inputs: jnp.sum(jnp.sin(function(*inputs)))
    both = lambda *i: (function(*i), jax.grad(loss, (0, 1, 2))(*i))
    return jax.jit(both)(*inputs)

  jax.tree.map(close, compute(splash), compute(plain))
