"""Points between two vectors."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def slerp(
  first: Float[Array, '1 *S'],
  second: Float[Array, '1 *S'],
  amounts: Float[Array, 'N'],
) -> Float[Array, 'N *S']:
  """Points on the arc from one vector to another (Shoemake 1985).

  Where these have about the same or the opposite direction, there is no one
  arc, and the points are on the line between them.

  Args:
    first: [1, ...], as one vector.
    second: [1, ...].
    amounts: parts of the way [N], 0 for the first and 1 for the second.

  Returns:
    [N, ...].
  """
  flat = [jnp.reshape(x, -1).astype(jnp.float32) for x in (first, second)]
  lengths = [jnp.maximum(jnp.linalg.norm(x), 1e-12) for x in flat]
  cosine = jnp.vdot(flat[0] / lengths[0], flat[1] / lengths[1])
  angle = jnp.arccos(jnp.clip(cosine, -1, 1))
  sine = jnp.sin(angle)
  straight = sine < 1e-4
  sine = jnp.where(straight, 1.0, sine)
  weights = [
    jnp.where(straight, share, jnp.sin(share * angle) / sine)
    for share in (1 - amounts, amounts)
  ]  # [N] each
  out = sum(w[:, None] * x[None] for w, x in zip(weights, flat, strict=True))
  return out.reshape(len(amounts), *first.shape[1:])
