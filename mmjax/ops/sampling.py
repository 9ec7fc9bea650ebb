"""Samples the next token from its logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmjax.errors import ConfigError


def filter_logits(
  logits: Float[Array, 'B V'], top_k: int = 0, top_p: float = 1.0
) -> Float[Array, 'B V']:
  """Excludes unlikely tokens by setting their logits to minus infinity.

  Args:
    logits: logits [B, V].
    top_k: number of likeliest tokens to keep (Fan et al. 2018); 0 keeps all.
      Tokens that tie with the k-th are kept.
    top_p: probability of the tokens to keep, the fewest that reach it together
      (Holtzman et al. 2020); at least one is kept.

  Returns:
    The filtered logits [B, V].

  Raises:
    ConfigError: if `top_k` is negative or `top_p` is outside (0, 1].
  """
  if top_k < 0:
    raise ConfigError(f'top_k must be at least 0 (0 keeps all), got {top_k}')
  if not 0 < top_p <= 1:
    raise ConfigError(f'top_p must be in (0, 1], got {top_p}')
  lowest = -jnp.inf
  if 0 < top_k < logits.shape[-1]:
    kth = jax.lax.top_k(logits, top_k)[0][:, -1:]
    logits = jnp.where(logits < kth, lowest, logits)
  if top_p < 1:
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probabilities = jax.nn.softmax(ordered)
    # A token stays if those before it don't yet reach top_p.
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    kept = jnp.where(before < top_p, ordered, jnp.inf)
    threshold = jnp.min(kept, axis=-1, keepdims=True)
    logits = jnp.where(logits < threshold, lowest, logits)
  return logits


def filter_each(
  logits: Float[Array, 'B V'],
  top_k: Int[Array, 'B'],
  top_p: Float[Array, 'B'],
) -> Float[Array, 'B V']:
  """`filter_logits` with settings of each example.

  Nothing is sorted, which takes longest, if no example filters.

  Args:
    logits: logits [B, V].
    top_k: [B], at least 0.
    top_p: [B], in (0, 1].

  Returns:
    The filtered logits [B, V].
  """

  def apply(logits: Array) -> Array:
    vocab = logits.shape[-1]
    ordered = jnp.sort(logits, axis=-1, descending=True)
    last = jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab) - 1
    kth = jnp.take_along_axis(ordered, last[:, None], axis=1)  # [B, 1]
    ordered = jnp.where(ordered < kth, -jnp.inf, ordered)
    probabilities = jax.nn.softmax(ordered)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    # With 1, rounding must not exclude any.
    kept = (before < top_p[:, None]) | (top_p[:, None] >= 1)
    kept &= ordered > -jnp.inf
    least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < least, -jnp.inf, logits)

  filters = jnp.any((top_k > 0) | (top_p < 1))
  return jax.lax.cond(filters, apply, lambda logits: logits, logits)


def sample_each(
  rngs: Array,
  logits: Float[Array, 'B V'],
  temperature: Float[Array, 'B'],
  top_k: Int[Array, 'B'],
  top_p: Float[Array, 'B'],
) -> Int[Array, 'B']:
  """`sample_token` with settings of each example, which are not checked.

  Args:
    rngs: random keys [B].
    logits: logits [B, V].
    temperature: [B]; 0 takes the likeliest.
    top_k: [B], as in `filter_each`.
    top_p: [B], as in `filter_each`.

  Returns:
    The tokens [B] int32.
  """
  likeliest = jnp.argmax(logits, axis=-1)

  def sample(logits: Array) -> Array:
    divisor = jnp.where(temperature > 0, temperature, 1.0)[:, None]
    logits = filter_each(logits / divisor, top_k, top_p)
    drawn = jax.vmap(jax.random.categorical)(rngs, logits)
    return jnp.where(temperature > 0, drawn, likeliest)

  tokens = jax.lax.cond(
    jnp.any(temperature > 0), sample, lambda _: likeliest, logits
  )
  return tokens.astype(jnp.int32)


def sample_token(
  rngs: Array,
  logits: Float[Array, 'B V'],
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> Int[Array, 'B']:
  """Samples one token per example; temperature 0 takes the likeliest.

  Args:
    rngs: random keys [B], one per example, so that an example's sample doesn't
      depend on the batch around it.
    logits: logits [B, V].
    temperature: divisor of the logits before they are filtered.
    top_k: number of likeliest tokens to sample from, as in `filter_logits`.
    top_p: probability of the tokens to sample from, as in `filter_logits`.

  Returns:
    The tokens [B] int32.

  Raises:
    ConfigError: if `temperature` is negative.
  """
  if temperature < 0:
    raise ConfigError(f'temperature must be at least 0, got {temperature}')
  if temperature == 0:
    return _find_likeliest(logits)
  logits = filter_logits(logits / temperature, top_k, top_p)
  return jax.vmap(jax.random.categorical)(rngs, logits).astype(jnp.int32)


def _find_likeliest(logits: Float[Array, 'B V']) -> Int[Array, 'B']:
  """The first of the largest logits.

  On CPUs, XLA computes these two passes with vectors, but not `argmax`.
  """
  largest = logits.max(axis=-1, keepdims=True)
  # Of logits with NaN, whose largest is NaN, all are.
  indices = jnp.arange(logits.shape[1], dtype=jnp.int32)[None]
  last = logits.shape[1] - 1
  return jnp.where(logits < largest, last, indices).min(axis=-1)
