"""Drawing sequences of tokens, many of them at each step."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

# (ids [B, P], hidden [B, P]) -> logits [B, P, V].
Predict = Callable[[Int[Array, 'B P'], Bool[Array, 'B P']], Array]


def count_hidden(length: int, steps: int) -> Int[Array, 'S']:
  """Number of tokens that are hidden before each step, and 0 after the last.

  length * cos(pi i / (2 steps)) after i steps (Chang et al. 2022, section 3.2,
  and the cosine of section 3.3), but each step shows at least one token as long
  as one is hidden. Of 8 tokens in 3 steps 8, 6, 4 are hidden.

  Args:
    length: number of tokens P.
    steps: number of steps.

  Returns:
    [steps + 1], from `length` to 0.
  """
  numbers = [length]
  for i in range(1, steps):
    wanted = int(length * math.cos(math.pi * i / (2 * steps)))
    numbers.append(max(min(wanted, numbers[-1] - 1), 0))
  return jnp.asarray([*numbers, 0])


def fill_tokens(
  predict: Predict,
  keys: Array,
  length: int,
  *,
  steps: int,
  temperature: float,
) -> Int[Array, 'B P']:
  """Draws sequences of tokens from a model of hidden tokens.

  MaskGIT's (Chang et al. 2022, section 3.2): each step draws all hidden tokens,
  keeps those with the highest confidence, and hides the others again. The
  confidence is the log-probability of a token, plus Gumbel noise times a
  temperature that falls to 0.

  Args:
    predict: function (ids, hidden) -> logits [B, P, V].
    keys: keys [B]; a sequence is a function of its own.
    length: number of tokens P.
    steps: number of steps, each one call of `predict`.
    temperature: temperature of the confidence at the first step.
  """
  left = count_hidden(length, steps)[1:]
  number = len(keys)

  def step(carry, i):
    ids, hidden = carry
    logits = predict(ids, hidden).astype(jnp.float32)
    of_step = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))
    draw_keys, noise_keys = jnp.moveaxis(of_step(keys), 1, 0)
    drawn = jax.vmap(jax.random.categorical)(draw_keys, logits)  # [B, P]
    ids = jnp.where(hidden, drawn, ids)
    log_probs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_probs, ids[:, :, None], axis=2)[:, :, 0]
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (length,)))
    heat = temperature * (1 - (i + 1) / steps)
    confidence = chosen + heat * gumbel(noise_keys)
    confidence = jnp.where(hidden, confidence, jnp.inf)
    ranks = jnp.argsort(jnp.argsort(confidence, axis=1), axis=1)
    return (ids, ranks < left[i]), None

  start = (
    jnp.zeros((number, length), jnp.int32),
    jnp.ones((number, length), bool),
  )
  (ids, _), _ = jax.lax.scan(step, start, jnp.arange(steps))
  return ids
