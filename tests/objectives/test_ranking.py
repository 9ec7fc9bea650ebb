"""MaxSim and the loss of ranking, against loops and over devices."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives, ops
from mmjax.errors import ConfigError
from mmjax.metrics import retrieval

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def _draw(seed, *shape):
  """Unit vectors, of which some are padding."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=shape).astype(np.float32)
  x /= np.linalg.norm(x, axis=-1, keepdims=True)
  x[..., -1, :] = np.where(rng.random(x.shape[:-2])[..., None] < 0.5, x[
    ..., -1, :
  ], 0)  # fmt: skip
  return x


def _loop(query, document):
  """MaxSim of one pair, after equation 1 of ColPali."""
  total = number = 0
  for q in query:
    if any(q):
      total += max(float(q @ d) for d in document if any(d))
      number += 1
  return total / number


def test_maxsim_is_the_mean_of_the_nearest():
  queries, documents = _draw(0, 3, 4, 5), _draw(1, 7, 6, 5)
  # All inner products are below that of padding.
  documents[0] = -np.abs(documents[0])
  queries[0] = np.abs(queries[0])
  want = [[_loop(q, d) for d in documents] for q in queries]
  sum_of = lambda d, tile: jnp.sum(
    jnp.sin(ops.maxsim(jnp.asarray(queries), d, tile=tile))
  )
  plain = jax.grad(sum_of)(jnp.asarray(documents), 0)
  assert np.abs(plain).max() > 0.01
  for tile in (0, 1, 3, 7):
    score = functools.partial(ops.maxsim, tile=tile)
    close(score(jnp.asarray(queries), jnp.asarray(documents)), want)
    close(retrieval.maxsim(queries, documents, tile), want)
    close(jax.grad(sum_of)(jnp.asarray(documents), tile), plain)
  owners = np.arange(7) % 3
  recalls = retrieval.recall_of_tokens(queries, documents, owners)
  want = retrieval.recall_at_k(np.asarray(want, np.float32), owners)
  assert recalls == want


def test_evaluation_has_the_products_of_a_tile_in_memory():
  queries, documents = _draw(0, 2, 64, 5), _draw(1, 400, 8, 5)
  tracemalloc.start()
  retrieval.maxsim(queries, documents, 4)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 64 * 400 * 8 * 4 / 4  # A quarter of one query's products.


def _make(score, seed=0, size=6, number=2):
  shape = (4, 5) if score == 'maxsim' else (5,)
  draw = lambda s, *front: _draw(s, *front, *shape[:-1], 5)
  if score == 'cosine':
    draw = lambda s, *front: _draw(s, *front, 2, 5)[..., 0, :]
  outputs = {
    'q_embedding': draw(seed, size),
    'd_embedding': draw(seed + 1, size),
    'n_embedding': draw(seed + 2, size, number),
    'logit_scale': jnp.asarray(3.0),
  }
  batch = {
    'q': jnp.zeros((size, 2), int),
    'q_mask': jnp.ones((size, 2), bool).at[1].set(False),
    'd': jnp.zeros((size, 2), int),
    'n': jnp.zeros((size, number, 2), int),
    'n_mask': jnp.ones((size, number, 2), bool).at[2, 1].set(False),
  }
  return jax.tree.map(jnp.asarray, outputs), batch


def _apply(objective, outputs, batch, **settings):
  key = jax.random.key(0)
  return objective(outputs, batch, apply=dict, rng=key, **settings)


@pytest.mark.parametrize('score', ['cosine', 'maxsim'])
@pytest.mark.parametrize('negatives', ['', 'n'])
def test_each_query_ranks_its_document_among_all(score, negatives):
  outputs, batch = _make(score)
  objective = objectives.Ranking(('q', 'd'), negatives, score)
  loss, metrics = _apply(objective, outputs, batch)
  x = {name: np.asarray(value) for name, value in outputs.items()}
  pair = _loop if score == 'maxsim' else lambda a, b: float(a @ b)
  losses = []
  for i in (0, 2, 3, 4, 5):
    # Row 1 has no query, so its document and negatives are no candidates.
    others = [x['d_embedding'][j] for j in (0, 2, 3, 4, 5)]
    if negatives:
      others += [
        x['n_embedding'][j, k]
        for j in (0, 2, 3, 4, 5)
        for k in (0, 1)
        if (j, k) != (2, 1)
      ]
    logits = [3 * pair(x['q_embedding'][i], other) for other in others]
    own = 3 * pair(x['q_embedding'][i], x['d_embedding'][i])
    losses.append(np.log(np.sum(np.exp(logits))) - own)
  close(loss, np.mean(losses))
  assert objective.count(batch) == 5
  close(np.delete(metrics['items'].losses[:, 0], 1), losses)
  # Two devices, of which each has the others' candidates.
  split = lambda tree: jax.tree.map(
    lambda a: a.reshape(2, 3, *a.shape[1:]) if a.ndim else jnp.stack([a, a]),
    tree,
  )
  parts, _ = jax.vmap(
    functools.partial(_apply, objective, axis_name='d'), axis_name='d'
  )(split(outputs), split(batch))
  close(parts @ jnp.asarray([2 / 5, 3 / 5]), loss)


def test_what_has_no_meaning_is_refused():
  for settings in (
    {'features': ('q', 'd', 'e')},
    {'features': ('q', 'd'), 'negatives': 'd'},
    {'features': ('q', 'd'), 'negatives': 'n', 'tile': 3},
    {'features': ('q', 'd'), 'score': 'dot'},
  ):
    with pytest.raises(ConfigError):
      objectives.Ranking(**settings)
