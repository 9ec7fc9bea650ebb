"""Formulas against independent computations in numpy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import fusion
from mmjax.types import TokenVectors

# float32 against float64.
TOLERANCE = {'rtol': 2e-5, 'atol': 2e-5}
NAMES = ('a', 'b', 'c')
WIDTHS = (5, 7, 3)


def make_inputs(size=2):
  """Vectors by modality, and tokens whose summaries they are."""
  rng = np.random.default_rng(3)
  vectors = {
    name: rng.normal(size=(size, width))
    for name, width in zip(NAMES, WIDTHS, strict=True)
  }
  tokens = {
    name: TokenVectors(
      jnp.zeros((size, 1, x.shape[1])),
      jnp.ones((size, 1), bool),
      jnp.asarray(x, jnp.float32),
    )
    for name, x in vectors.items()
  }
  return vectors, tokens


def apply(module, tokens, draw):
  """The result in numpy, and the parameters in float64."""
  variables = draw(module, tokens, train=False)
  out = module.apply(variables, tokens, train=False)
  params = variables.get('params', {})
  as_double = lambda leaf: np.asarray(leaf, np.float64)
  return np.asarray(out.pooled), jax.tree.map(as_double, params)


def affine(params, x):
  return x @ params['kernel'] + params.get('bias', 0)


def normalise(x):
  x = np.sign(x) * np.sqrt(np.abs(x))
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def with_one(x):
  return np.concatenate([np.ones((len(x), 1)), x], axis=1)


def test_tensor_fusion_is_a_dense_layer_on_an_outer_product(draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.TensorFusion(4, size=2), tokens, draw)
  a, b, c = (
    with_one(np.maximum(affine(p[f'{n}_projection'], vectors[n]), 0))
    for n in NAMES
  )
  outer = np.einsum('bi,bj,bk->bijk', a, b, c).reshape(len(a), -1)
  assert outer.shape == (2, 27)
  np.testing.assert_allclose(out, affine(p['output'], outer), **TOLERANCE)


def test_low_rank_fusion_is_its_full_tensor(draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.LowRankFusion(4, rank=3), tokens, draw)
  # [D_m + 1, R, D]: the row of the 1 is the bias.
  factors = [
    np.concatenate(
      [p[f'{n}_factor']['bias'][None], p[f'{n}_factor']['kernel']]
    ).reshape(-1, 3, 4)
    for n in NAMES
  ]
  whole = np.einsum('ird,jrd,krd->ijkd', *factors)
  inputs = [with_one(vectors[n]) for n in NAMES]
  expected = np.einsum('bi,bj,bk,ijkd->bd', *inputs, whole) + p['bias']
  np.testing.assert_allclose(out, expected, **TOLERANCE)


def test_mutan_is_its_full_tensor(draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.Mutan(4, size=2, rank=3), tokens, draw)
  inputs = [np.tanh(affine(p[f'{n}_projection'], vectors[n])) for n in NAMES]
  cores = [p[f'{n}_core']['kernel'].reshape(2, 3, 2) for n in NAMES]
  core = np.einsum('irz,jrz,krz->ijkz', *cores)  # Of rank 3 in each slice z.
  whole = np.einsum('ijkz,zd->ijkd', core, p['output']['kernel'])
  expected = np.einsum('bi,bj,bk,ijkd->bd', *inputs, whole)
  np.testing.assert_allclose(out, expected + p['output']['bias'], **TOLERANCE)


def test_block_fusion_is_a_block_diagonal_tensor(draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.BlockFusion(4, size=6, chunks=2, rank=2), tokens, draw)
  whole = np.zeros((6, 6, 6, 6))
  for i in range(2):
    chunk = slice(3 * i, 3 * i + 3)
    cores = [p[f'{n}_core'][i] for n in NAMES]
    whole[chunk, chunk, chunk, chunk] = np.einsum('irz,jrz,krz->ijkz', *cores)
  inputs = [affine(p[f'{n}_projection'], vectors[n]) for n in NAMES]
  z = np.einsum('bi,bj,bk,ijkz->bz', *inputs, whole).reshape(2, 2, 3)
  expected = affine(p['output'], normalise(z).reshape(2, 6))
  # The root is linear below 1e-6.
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('order', [1, 2])
def test_factorised_bilinear_sums_products(order, draw):
  vectors, tokens = make_inputs()
  module = (
    fusion.FactorizedBilinear(6, factors=3)
    if order == 1
    else fusion.FactorizedHighOrder(6, factors=3)
  )
  out, p = apply(module, tokens, draw)
  product, parts = 1.0, []
  for i in range(order):
    for n in NAMES:
      product = product * affine(p[f'{n}_factor_{i}'], vectors[n])
    summed = product.reshape(2, 6 // order, 3).sum(axis=2)
    parts.append(normalise(summed))
  np.testing.assert_allclose(
    out, np.concatenate(parts, axis=1), rtol=1e-3, atol=1e-3
  )


def test_the_sketch_of_mcb_has_the_products_of_its_inputs():
  """<sketch, sketch'> is <x, x'> <y, y'> in the mean over hashes."""
  vectors, _ = make_inputs()
  size, found, convolved = 64, [], []
  for seed in range(400):
    module = fusion.CompactBilinear(4, size=size, seed=seed)
    sketches = [
      np.asarray(module.sketch(n, jnp.asarray(vectors[n], jnp.float32)))
      for n in ('a', 'b')
    ]
    spectra = [np.fft.fft(s, axis=1) for s in sketches]
    both = np.fft.ifft(spectra[0] * spectra[1], axis=1).real
    found.append(both[0] @ both[1])
    convolved.append(both[0] @ both[0])
  a, b = vectors['a'], vectors['b']
  expected = (a[0] @ a[1]) * (b[0] @ b[1])
  own = (a[0] @ a[0]) * (b[0] @ b[0])
  # The standard error of the mean of 400 seeds, times four.
  assert abs(np.mean(found) - expected) < 4 * np.std(found) / 20
  assert abs(np.mean(convolved) - own) < 4 * np.std(convolved) / 20
  assert np.std(found) / 20 < 0.2 * own


def test_mcb_convolves_sketches(draw):
  vectors, tokens = make_inputs()
  module = fusion.CompactBilinear(4, size=11)
  out, p = apply(module, tokens, draw)
  sketches = [
    np.asarray(module.sketch(n, jnp.asarray(vectors[n], jnp.float32)))
    for n in NAMES
  ]
  for n, sketch in zip(NAMES, sketches, strict=True):
    # Every feature is in one sum, with a sign: sums can only cancel.
    most = np.abs(vectors[n]).sum(axis=1) + 1e-5
    assert np.all(np.abs(sketch).sum(axis=1) <= most)
  whole = np.zeros((2, 11))
  for i, j, k in np.ndindex(11, 11, 11):
    a, b, c = sketches[0][:, i], sketches[1][:, j], sketches[2][:, k]
    whole[:, (i + j + k) % 11] += a * b * c
  expected = affine(p['output'], normalise(whole))
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', ['sum', 'mean', 'max', 'product'])
def test_plain_features(name, draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.FUSIONS[name](4), tokens, draw)
  x = np.stack([affine(p[f'{n}_projection'], vectors[n]) for n in NAMES])
  combine = {
    'sum': lambda x: x.sum(axis=0),
    'mean': lambda x: x.mean(axis=0),
    'max': lambda x: x.max(axis=0),
    'product': lambda x: np.tanh(x).prod(axis=0),
  }
  np.testing.assert_allclose(out, combine[name](x), **TOLERANCE)


def test_weights_and_concatenation(draw):
  vectors, tokens = make_inputs()
  out, p = apply(fusion.WeightedSum(4), tokens, draw)
  x = np.stack([affine(p[f'{n}_projection'], vectors[n]) for n in NAMES])
  weights = np.exp(p['weights']) / np.exp(p['weights']).sum()
  np.testing.assert_allclose(
    out, np.einsum('m,mbd->bd', weights, x), **TOLERANCE
  )
  out, p = apply(fusion.PooledConcat(4), tokens, draw)
  everything = np.concatenate([vectors[n] for n in NAMES], axis=1)
  np.testing.assert_allclose(out, affine(p['output'], everything), **TOLERANCE)


def test_film_scales_and_shifts(draw):
  vectors, tokens = make_inputs()
  values = np.random.default_rng(5).normal(size=(2, 3, 5))
  tokens['a'] = TokenVectors.of(jnp.asarray(values, jnp.float32))
  out, p = apply(fusion.FiLM('a', 4), tokens, draw)
  both = sum(affine(p[f'{n}_film'], vectors[n]) for n in ('b', 'c'))
  gamma, beta = both[:, None, :4], both[:, None, 4:]
  x = (1 + gamma) * affine(p['query_projection'], values) + beta
  np.testing.assert_allclose(out, x.mean(axis=1), **TOLERANCE)


def softmax(x):
  x = np.exp(x - x.max(axis=-1, keepdims=True))
  return x / x.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize('name', fusion.DECISION_FUSIONS)
def test_decisions(name, draw):
  rng = np.random.default_rng(7)
  logits = {n: rng.normal(size=(2, 5)) for n in NAMES}
  tokens = {
    n: TokenVectors.of(jnp.asarray(x, jnp.float32)) for n, x in logits.items()
  }
  # The second example lacks `c`.
  tokens['c'] = tokens['c'].replace(mask=jnp.asarray([[True], [False]]))
  out, p = apply(fusion.FUSIONS[name](), tokens, draw)
  for i, present in enumerate((NAMES, NAMES[:2])):
    x = np.stack([logits[n][i] for n in present])
    if name == 'stacking':
      lacks = 5 * (3 - len(present))
      flat = np.concatenate(
        [x.ravel(), np.zeros(lacks), [n in present for n in NAMES]]
      )
      np.testing.assert_allclose(out[i], affine(p['output'], flat), **TOLERANCE)
      continue
    if name == 'voting':
      x = x / np.exp(p['log_temperature'])[: len(present), None]
    q = softmax(x)
    if name == 'weighted_decision':
      w = softmax(p['weights'][: len(present)])
      expected = w @ q
    elif name == 'product_of_experts':
      expected = q.prod(axis=0) / q.prod(axis=0).sum()
    elif name == 'max_decision':
      expected = q.max(axis=0)
    else:
      expected = q.mean(axis=0)
    np.testing.assert_allclose(np.exp(out[i]), expected, **TOLERANCE)
