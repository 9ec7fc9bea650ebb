"""Late interaction: scores of two sets of vectors by their nearest pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def maxsim(
  queries: Float[Array, 'B N E'],
  documents: Float[Array, 'C M E'],
  *,
  tile: int = 0,
) -> Float[Array, 'B C']:
  """Scores of queries and documents by MaxSim.

  The mean over a query's vectors of the largest inner product with one of the
  document's. ColBERT (Khattab and Zaharia 2020, equation 3) and ColPali (Faysse
  et al. 2024, equation 1) have the sum; the mean ranks the documents of a query
  alike, and stays in [-1, 1] for unit vectors, whatever the query's length.

  Args:
    queries: vectors [B, N, E]; those that are 0 are padding.
    documents: vectors [C, M, E]; those that are 0 are padding.
    tile: number of documents whose inner products [B, tile, N, M] are in memory
      at once, and computed again in the backward pass; 0 for all.

  Returns:
    Scores [B, C]; 0 for a query of padding alone, and the lowest float32 for a
    document of padding alone.
  """
  number = len(documents)
  if not tile or tile >= number:
    return _score(queries, documents)
  short = -number % tile
  documents = jnp.pad(documents, ((0, short), (0, 0), (0, 0)))
  tiles = documents.reshape(-1, tile, *documents.shape[1:])
  score = jax.checkpoint(lambda part: _score(queries, part))
  scores = jax.lax.map(score, tiles)  # [C / tile, B, tile]
  return jnp.moveaxis(scores, 0, 1).reshape(len(queries), -1)[:, :number]


def _score(queries: Array, documents: Array) -> Array:
  exists = [jnp.any(x != 0, axis=-1) for x in (queries, documents)]
  products = jnp.einsum('bne,cme->bcnm', queries, documents)
  products = jnp.where(
    exists[1][None, :, None], products, jnp.finfo(jnp.float32).min
  )
  # Not `jnp.max`, whose gradient needs the same values in both passes.
  nearest = jnp.argmax(jax.lax.stop_gradient(products), -1)[..., None]
  largest = jnp.take_along_axis(products, nearest, -1)[..., 0]  # [B, C, N]
  count = jnp.maximum(exists[0].sum(-1), 1)[:, None]
  weights = (exists[0] / count)[:, None]  # [B, 1, N]
  return jnp.sum(largest * weights, axis=-1)
