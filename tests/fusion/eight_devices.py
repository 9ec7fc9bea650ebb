"""Every fusion on a mesh, with split parameters and examples.

Run by test_contract.py in a process of eight devices.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules
from tests.fusion.every_fusion import ROWS, make_tokens


def repeat(tokens):
  """Four times the three examples, so that four devices share them."""
  return jax.tree.map(lambda x: jnp.concatenate([x] * 4), tokens)


def compute(variables, tokens):
  return {
    name: make().apply(variables[name], tokens[name], train=False).pooled
    for name, make in ROWS.items()
  }


def shard(mesh, leaf, specs):
  """Puts an array on the mesh, with axes that don't divide replicated."""
  sizes = [
    1 if entry is None else mesh.shape[entry]
    for entry in (*specs, *(None,) * (leaf.ndim - len(specs)))
  ]
  kept = [
    entry if length % size == 0 else None
    for entry, length, size in zip(specs, leaf.shape, sizes, strict=False)
  ]
  return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*kept)))


def test_eight_devices_compute_what_one_computes(draw):
  mesh = mesh_lib.build({'data': 2, 'fsdp': 2, 'tensor': 2})
  tokens = {name: repeat(make_tokens(name)) for name in ROWS}
  variables, split = {}, {}
  for name, make in ROWS.items():
    variables[name] = draw(make(), tokens[name], train=False)
    boxed = jax.eval_shape(
      lambda make=make, name=name: make().init(
        jax.random.key(0), tokens[name], train=False
      )
    )
    specs = nn.get_partition_spec(boxed)
    split[name] = jax.tree.map(
      lambda leaf, spec: shard(mesh, leaf, rules.spec(tuple(spec))),
      variables[name],
      specs,
      is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
  by_example = NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))
  expected = jax.jit(compute)(variables, tokens)
  with nn.logical_axis_rules(rules.RULES), jax.set_mesh(mesh):
    got = jax.jit(compute)(split, jax.device_put(tokens, by_example))
  for name, value in got.items():
    assert len(value.sharding.device_set) == 8, name
    np.testing.assert_allclose(
      value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name
    )
