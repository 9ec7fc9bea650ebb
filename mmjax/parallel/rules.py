"""The one table from the axes that modules name to the axes of the mesh.

A module says what an axis of a parameter is (`embed`, `heads`, `mlp`), never
where it lies; this table says where. To try another layout, change a line here.
"""

import difflib
import math
from typing import Any

import flax.linen as nn
import jax

# Logical axis -> mesh axis, axes or None (whole on every device).
RULES = (
  ('batch', ('data', 'fsdp')),
  ('length', 'sequence'),
  ('heads', 'tensor'),
  ('kv_heads', 'tensor'),
  ('mlp', 'tensor'),
  ('vocab', 'tensor'),
  ('embed', 'fsdp'),
  ('conv', 'fsdp'),  # Channels that a convolution puts out.
  ('head_dim', None),
  ('norm', None),
  ('layers', None),
)


def spec(names: tuple[str | None, ...]) -> jax.sharding.PartitionSpec:
  """Where a parameter lies whose axes are called `names`.

  Of two axes that ask for the same mesh axis, the one whose rule comes first
  gets it; of two with the same name (a square matrix), the first.

  Raises:
    ValueError: if the table has no such name.

  >>> spec(('embed', 'mlp'))
  P('fsdp', 'tensor')
  """
  known = [name for name, _ in RULES]
  for name in names:
    if name is not None and name not in known:
      close = difflib.get_close_matches(name, known) or known
      raise ValueError(
        f'logical axis {name!r} of {names} has no rule; use one of {close} or '
        'add it to mmjax.parallel.rules.RULES'
      )
  once = tuple(
    None if name in names[:i] else name for i, name in enumerate(names)
  )
  return nn.logical_to_mesh_axes(once, RULES)


def _fitting(
  partition: jax.sharding.PartitionSpec,
  shape: tuple[int, ...],
  mesh: jax.sharding.Mesh,
) -> jax.sharding.PartitionSpec:
  """Keeps an axis whole where the mesh doesn't divide its length."""
  entries = []
  for length, entry in zip(shape, partition, strict=False):
    axes = (entry,) if isinstance(entry, str) else (entry or ())
    ways = math.prod(mesh.shape[axis] for axis in axes)
    entries.append(entry if length % ways == 0 else None)
  return jax.P(*entries)


def shardings(boxed: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shardings of parameters, from the names their modules gave them.

  Args:
    boxed: what `model.init` gives for 'params' (arrays or shapes), still in
      the boxes of `nn.with_logical_partitioning`. Those without are whole on
      every device.
    mesh: of `mmjax.parallel.mesh.build`.

  Returns:
    The tree without its boxes, one `NamedSharding` a parameter. An axis whose
    length the mesh axis doesn't divide stays whole.
  """
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)

  def one(leaf):
    if not is_box(leaf):
      return jax.NamedSharding(mesh, jax.P())
    return jax.NamedSharding(
      mesh, _fitting(spec(leaf.names), leaf.value.shape, mesh)
    )

  return jax.tree.map(one, boxed, is_leaf=is_box)
