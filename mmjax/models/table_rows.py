"""Numbers, classes and vectors of a batch as rows of a table."""

from collections.abc import Sequence

import jax.numpy as jnp

from mmjax.types import Array, Batch


def is_row(array: Array, mask: Array | None) -> bool:
  """Whether a feature is a number, a class or a vector: [B] or [B, D]."""
  return array.ndim == 1 or (
    array.ndim == 2 and mask is not None and mask.ndim == 1
  )


def make_table(
  keys: Sequence[str], batch: Batch
) -> tuple[dict[str, Array], dict[str, Array]]:
  """Numbers [B, F] and categories [B, C] of features, and their masks."""
  parts: dict[str, list[tuple[Array, Array]]] = {}
  for key in keys:
    array, mask = batch[key], batch[f'{key}_mask']  # [B] or [B, D], [B]
    is_number = jnp.issubdtype(array.dtype, jnp.floating)
    columns = array.reshape(array.shape[0], -1)
    known = jnp.broadcast_to(mask[:, None], columns.shape)
    part = 'numbers' if is_number else 'categories'
    parts.setdefault(part, []).append((columns, known))
  rows, masks = {}, {}
  for part, pairs in parts.items():
    arrays, known = zip(*pairs, strict=True)
    rows[part] = jnp.concatenate(arrays, axis=1)
    masks[part] = jnp.concatenate(known, axis=1)
  return rows, masks
