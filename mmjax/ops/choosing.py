"""Random choices of positions, by example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def draw_by_index(
  rng: Array, index: Int[Array, 'B'], length: int
) -> Float[Array, 'B N']:
  """Uniform numbers [B, N] in 0..1, which depend on the key and an index.

  Args:
    rng: key.
    index: indices of the examples [B]; equal ones get equal draws in any batch.
    length: N.
  """
  draw = lambda i: jax.random.uniform(
    jax.random.fold_in(rng, i), (length,), jnp.float32
  )
  return jax.vmap(draw)(index)


def count_chosen(
  candidates: Bool[Array, 'B T'], fraction: float
) -> Int[Array, 'B']:
  """Number of positions [B] that `choose` chooses in each row.

  It is the fraction of the candidates, rounded, but at least 1 where there are
  any, as in BERT's published code.
  """
  number = candidates.sum(axis=1)
  rounded = jnp.floor(fraction * number + 0.5).astype(jnp.int32)
  most = largest_choice(candidates.shape[1], fraction)
  return jnp.clip(rounded, jnp.minimum(number, 1), most)


def largest_choice(length: int, fraction: float) -> int:
  """Largest number of positions that `choose` chooses among so many."""
  return min(length, max(1, int(fraction * length + 0.5)))


def choose(
  scores: Float[Array, 'B T'], candidates: Bool[Array, 'B T'], fraction: float
) -> tuple[Int[Array, 'B K'], Bool[Array, 'B K']]:
  """Chooses a fraction of each row's candidates, those of the highest scores.

  With scores 0.2, 0.9, 0.5, 0.7 of which the second is not a candidate and a
  fraction of 0.5, K is 2, and positions 3 and 2 are chosen (3 * 0.5 rounds to
  2).

  Args:
    scores: random numbers [B, T].
    candidates: [B, T], False where nothing may be chosen.
    fraction: fraction of the candidates to choose.

  Returns:
    Distinct positions [B, K], and which of them are chosen [B, K].
  """
  most = largest_choice(scores.shape[1], fraction)
  _, positions = jax.lax.top_k(jnp.where(candidates, scores, -1.0), most)
  number = count_chosen(candidates, fraction)
  return positions, jnp.arange(most)[None] < number[:, None]
