"""How much of the device's peak a step uses."""

import math
from collections.abc import Iterable
from typing import Any

import jax

# Peak of dense bfloat16 multiply-adds in FLOP/s, by the maker's data sheets;
# matched as a part of `device_kind`, the first that fits.
PEAKS = (
  ('TPU v6', 918e12),
  ('TPU v5p', 459e12),
  ('TPU v5 lite', 197e12),
  ('TPU v5e', 197e12),
  ('TPU v5', 459e12),
  ('TPU v4', 275e12),
  ('TPU v3', 123e12),
  ('TPU v2', 45e12),
  ('B200', 2250e12),
  ('H200', 989e12),
  ('H100 PCIe', 756e12),
  ('H100', 989e12),
  ('A100', 312e12),
  ('A10G', 70e12),
  ('L40S', 362e12),
  ('L4', 121e12),
  ('V100', 125e12),
  ('T4', 65e12),
  ('RTX 4090', 165e12),
  ('RTX 3090', 71e12),
)


def peak(device: jax.Device) -> float | None:
  """The device's peak in FLOP/s, or None where it isn't known (CPUs)."""
  kind = device.device_kind.lower()
  return next((p for name, p in PEAKS if name.lower() in kind), None)


def peak_of(devices: Iterable[jax.Device]) -> float | None:
  """The peak of all devices together."""
  peaks = [peak(device) for device in devices]
  return None if None in peaks else sum(peaks)


def count(jaxpr: Any) -> float:
  """FLOPs of the matrix products and convolutions in a traced function.

  Counted in the trace and not by XLA's cost analysis, which takes the body of
  a loop (layers under scan, micro-batches) once however often it runs. The
  rest of a model is small beside its products. Rematerialised products count
  as often as they run.

  Args:
    jaxpr: `jax.jit(f).trace(...).jaxpr` or a part of one.
  """
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
      kernel = equation.invars[1].aval.shape
      features = kernel[params['dimension_numbers'].rhs_spec[0]]
      out = math.prod(equation.outvars[0].aval.shape)
      total += 2.0 * out * math.prod(kernel) / features
    else:
      times = params.get('length', 1) if name == 'scan' else 1
      if name == 'shard_map':
        # What one device does of it; the key has a prefix in some versions.
        axes = next(v for k, v in params.items() if k.endswith('manual_axes'))
        times = math.prod(params['mesh'].shape[axis] for axis in axes)
      total += times * sum(count(inner) for inner in _inner(params))
  return total


def _inner(params: dict[str, Any]) -> list[Any]:
  """Traced functions among an equation's parameters."""
  out = []
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if hasattr(item, 'eqns') or hasattr(item, 'jaxpr'):
        out.append(item)
  return out
