"""Slices by name; a program that was compiled for one."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies as topologies_of_jax

from mmjax.errors import ConfigError
from mmjax.planning import collectives, hlo, topologies
from mmjax.training import flops


@pytest.mark.parametrize(
  'name', ['v5e', 'v5e-16', 'cpu', 'cpu:0', 'v5e:0x4', 'v5p:2x0x4']
)
def test_what_is_no_topology_is_refused(name):
  with pytest.raises(ConfigError, match='legal are v5e:4x4'):
    topologies.devices(name)


@pytest.mark.parametrize(
  'name, words',
  [
    ('v5e:4x4x4', '3 sizes, .* v5e have 2'),
    ('v5e:16', 'one size, .* v5e:4x4'),
    ('v5p:4x4', '2 .* v5p:2x2x4'),
    ('h100:2x4', '2 sizes, but h100 has the number .* h100:8'),
    ('v9:4x4', "the device 'v9' is unknown; use one of .*'v5e'"),
  ],
)
def test_what_a_device_does_not_have_is_refused(name, words):
  with pytest.raises(ConfigError, match=words):
    topologies.devices(name)


def test_too_few_devices_raise():
  number = len(jax.devices('cpu')) + 1
  with pytest.raises(ConfigError, match=f'JAX_NUM_CPU_DEVICES={number}'):
    topologies.devices(f'cpu:{number}')


def test_a_cpu_has_no_slices():
  with pytest.raises(ConfigError, match='--slices=2 needs TPUs'):
    topologies.prepare('cpu:1', slices=2)


def test_every_gpu_has_peaks_for_a_roofline():
  for name in topologies.GPUS:
    chip = topologies.find_gpu(f'{name}:1')
    assert chip == topologies.find_gpu(f'{name.upper()}:1')
    assert None not in chip and chip.memory < 2e11 < chip.bandwidth
  assert topologies.find_gpu('cpu:1') is None
  assert topologies.find_gpu('v5e:4x4') is None


def test_libtpu_is_asked_for(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name == 'libtpu' else find(name),
  )
  with pytest.raises(ConfigError, match=r"pip install 'mmjax\[tpu\]'"):
    topologies.prepare('v5e:2x2')


def test_a_slice_of_parts_of_hosts_names_their_size(monkeypatch):
  def refuse(**_):
    raise ValueError('not divisible by chips_per_host_bounds "2x2x1"')

  monkeypatch.setattr(topologies_of_jax, 'get_topology_desc', refuse)
  with pytest.raises(ConfigError, match=r'hosts of 2x2x1 chips; .* v5e:4x4$'):
    topologies.devices('v5e:3x3')


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason='compiling for TPUs needs libtpu, of the extra tpu',
)


@pytest.mark.slow
@needs_libtpu
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


def _plan(tmp_path, *flags):
  file = tmp_path / 'plan.json'
  command = [
    *(sys.executable, '-m', 'mmjax.cli.main', 'plan'),
    *('--config=configs/clip.py:b16,runlocal', '--topology=v5e:2x2'),
    *(f'--json={file}', *flags),
  ]
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    command, capture_output=True, text=True, cwd=root, check=False
  )
  assert done.returncode == 0, done.stderr
  return json.loads(file.read_text()), done.stdout


@pytest.mark.slow
@needs_libtpu
def test_slices_are_distinguished(tmp_path):
  found, said = _plan(tmp_path, '--slices=2', '--config.mesh.fsdp=2')
  assert found['mesh'] == {'data': 4, 'fsdp': 2, 'tensor': 1, 'sequence': 1}
  assert '8 x TPU v5 lite in 2 slices, ' in said
  # Of two, each sends the other its gradients: at best what a chip has of
  # them when its slice has summed them, at worst all that it keeps.
  assert 1 / 4 <= found['bytes_between_slices'] / (4 * 320_577) < 1
  assert ('all-reduce', 'slices') in {
    (one['kind'], one['axes']) for one in found['sent']
  }


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize('axis', ['data', 'fsdp'])
def test_the_command_plans_for_a_slice(tmp_path, axis):
  found, said = _plan(
    tmp_path,
    f'--config.mesh.fsdp={4 if axis == "fsdp" else 1}',
    *(f'--config.model.{tower}.remat=full' for tower in ('image', 'text')),
    *('--examples=1e9', '--price_per_chip_hour=1.5'),
  )
  weights = 4 * 320_577
  assert found['parameters'] == found['trained'] == weights // 4
  assert 'parameters      320,577' in said and ' at 1.5 a chip hour: ' in said
  assert found['unknown_loops'] == []
  assert found['chips'] == 4 and found['kind'] == 'TPU v5 lite'
  # Forward twice of three: 4 / 3, but for what is outside of the stacks.
  assert 1.2 < found['flops'] / found['useful_flops'] < 4 / 3
  sent = {(one['kind'], one['axes']): one['sent'] for one in found['sent']}
  assert {axes for _, axes in sent} == {axis}
  if axis == 'data':
    assert found['held']['parameters'] == weights
    # A ring sums gradients: each chip sends them twice, but for a quarter.
    # Besides, the losses' numbers, and the embeddings of all pairs.
    assert 1 <= sent['all-reduce', axis] / (2 * 3 / 4 * weights) < 1.02
    assert found['bytes_sent'] < 1.07 * 2 * 3 / 4 * weights
  else:
    assert weights / 4 <= found['held']['parameters'] < 1.03 * weights / 4
    assert {'all-gather', 'reduce-scatter'} <= {kind for kind, _ in sent}
    # Weights come once forward and once backward, gradients go once, each but
    # for a quarter; in bfloat16 or in float32.
    once = 3 / 4 * weights
    assert once / 2 <= sent['all-gather', axis] < 3 * once / 2
    assert 3 * once / 2 <= found['bytes_sent'] < 3 * once
