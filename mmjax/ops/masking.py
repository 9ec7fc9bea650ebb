"""Masked means, token selection and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from mmjax.errors import ConfigError


def everywhere(*shape: int) -> Bool[np.ndarray, '...']:
  """A mask that is True everywhere, known as such while a program is traced.

  Encoders of images and texts that get no mask return it: `is_everywhere`
  finds it, and attention and means then compute without a mask.

  Args:
    *shape: of the mask.
  """
  return np.ones(shape, bool)


def is_everywhere(mask: Bool[Array | np.ndarray, '...'] | None) -> bool:
  """Whether a mask is known to be True everywhere before it has values.

  A mask of numpy is part of the program; one of JAX has values only when it
  runs, and counts as a mask whatever they are.
  """
  if isinstance(mask, np.ndarray):
    return bool(mask.all())
  return mask is None


def check_mask(
  mask: Bool[Array | np.ndarray, '...'] | None,
  inputs: Shaped[Array | np.ndarray, '...'],
  what: str,
  *axes: str,
) -> None:
  """Refuses a mask whose axes are not the first ones of an encoder's inputs.

  Args:
    mask: a mask, or None for True everywhere.
    inputs: what it is a mask of.
    what: what these are, for the message, such as 'images'.
    *axes: letters of the mask's axes, such as 'B T'; of several, each is legal.

  Raises:
    ConfigError: naming both shapes.
  """
  legal = {each: inputs.shape[: len(each.split())] for each in axes}
  if mask is None or mask.shape in legal.values():
    return
  shown = ' or '.join(
    f'[{each.replace(" ", ", ")}], here {list(shape)}'
    for each, shape in legal.items()
  )
  raise ConfigError(
    f'the mask of {what} is {shown}, but it has the shape {list(mask.shape)}'
  )


def masked_mean(
  values: Float[Array, '...'] | Bool[Array, '...'],
  mask: Bool[Array | np.ndarray, '...'],
) -> Float[Array, '']:
  """The float32 mean over values where `mask` is True; 0 if there are none.

  Masked values may be anything, NaN included: neither the mean nor its gradient
  depends on them.

  Args:
    values: array of any shape; for bool, the mean is the fraction of True.
    mask: bool array of the same shape.
  """
  kept = jnp.where(mask, values.astype(jnp.float32), 0.0)
  return kept.sum() / jnp.maximum(mask.sum(), 1)


def zero_masked(
  values: Shaped[Array | np.ndarray, '...'],
  mask: Bool[Array | np.ndarray, '...'] | None,
) -> Shaped[Array, '...']:
  """Zeros where `mask` is False, whatever stands there, NaN included.

  Encoders apply it to their inputs, so that neither their results nor gradients
  depend on what a mask excludes.

  Args:
    values: array [..., *] whose first axes are those of `mask`.
    mask: bool array [...]; None changes nothing.
  """
  if is_everywhere(mask):
    return jnp.asarray(values)
  mask = mask.reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim))
  return jnp.where(mask, values, jnp.zeros((), values.dtype))


def mean_tokens(
  values: Float[Array, 'B N D'], mask: Bool[Array | np.ndarray, 'B N']
) -> Float[Array, 'B D']:
  """Averages each example's unmasked tokens; zeros if there are none."""
  if is_everywhere(mask):
    return values.mean(axis=1, dtype=jnp.float32).astype(values.dtype)
  kept = jnp.where(mask[:, :, None], values, 0)
  number = jnp.maximum(mask.sum(axis=1), 1)[:, None]
  return (kept.sum(axis=1, dtype=jnp.float32) / number).astype(values.dtype)


def max_tokens(
  values: Float[Array, 'B N D'], mask: Bool[Array | np.ndarray, 'B N']
) -> Float[Array, 'B D']:
  """The largest value of each feature over unmasked tokens; 0 without any.

  Its gradient goes to the first of equal ones.
  """
  lowest = jnp.finfo(values.dtype).min
  kept = jnp.where(mask[:, :, None], values, lowest)
  # Not `jnp.max`: its gradient goes to the values that equal the largest, and
  # in a compiled program, where values are computed twice, there may be none.
  largest = jnp.argmax(jax.lax.stop_gradient(kept), axis=1)[:, None]
  out = jnp.take_along_axis(kept, largest, axis=1)[:, 0]
  return jnp.where(jnp.any(mask, axis=1)[:, None], out, 0)


def last_token(
  values: Float[Array, 'B N D'], mask: Bool[Array | np.ndarray, 'B N']
) -> Float[Array, 'B D']:
  """Takes each example's last unmasked token, the first if there are none."""
  steps = jnp.arange(mask.shape[1])[None]
  last = jnp.max(jnp.where(mask, steps, 0), axis=1)
  return jnp.take_along_axis(values, last[:, None, None], axis=1)[:, 0]


def unit_norm(
  values: Float[Array, '... D'], epsilon: float = 1e-6
) -> Float[Array, '... D']:
  """Scales vectors to length 1, in float32, with a finite gradient at zero."""
  values = values.astype(jnp.float32)
  square = jnp.sum(jnp.square(values), axis=-1, keepdims=True)
  return values * jax.lax.rsqrt(square + epsilon**2)
