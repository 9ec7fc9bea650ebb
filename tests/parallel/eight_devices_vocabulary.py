"""The loss of a split vocabulary is that of one device.

Run by test_vocabulary.py in a process of eight devices.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.objectives import text
from mmjax.parallel import attention_forms, rules, tiled_attention, vocabulary
from mmjax.parallel import mesh as mesh_lib
from mmjax.types import FactoredLogits

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
B, T, D, V = 4, 7, 4, 16


def arrays():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = jnp.asarray(rng.random((B, T)) < 0.7)
  labels = jnp.asarray(rng.integers(0, V, (B, T)))
  # All of one token's logits are equal: the first class is the highest.
  return (draw(B, T, D).at[0, 0].set(0), draw(D, V), draw(V) * 0), labels, mask


def loss(inputs, labels, mask):
  loss, accuracy, items = text.mean_cross_entropy(
    FactoredLogits(*inputs), labels, mask, 0.1
  )
  return 2 * loss, (accuracy, jnp.where(mask, items.losses, 0))


@functools.cache
def whole():
  return jax.jit(jax.value_and_grad(loss, has_aux=True))(*arrays())


@pytest.mark.parametrize(
  'split',
  [
    {'tensor': 8},
    {'data': 2, 'fsdp': 2, 'tensor': 2},
    {'tensor': 2, 'sequence': 4},
    {'data': 8},  # More than there are examples.
  ],
  ids=str,
)
def test_split_equals_one_device(monkeypatch, split):
  want = whole()
  monkeypatch.setattr(vocabulary, 'CHUNK', 12)
  mesh = mesh_lib.build({'data': 1, **split})
  (vectors, kernel, bias), labels, mask = arrays()
  put = lambda x, *names: jax.device_put(
    x, jax.NamedSharding(mesh, rules.spec(names))
  )
  kernel = put(kernel, 'embed', 'vocab')
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules.RULES):
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    got = step((vectors, kernel, put(bias, 'vocab')), labels, mask)
  jax.tree.map(close, got, want)


def test_only_axes_that_divide_make_parts_smaller(monkeypatch):
  factors = FactoredLogits(*arrays()[0])
  query = jnp.zeros((B, 9, 2, 4))
  choose = lambda: attention_forms.choose(
    query, query, own=True, needs_weights=False
  )
  monkeypatch.setattr(vocabulary, 'CHUNK', B * T * V - 1)
  monkeypatch.setattr(attention_forms, 'WHOLE', B * 2 * 9 * 9 - 1)
  monkeypatch.setattr(tiled_attention, 'TILE', 3)
  with jax.set_mesh(mesh_lib.build({'data': 8})):
    assert not vocabulary.fits(factors) and choose() == 'tiled'
  with jax.set_mesh(mesh_lib.build({'data': 4, 'tensor': 2})):
    assert vocabulary.fits(factors) and choose() == 'plain'
