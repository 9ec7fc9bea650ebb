"""Losses in chunks of tokens equal those of whole logits."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives
from mmjax.objectives import text
from mmjax.parallel import vocabulary
from mmjax.types import FactoredLogits

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
B, T, D, V = 2, 5, 3, 11


def arrays(bias):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = jnp.asarray([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
  labels = jnp.asarray(rng.integers(0, V, (B, T)))
  inputs = draw(B, T, D), draw(D, V), draw(V) if bias else None
  return inputs, labels, mask


def compute(inputs, labels, mask, smoothing, dtype=jnp.float32):
  """Loss, accuracy and losses, and the gradients of twice the loss."""

  def loss(inputs):
    vectors, kernel, bias = inputs
    factors = FactoredLogits(
      vectors.astype(dtype),
      kernel.astype(dtype),
      bias,
      softcap=None if bias is None else 1.5,
    )
    loss, accuracy, items = text.mean_cross_entropy(
      factors, labels, mask, smoothing
    )
    return 2 * loss, (loss, accuracy, jnp.where(mask, items.losses, 0))

  return jax.jit(jax.grad(loss, has_aux=True))(inputs)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_chunks_equal_the_whole(monkeypatch, bias, smoothing):
  inputs, labels, mask = arrays(bias)
  whole = compute(inputs, labels, mask, smoothing)
  monkeypatch.setattr(vocabulary, 'CHUNK', 3 * V)  # Ten tokens in chunks of 3.
  jax.tree.map(close, compute(inputs, labels, mask, smoothing), whole)
  spoilt = jnp.where(mask[..., None], inputs[0], jnp.nan), *inputs[1:]
  jax.tree.map(close, compute(spoilt, labels, mask, smoothing), whole)


@pytest.mark.parametrize(('bias', 'softcap'), [(False, 1.5), (True, None)])
def test_log_probabilities_of_tokens_have_gradients(monkeypatch, bias, softcap):
  """Any loss of them, at a temperature, in chunks as of the whole."""
  inputs, labels, mask = arrays(bias)
  weights = jnp.asarray(np.random.default_rng(1).normal(size=(B, T)))
  ids = jnp.pad(labels, ((0, 0), (1, 0)))
  kept = jnp.pad(mask, ((0, 0), (1, 0)))

  def loss(inputs):
    factors = FactoredLogits(*inputs, softcap=softcap)
    found = text.token_log_probs(factors, ids, kept, 0.7)
    return (weights * found**2).sum(), found

  run = lambda inputs: jax.jit(jax.grad(loss, has_aux=True))(inputs)
  whole, found = run(inputs)
  factors = FactoredLogits(*inputs, softcap=softcap)
  logits = vocabulary.multiply(factors) / 0.7
  want = -text.cross_entropy(logits, labels)
  close(found, jnp.where(mask, want, 0))
  monkeypatch.setattr(vocabulary, 'CHUNK', 3 * V)
  spoilt = jnp.where(mask[..., None], inputs[0], jnp.nan), *inputs[1:]
  jax.tree.map(close, run(spoilt), (whole, found))


def test_bfloat16_chunks_are_as_precise(monkeypatch):
  inputs, labels, mask = arrays(False)
  whole = compute(inputs, labels, mask, 0.0, jnp.bfloat16)
  monkeypatch.setattr(vocabulary, 'CHUNK', 3 * V)
  got = compute(inputs, labels, mask, 0.0, jnp.bfloat16)
  near = functools.partial(close, rtol=2e-2, atol=2e-3)  # 8 bits.
  jax.tree.map(near, got, whole)


def test_no_token_gives_zeros(monkeypatch):
  inputs, labels, mask = arrays(True)
  monkeypatch.setattr(vocabulary, 'CHUNK', 3 * V)
  found = compute(inputs, labels, mask & False, 0.1)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(found))


def test_answers_to_several_questions(monkeypatch):
  inputs, labels, mask = arrays(True)
  wide = lambda x: jnp.stack([x, x], axis=1)
  vectors = wide(inputs[0])
  given = FactoredLogits(vectors, *inputs[1:])
  ids = jnp.pad(wide(labels), ((0, 0), (0, 0), (1, 0)))
  kept = jnp.pad(wide(mask), ((0, 0), (0, 0), (1, 0)))
  want = objectives.next_token_loss(vocabulary.multiply(given), ids, kept)
  monkeypatch.setattr(vocabulary, 'CHUNK', 3 * V)
  jax.tree.map(close, objectives.next_token_loss(given, ids, kept), want)


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices_vocabulary.py')
