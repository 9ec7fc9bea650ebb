"""The one table from the axes that modules name to the axes of the mesh.

A module says what an axis of a parameter is (`embed`, `heads`, `mlp`), never
where it lies; this table says where. To try another layout, change a line here.
"""

import difflib
import math
from typing import Any

import flax.linen as nn
import jax

from mmjax.errors import ConfigError
from mmjax.ops import tree_paths

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
    ConfigError: if the table has no such name.

  >>> spec(('embed', 'mlp'))
  P('fsdp', 'tensor')
  """
  known = [name for name, _ in RULES]
  for name in names:
    if name is not None and name not in known:
      close = difflib.get_close_matches(name, known) or known
      raise ConfigError(
        f'logical axis {name!r} of {names} has no rule; use one of {close} or '
        'add it to mmjax.parallel.rules.RULES'
      )
  once = tuple(
    None if name in names[:i] else name for i, name in enumerate(names)
  )
  return nn.logical_to_mesh_axes(once, RULES)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Says where an activation lies, by what its axes are called.

  Modules call it on what they pass on, so that XLA splits the work as the rules
  say instead of as it guesses. It does nothing outside of
  `flax.linen.logical_axis_rules` and of a mesh set by `jax.set_mesh`: whoever
  uses a module in other code need not know of it.

  Args:
    x: [...].
    names: of its axes. One that is shorter than its mesh axis stays whole; one
      that isn't divisible is filled up.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not nn.get_logical_axis_rules() or mesh.empty:
    return x
  entries = [
    entry if length >= _ways(entry, mesh) else None
    for length, entry in zip(
      x.shape, nn.logical_to_mesh_axes(names), strict=True
    )
  ]
  return jax.lax.with_sharding_constraint(x, jax.P(*entries))


def _ways(entry: Any, mesh: Any) -> int:
  """Into how many parts an entry of a `PartitionSpec` splits an axis."""
  axes = (entry,) if isinstance(entry, str) else (entry or ())
  return math.prod(mesh.shape[axis] for axis in axes)


def _fitting(
  names: tuple[str | None, ...],
  shape: tuple[int, ...],
  mesh: jax.sharding.Mesh,
) -> tuple[jax.sharding.PartitionSpec, list[str]]:
  """Where a parameter lies, and what the mesh doesn't divide.

  Key-value heads that are fewer than the devices that share the query heads are
  whole on each, since each needs them.
  """
  entries, errors = [], []
  for name, length, entry in zip(names, shape, spec(names), strict=True):
    ways = _ways(entry, mesh)
    shared = name == 'kv_heads' and ways % length == 0
    if length % ways and not shared:
      axes = (entry,) if isinstance(entry, str) else entry
      sizes = ' * '.join(f'mesh.{axis}={mesh.shape[axis]}' for axis in axes)
      errors.append(
        f'axis {name!r} of length {length} is not divisible by {sizes}'
      )
    entries.append(None if length % ways else entry)
  return jax.P(*entries), errors


def shardings(boxed: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shardings of parameters, from the names their modules gave them.

  Args:
    boxed: what `model.init` gives for 'params' (arrays or shapes), still in
      the boxes of `nn.with_logical_partitioning`. Those without are whole on
      every device.
    mesh: of `mmjax.parallel.mesh.build`.

  Returns:
    The tree without its boxes, one `NamedSharding` a parameter.

  Raises:
    ConfigError: if the mesh doesn't divide an axis that it splits; names all
      such parameters.
  """
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  refused = []

  def one(path, leaf):
    if not is_box(leaf):
      return jax.NamedSharding(mesh, jax.P())
    partition, errors = _fitting(leaf.names, leaf.value.shape, mesh)
    name = tree_paths.join(path)
    refused.extend(f'{name}: {error}' for error in errors)
    return jax.NamedSharding(mesh, partition)

  out = jax.tree.map_with_path(one, boxed, is_leaf=is_box)
  if refused:
    raise ConfigError(
      "the mesh doesn't divide the model; change the mesh or these sizes:\n  "
      + '\n  '.join(refused)
    )
  return out
