"""Slices by name; a program that was compiled for one."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from mmjax.planning import collectives, hlo, topologies
from mmjax.train import flops
from mmjax.train.settings import UserError


@pytest.mark.parametrize(
  'name',
  [
    *('v5e', 'v5e-16', 'v5e:16', 'cpu:2x2', 'h100:8', 'cpu'),
    *('cpu:0', 'v5e:0x4', 'v5p:2x0x4'),
  ],
)
def test_what_is_no_topology_is_refused(name):
  with pytest.raises(UserError, match='legal are v5e:4x4'):
    topologies.devices(name)


def test_too_few_devices_are_told():
  number = len(jax.devices('cpu')) + 1
  with pytest.raises(UserError, match=f'JAX_NUM_CPU_DEVICES={number}'):
    topologies.devices(f'cpu:{number}')


def test_a_cpu_has_no_slices():
  with pytest.raises(UserError, match='--slices=2 is of TPUs'):
    topologies.devices('cpu:1', slices=2)


def test_libtpu_is_asked_for(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name == 'libtpu' else find(name),
  )
  with pytest.raises(UserError, match=r"pip install 'mmjax\[tpu\]'"):
    topologies.prepare('v5e:2x2')


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason='compiling for TPUs needs libtpu, of the extra tpu',
)
@pytest.mark.parametrize(
  ('name', 'kind'), [('v5e:2x2', 'TPU v5 lite'), ('v4:2x2x1', 'TPU v4')]
)
def test_a_program_for_a_slice_is_read(name, kind):
  topologies.prepare(name)
  devices = topologies.devices(name)
  assert len(devices) == 4
  assert flops.chip(devices[0]).name == kind
  auto = (jax.sharding.AxisType.Auto,) * 2
  mesh = jax.make_mesh((2, 2), ('data', 'fsdp'), auto, devices=devices)
  places = {
    'x': jax.NamedSharding(mesh, jax.P(('data', 'fsdp'), None)),
    'w': jax.NamedSharding(mesh, jax.P(None, 'fsdp', None)),
  }

  def step(x, w):
    def layer(x, w):
      y = jax.lax.with_sharding_constraint(x @ w, places['x'])
      return jnp.tanh(y), None

    return jax.lax.scan(layer, x, w)[0]

  shapes = {'x': (512, 256), 'w': (7, 256, 256)}
  arguments = [
    jax.ShapeDtypeStruct(shape, jnp.float32, sharding=places[key])
    for key, shape in shapes.items()
  ]
  compiled = jax.jit(step).trace(*arguments).lower().compile()
  program = hlo.parse(compiled.as_text())
  assert not program.unknown_loops
  found = collectives.find(program, dict(mesh.shape))
  sent = sum(c.sent for c in found if c.kind == 'all-gather')
  assert {c.axes for c in found} == {('fsdp',)}
  # Each layer's weights, of which a device has half; in bfloat16 or float32.
  assert sent in (7 * 256 * 128 * 2, 7 * 256 * 128 * 4)
