"""Devices that need not be there: TPU slices, and a CPU in several parts."""

import contextlib
import importlib.util
import os
import re

from mmjax.errors import ConfigError

# What libtpu knows the kinds by, and how it shall take a chip as one device.
_TPUS = {
  'v4': {'chip_config_name': 'megacore'},
  'v5e': {},
  'v5p': {},
  'v6e': {},
}
_NAME = re.compile(r'(\w+):(\d+(?:x\d+)*)')
_LEGAL = (
  'legal are v5e:4x4 and other shapes of v5e and v6e slices, v5p:2x2x4 and '
  'other shapes of v4 and v5p slices, and cpu:8 or another number'
)


def prepare(name: str) -> None:
  """Sets what has to be set before JAX looks for devices.

  So that libtpu asks no metadata server which machine this is, and that a
  machine with an accelerator plans as one without.

  Args:
    name: see `devices`.

  Raises:
    ConfigError: if there is no such topology, or libtpu is not installed.
  """
  kind, shape = _parts(name)
  if kind != 'cpu':
    if importlib.util.find_spec('libtpu') is None:
      raise ConfigError(
        f'--topology={name} needs libtpu, which compiles for TPUs: pip install '
        "'mmjax[tpu]'; or plan with --topology=cpu:8"
      )
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-1')
    # It compiles only, so it may do so beside others.
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  import jax

  jax.config.update('jax_platforms', 'cpu')
  if kind == 'cpu':
    # It may be too late to make more; `devices` looks if there are enough.
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', int(shape))


def devices(name: str, slices: int = 1) -> list:
  """The devices of a topology, after `prepare`.

  Args:
    name: 'v5e:4x4', 'v5p:2x2x4', ..., as libtpu knows them, or 'cpu:8'.
    slices: number of such slices, with a slower network between them.

  Raises:
    ConfigError: if there is no such topology.
  """
  import jax
  from jax.experimental import topologies

  kind, shape = _parts(name)
  if kind == 'cpu' and slices > 1:
    raise ConfigError(
      f'--slices={slices} is of TPUs, but --topology={name} has none; leave it '
      'out, or plan for a TPU slice'
    )
  if kind == 'cpu':
    found = jax.devices('cpu')
    if len(found) < int(shape):
      raise ConfigError(
        f'--topology={name}: this process has {len(found)} CPU devices; set '
        f'JAX_NUM_CPU_DEVICES={shape} before it starts'
      )
    return found[: int(shape)]
  several = {'num_slices': slices} if slices > 1 else {}
  try:
    described = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **_TPUS[kind], **several
    )
  except Exception as error:  # XLA's own, of several classes.
    raise ConfigError(f'--topology={name}: {error}; {_LEGAL}') from error
  return list(described.devices)


def _parts(name: str) -> tuple[str, str]:
  match = _NAME.fullmatch(name)
  kind = match.group(1) if match else ''
  flat = bool(match) and 'x' not in match.group(2)
  known = kind in (*_TPUS, 'cpu') and (kind == 'cpu') == flat
  # libtpu divides by the sizes before it looks at them.
  if not known or min(map(int, match.group(2).split('x'))) < 1:
    raise ConfigError(f'--topology={name!r} is not legal; {_LEGAL}')
  return kind, match.group(2)
