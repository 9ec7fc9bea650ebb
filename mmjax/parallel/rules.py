"""The table of sharding rules: from logical axes to axes of the mesh.

A module only names the logical axes of its parameters (`embed`, `heads`,
`mlp`). This table maps them to mesh axes. To try another sharding, change a
line here.
"""

import difflib
import math
from typing import Any

import flax.linen as nn
import jax

from mmjax.errors import ConfigError
from mmjax.ops import tree_paths

# Logical axis -> mesh axis, axes or None (replicated). Of several axes of one
# array the first rule wins: `embed` splits weights, but not activations, whose
# `batch` takes fsdp.
RULES = (
  ('batch', ('data', 'fsdp')),
  ('length', 'sequence'),
  ('heads', 'tensor'),
  ('kv_heads', 'tensor'),
  ('mlp', 'tensor'),
  ('vocab', 'tensor'),
  ('embed_blocks', 'fsdp'),  # Of quantised kernels.
  ('mlp_blocks', 'tensor'),
  ('embed', 'fsdp'),
  ('conv', 'fsdp'),  # Output channels of convolutions.
  ('head_dim', None),
  ('norm', None),
  ('layers', None),
)


_BLOCKS = '_blocks'


def name_blocks(name: str | None) -> str | None:
  """Logical name of the blocks of an axis that is quantised in blocks.

  >>> name_blocks('embed'), name_blocks('head_dim')
  ('embed_blocks', None)
  """
  known = [rule for rule, _ in RULES]
  return f'{name}{_BLOCKS}' if f'{name}{_BLOCKS}' in known else None


def spec(names: tuple[str | None, ...]) -> jax.sharding.PartitionSpec:
  """The partition spec of a parameter with the logical axes `names`.

  If two axes map to the same mesh axis, the one whose rule comes first gets it;
  if two have the same name (a square matrix), the first.

  Raises:
    ConfigError: if a name is not in the table.

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
  """Constrains the sharding of an activation by the names of its axes.

  Modules call it on their results, so that XLA splits the work by the rules and
  not by a guess. It does nothing without `flax.linen.logical_axis_rules` or
  without a mesh set by `jax.set_mesh`, so modules work in other code too.

  Args:
    x: activation [...].
    names: logical names of its axes. An axis that is shorter than its mesh axis
      is replicated; one that isn't divisible is padded.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not nn.get_logical_axis_rules() or mesh.empty:
    return x
  entries = [
    entry if length >= _num_shards(entry, mesh) else None
    for length, entry in zip(
      x.shape, nn.logical_to_mesh_axes(names), strict=True
    )
  ]
  return jax.lax.with_sharding_constraint(x, jax.P(*entries))


def _num_shards(entry: Any, mesh: Any) -> int:
  """Number of shards that an entry of a `PartitionSpec` splits an axis into."""
  axes = (entry,) if isinstance(entry, str) else (entry or ())
  return math.prod(mesh.shape[axis] for axis in axes)


def _partition(
  names: tuple[str | None, ...],
  shape: tuple[int, ...],
  mesh: jax.sharding.Mesh,
) -> tuple[jax.sharding.PartitionSpec, list[str]]:
  """The partition spec of a parameter, and errors for indivisible axes.

  Key-value heads that are fewer than the shards of the query heads are
  replicated, since each shard needs them; and so are blocks of quantised
  kernels whose number the mesh does not divide.
  """
  entries, errors = [], []
  for name, length, entry in zip(names, shape, spec(names), strict=True):
    shards = _num_shards(entry, mesh)
    replicated = (name == 'kv_heads' and shards % length == 0) or (
      name is not None and name.endswith(_BLOCKS)
    )
    if length % shards and not replicated:
      axes = (entry,) if isinstance(entry, str) else entry
      sizes = ' * '.join(f'mesh.{axis}={mesh.shape[axis]}' for axis in axes)
      errors.append(
        f'axis {name!r} of length {length} is not divisible by {sizes}'
      )
    entries.append(None if length % shards else entry)
  return jax.P(*entries), errors


def shardings(boxed: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shardings of parameters, from the logical names of their axes.

  Args:
    boxed: tree 'params' of `model.init` (arrays or shapes) with the boxes of
      `nn.with_logical_partitioning`. Parameters without a box are replicated.
    mesh: result of `mmjax.parallel.mesh.build`.

  Returns:
    The tree without its boxes, one `NamedSharding` per parameter.

  Raises:
    ConfigError: if the mesh doesn't divide an axis that it splits; it names all
      such parameters.
  """
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  all_errors = []

  def shard(path, leaf):
    if not is_box(leaf):
      return jax.NamedSharding(mesh, jax.P())
    partition, errors = _partition(leaf.names, leaf.value.shape, mesh)
    name = tree_paths.join(path)
    all_errors.extend(f'{name}: {error}' for error in errors)
    return jax.NamedSharding(mesh, partition)

  out = jax.tree.map_with_path(shard, boxed, is_leaf=is_box)
  if all_errors:
    raise ConfigError(
      "the mesh doesn't divide the model; change the mesh or these sizes:\n  "
      + '\n  '.join(all_errors)
    )
  return out
