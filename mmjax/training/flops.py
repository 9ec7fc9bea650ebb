"""FLOPs of a step, and peak FLOP/s of devices."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.interpreters import partial_eval


class Chip(NamedTuple):
  """Peak performance of a device, as its maker states it.

  Attributes:
    name: a part of `jax.Device.device_kind`, in any case.
    flops: dense bfloat16 multiply-adds, in FLOP/s.
    memory: size of the main memory in bytes; None: unknown.
    bandwidth: bandwidth of the main memory, in bytes/s.
    interconnect: bandwidth to other chips of a slice or host over all links
      together, in bytes/s: half of the bidirectional figure.
  """

  name: str
  flops: float
  memory: float | None = None
  bandwidth: float | None = None
  interconnect: float | None = None


# Sources: cloud.google.com/tpu/docs, the pages v4, v5e, v5p and v6e, which give
# the links of a chip as 2,400 Gbit/s (v4) and as 400, 1,200 and 800 GB/s in
# both directions; NVIDIA's data sheets of the DGX B200, H100, A100 and the
# others. The first that fits counts.
CHIPS = (
  Chip('TPU v6', 918e12, 32 * 2**30, 1638e9, 400e9),
  Chip('TPU v5p', 459e12, 95 * 2**30, 2765e9, 600e9),
  Chip('TPU v5 lite', 197e12, 16 * 2**30, 819e9, 200e9),
  Chip('TPU v5e', 197e12, 16 * 2**30, 819e9, 200e9),
  Chip('TPU v5', 459e12, 95 * 2**30, 2765e9, 600e9),
  Chip('TPU v4', 275e12, 32 * 2**30, 1228e9, 300e9),
  # A device of these is a core, half of a chip.
  Chip('TPU v3', 123e12 / 2),
  Chip('TPU v2', 45e12 / 2),
  Chip('B200', 2250e12, 180e9, 8000e9, 900e9),
  Chip('H200', 989e12, 141e9, 4800e9, 450e9),
  Chip('H100 PCIe', 756e12, 80e9, 2000e9, 300e9),
  Chip('H100', 989e12, 80e9, 3350e9, 450e9),
  Chip('A100-SXM4-40GB', 312e12, 40e9, 1555e9, 300e9),
  Chip('A100', 312e12, 80e9, 2039e9, 300e9),
  Chip('A10G', 70e12),
  Chip('L40S', 362e12),
  Chip('L4', 121e12),
  Chip('V100', 125e12),
  Chip('T4', 65e12),
  Chip('RTX 4090', 165e12),
  Chip('RTX 3090', 71e12),
)


def chip(device: jax.Device) -> Chip | None:
  """What the device can do, or None where it isn't known (CPUs)."""
  kind = device.device_kind.lower()
  return next((c for c in CHIPS if c.name.lower() in kind), None)


def peak(device: jax.Device) -> float | None:
  """The device's peak in FLOP/s, or None where it isn't known (CPUs)."""
  found = chip(device)
  return None if found is None else found.flops


def peak_of(devices: Iterable[jax.Device]) -> float | None:
  """The peak of all devices together."""
  peaks = [peak(device) for device in devices]
  return None if None in peaks else sum(peaks)


def count(jaxpr: Any) -> float:
  """FLOPs of the matrix products and convolutions in a traced function.

  Counted in the trace and not by XLA's cost analysis, which takes the body of
  a loop (layers under scan, micro-batches) once however often it runs. The
  rest of a model is small beside its products. Rematerialised products count
  as often as they run, those whose results nobody needs (gradients of frozen
  parameters) not at all.

  Args:
    jaxpr: `jax.jit(f).trace(...).jaxpr` or a part of one.
  """
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  needed = [True] * len(jaxpr.outvars)
  return _count(partial_eval.dce_jaxpr(jaxpr, needed)[0])


def _count(jaxpr: Any) -> float:
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      (contract, _), _ = params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      inner = math.prod(shape[axis] for axis in contract)
      total += 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
    elif name == 'conv_general_dilated':
      total += _convolution(equation)
    else:
      times = params.get('length', 1) if name == 'scan' else 1
      if name == 'shard_map':
        # What one device does of it; the key has a prefix in some versions.
        axes = next(v for k, v in params.items() if k.endswith('manual_axes'))
        times = math.prod(params['mesh'].shape[axis] for axis in axes)
      elif name == 'pallas_call':
        # Also the blocks that a causal kernel leaves out.
        times = math.prod(params['grid_mapping'].grid)
      total += times * sum(_count(inner) for inner in _inner(params))
  return total


def _convolution(equation: Any) -> float:
  """As XLA counts it: no products with padding, nor with what dilation adds.

  So the gradients of a convolution, which are convolutions with holes, have as
  many products as it has itself.
  """
  params = equation.params
  inputs, kernel = (variable.aval.shape for variable in equation.invars)
  out = equation.outvars[0].aval.shape
  places = params['dimension_numbers']
  total = 2.0 * kernel[places.rhs_spec[1]]
  total *= out[places.out_spec[0]] * out[places.out_spec[1]]
  for axis, stride in enumerate(params['window_strides']):
    size = inputs[places.lhs_spec[2 + axis]]
    hole = params['lhs_dilation'][axis]
    # Where each output [o, 1] meets each weight [1, k], holes counted in.
    met = np.arange(out[places.out_spec[2 + axis]])[:, None] * stride
    met = met - params['padding'][axis][0]
    weights = np.arange(kernel[places.rhs_spec[2 + axis]])
    met = met + weights * params['rhs_dilation'][axis]
    real = (met >= 0) & (met <= (size - 1) * hole) & (met % hole == 0)
    total *= real.sum()
  return float(total)


def _inner(params: dict[str, Any]) -> list[Any]:
  """Traced functions among an equation's parameters."""
  out = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if hasattr(item, 'eqns') or hasattr(item, 'jaxpr'):
        out.append(item)
  return out
