"""Compares modules on a mesh of eight devices with the same on one."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules


def check(
  modules: Mapping[str, nn.Module],
  inputs: Mapping[str, Any],
  draw: Callable[..., Any],
) -> None:
  """Splits parameters and examples, and compares what is pooled.

  Args:
    modules: encoders or fusions by name.
    inputs: arguments of each, with three examples.
    draw: the fixture.
  """
  mesh = mesh_lib.build({'data': 2, 'fsdp': 2, 'tensor': 2})
  # Four times the three examples, so that four devices share them.
  inputs = jax.tree.map(lambda x: jnp.concatenate([x] * 4), dict(inputs))
  variables, split = {}, {}
  for name, module in modules.items():
    variables[name] = draw(module, *inputs[name], train=False)
    split[name] = _split(mesh, module, inputs[name], variables[name])

  def compute(variables, inputs):
    return {
      name: module.apply(variables[name], *inputs[name], train=False).pooled
      for name, module in modules.items()
    }

  # Most of the time goes to compiling.
  fast = {'xla_backend_optimization_level': 0}
  compiled = functools.partial(jax.jit, compiler_options=fast)
  by_example = NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))
  expected = compiled(compute)(variables, inputs)
  with nn.logical_axis_rules(rules.RULES), jax.set_mesh(mesh):
    got = compiled(compute)(split, jax.device_put(inputs, by_example))
  for name, value in got.items():
    assert len(value.sharding.device_set) == 8, name
    np.testing.assert_allclose(
      value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name
    )


def _split(mesh, module, inputs, variables):
  """Puts variables on the mesh by the names of their axes."""
  boxed = jax.eval_shape(
    lambda: module.init(jax.random.key(0), *inputs, train=False)
  )
  return jax.tree.map(
    lambda leaf, spec: _shard(mesh, leaf, rules.spec(tuple(spec))),
    variables,
    nn.get_partition_spec(boxed),
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )


def _shard(mesh, leaf, specs):
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
