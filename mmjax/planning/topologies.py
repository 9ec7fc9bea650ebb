"""Devices to compile for without having them: TPU slices, GPUs, CPU devices."""

import contextlib
import importlib.util
import os
import re
import typing

from mmjax.errors import ConfigError, check_choice

if typing.TYPE_CHECKING:
  from mmjax.training import flops

# Sizes of a slice by kind of TPU.
_DIMENSIONS = {'v4': 3, 'v5e': 2, 'v5p': 3, 'v6e': 2}
_EXAMPLES = {2: '4x4', 3: '2x2x4'}
# Options of libtpu by kind of TPU; megacore makes a chip one device.
_TPUS = {
  'v4': {'chip_config_name': 'megacore'},
  'v5e': {},
  'v5p': {},
  'v6e': {},
}
# Name -> that in the table of peaks. CPU devices stand for them.
GPUS = {
  'b200': 'B200',
  'h200': 'H200',
  'h100': 'H100',
  'h100-pcie': 'H100 PCIe',
  'a100': 'A100',
  'a100-40gb': 'A100-SXM4-40GB',
}
_NAME = re.compile(r'([\w-]+):(\d+(?:x\d+)*)')
_LEGAL = (
  'legal are v5e:4x4 and other shapes of v5e and v6e slices, v5p:2x2x4 and '
  f'other shapes of v4 and v5p slices, {", ".join(f"{n}:8" for n in GPUS)} or '
  'another number of GPUs, and cpu:8 or another number of CPU devices'
)


def prepare(name: str, slices: int = 1) -> None:
  """Sets environment variables and flags before JAX looks for devices.

  With them libtpu doesn't ask a metadata server about this machine, and a
  machine with an accelerator plans like one without.

  Args:
    name: name of the topology, as in `devices`.
    slices: number of such slices.

  Raises:
    ConfigError: if the topology does not exist, or libtpu is not installed.
  """
  kind, shape = _parse(name)
  if kind not in _TPUS and slices > 1:
    raise ConfigError(
      f'--slices={slices} needs TPUs, but --topology={name} has none; leave it '
      'out, or plan for a TPU slice'
    )
  if kind in _TPUS:
    if importlib.util.find_spec('libtpu') is None:
      raise ConfigError(
        f'--topology={name} needs libtpu, which compiles for TPUs: pip install '
        "'mmjax[tpu]'; or plan with --topology=cpu:8"
      )
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-1')
    # libtpu only compiles here, so several processes may load it.
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  import jax

  jax.config.update('jax_platforms', 'cpu')
  if kind not in _TPUS:
    # Too late if JAX has started; `devices` checks that there are enough.
    with contextlib.suppress(RuntimeError):
      jax.config.update('jax_num_cpu_devices', int(shape))


def devices(name: str, slices: int = 1) -> list:
  """The devices of a topology, after `prepare`.

  Args:
    name: libtpu's name of a topology ('v5e:4x4', 'v5p:2x2x4', ...), 'cpu:8', or
      'h100:8', whose devices are CPU devices.
    slices: number of such slices, with a slower network between them.

  Raises:
    ConfigError: if the topology does not exist.
  """
  import jax
  from jax.experimental import topologies

  kind, shape = _parse(name)
  if kind not in _TPUS:
    cpus = jax.devices('cpu')
    if len(cpus) < int(shape):
      raise ConfigError(
        f'--topology={name}: this process has {len(cpus)} CPU devices; set '
        f'JAX_NUM_CPU_DEVICES={shape} before it starts'
      )
    return cpus[: int(shape)]
  options = {'num_slices': slices} if slices > 1 else {}
  try:
    topology = topologies.get_topology_desc(
      platform='tpu', topology_name=f'{kind}:{shape}', **_TPUS[kind], **options
    )
  except Exception as error:  # XLA raises several classes.
    host = re.search(r'chips_per_host_bounds "([\dx]+)"', str(error))
    if host is None:
      raise ConfigError(f'--topology={name}: {error}; {_LEGAL}') from error
    raise ConfigError(
      f'--topology={name}: slices of {kind} are made of hosts of '
      f'{host.group(1)} chips; use sizes divisible by these, as in '
      f'{kind}:{_EXAMPLES[_DIMENSIONS[kind]]}'
    ) from error
  return list(topology.devices)


def find_gpu(name: str) -> 'flops.Chip | None':
  """The GPU of a topology that CPU devices stand for; None for others."""
  from mmjax.training import flops  # It imports JAX.

  kind, _ = _parse(name)
  found = (chip for chip in flops.CHIPS if chip.name == GPUS.get(kind))
  return next(found, None)


def _parse(name: str) -> tuple[str, str]:
  match = _NAME.fullmatch(name.lower())
  # libtpu divides by the sizes without checking them, and aborts if they are
  # too many.
  if not match or 0 in map(int, match.group(2).split('x')):
    raise ConfigError(f'--topology={name!r} is not legal; {_LEGAL}')
  kind, shape = match.groups()
  check_choice(kind, (*_TPUS, *GPUS, 'cpu'), f'--topology={name}: the device')
  given, number = shape.count('x') + 1, _DIMENSIONS.get(kind, 1)
  if given != number:
    what = f'{kind} has the number of devices alone, as in {kind}:8'
    if kind in _TPUS:
      what = f'slices of {kind} have {number}, as in {kind}:{_EXAMPLES[number]}'
    count = 'one size' if given == 1 else f'{given} sizes'
    raise ConfigError(f'--topology={name} has {count}, but {what}')
  return kind, shape
