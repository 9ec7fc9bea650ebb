"""Codebooks of vectors: how they are moved, and how several add up."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.nn import vector_quantizers
from mmjax.ops import tree_paths

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
MAPS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5, 4)))
MAPS = MAPS.astype(jnp.float32)
MASK = jnp.asarray([True, False, True])


def test_vectors_become_moving_averages():
  module = vector_quantizers.VectorQuantizer(3, 1, decay=0.75, revive=0.0)
  # Vectors 0, 10, 20 with the frequencies 1/2, 1/4, 1/4.
  counts, vectors = jnp.asarray([0.5, 0.25, 0.25]), jnp.asarray([0.0, 10, 20])
  params = {'counts': counts, 'sums': (counts * vectors)[:, None]}
  maps = jnp.asarray([[1.0, 9.0], [500.0, -500.0]])[:, None, :, None]
  mask = jnp.asarray([True, False])
  codes = module.apply({'params': params}, maps, mask, jax.random.key(0))
  np.testing.assert_array_equal(codes.ids[0], [[0, 1]])
  moved = {k: params[k] + codes.moves[f'/{k}'] for k in ('counts', 'sums')}
  # Half of the inputs are nearest to each of the first two.
  close(moved['counts'], [0.5, 0.75 * 0.25 + 0.25 * 0.5, 0.75 * 0.25])
  close(
    moved['sums'][:, 0],
    [0.25 * 0.5 * 1, 0.75 * 2.5 + 0.25 * 0.5 * 9, 0.75 * 5],
  )
  # A vector without inputs stays where it is.
  close(moved['sums'][2, 0] / moved['counts'][2], 20.0)


def test_vectors_that_are_not_used_become_inputs():
  module = vector_quantizers.VectorQuantizer(7, 4, revive=0.5)
  made = module.init(jax.random.key(0), MAPS, MASK)
  variables = nn.meta.unbox(made)
  key = jax.random.key(0)
  moves = module.apply(variables, MAPS, MASK, key).moves
  first = jax.tree.map(
    lambda x, name: x + moves[f'/{name}'],
    variables['params'],
    {'counts': 'counts', 'sums': 'sums'},
  )
  close(first['counts'], np.full(7, 1 / 7))
  inputs = np.asarray(MAPS[MASK]).reshape(-1, 4)
  vectors = module.apply({'params': first}, method='vectors')
  distances = np.abs(vectors[:, None] - inputs[None]).max(axis=2)
  assert np.all(distances.min(axis=1) < 1e-5)
  assert module.apply(variables, MAPS, MASK).moves == {}


def test_each_vector_is_the_nearest_of_what_is_left():
  module = vector_quantizers.ResidualQuantizer(
    3, 1, depth=2, update='gradient', commitment=0.5
  )
  params = {
    'layers_0': {'embedding': jnp.asarray([[0.0], [10.0], [20.0]])},
    'layers_1': {'embedding': jnp.asarray([[-1.0], [0.5], [2.0]])},
  }
  apply = functools.partial(module.apply, {'params': params})
  sequences = jnp.asarray([[9.1, 20.4], [11.9, -1.0]])[:, :, None]  # [B, T, C]
  want = np.asarray([[[1, 0], [2, 1]], [[1, 2], [0, 0]]])
  codes = apply(sequences, jnp.ones(2, bool))
  np.testing.assert_array_equal(codes.ids, want)
  np.testing.assert_array_equal(apply(sequences, method='find'), want)
  close(codes.values[..., 0], [[9.0, 20.5], [12.0, -1.0]])
  close(apply(codes.ids, method='lookup'), codes.values)
  # Squares before and after the second, of what is left; 0.5 + 1 is the weight.
  before, after = [0.81 + 0.16, 3.61 + 1.0], [0.01 + 0.01, 0.01 + 0.0]
  close(codes.loss, 1.5 * (np.asarray(before) + np.asarray(after)) / 2)
  first = apply(sequences, 1, method='find')
  np.testing.assert_array_equal(first, want[..., :1])
  close(apply(first, method='lookup')[..., 0], [[10.0, 20.0], [10.0, 0.0]])
  values = lambda x: apply(x, jnp.ones(2, bool)).values.sum()
  close(jax.grad(values)(sequences), np.ones((2, 2, 1)))
  with pytest.raises(ValueError, match='of 3 codebooks, but there are 2'):
    apply(jnp.zeros((1, 3), int), method='lookup')


def test_all_codebooks_are_moved_by_what_they_get():
  module = vector_quantizers.ResidualQuantizer(7, 4, depth=2, decay=0.8)
  key = jax.random.key(0)
  params = nn.meta.unbox(module.init(key, MAPS, MASK))['params']

  @jax.jit
  def step(params, key):
    codes = module.apply({'params': params}, MAPS, MASK, key)
    leaves = tree_paths.flatten(params)
    moved = {path: x + codes.moves[path] for path, x in leaves.items()}
    found = module.apply({'params': params}, MAPS, MASK).values
    return tree_paths.unflatten(moved), jnp.square(MAPS - found)[MASK].mean()

  errors = []
  for i in range(40):
    params, error = step(params, jax.random.fold_in(key, i))
    errors.append(float(error))
  left = MAPS - module.apply(
    {'params': params}, MAPS, 1, method=lambda m, x, n: m.lookup(m.find(x, n))
  )
  # 20 inputs, 7 vectors; the second codebook has a part of what is left.
  assert errors[-1] < 0.5 * jnp.square(left)[MASK].mean() < 0.5 * errors[0]
