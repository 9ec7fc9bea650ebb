"""Reports what a compiled step needs: memory, traffic, FLOPs, time and cost."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from mmjax.planning import collectives, hlo, step, traffic
from mmjax.training import flops

_STANDS_FOR = (
  'It was compiled for as many CPU devices, since XLA compiles for a GPU only\n'
  'where there is one. FLOPs are those of the GPUs. Memory, traffic and\n'
  'collectives are of the program for CPUs, which fuses less and computes\n'
  'bfloat16 in float32: GPUs need less of them, so that memory traffic counts\n'
  'in the longest step alone.'
)
_GPUS_OF_HOST = 8


@dataclasses.dataclass(frozen=True)
class Report:
  """What a training step needs on a slice; counts are per chip.

  Attributes:
    chips: number of chips.
    kind: `device_kind` of the chips.
    mesh: size by axis.
    batch_size: examples in a step, on all chips.
    parameters: number of parameters of the model.
    trained: number of parameters that the optimizer updates.
    held: bytes of the training state and of the batch, by kind.
    memory: bytes as XLA reports them: 'arguments', 'outputs', 'aliased'
      (outputs that reuse the memory of arguments), 'temporaries', 'program'.
    flops: FLOPs executed in a step.
    useful_flops: FLOPs in a step without those repeated by rematerialisation.
    traffic: bytes moved to and from main memory in a step.
    sent: collectives of a step.
    unknown_loops: names of loops with an unknown number of rounds, which are
      counted as one round.
    limits: published peaks of the chip; None where they aren't known (CPUs).
    compile_seconds: seconds that the compilation took.
    slices: number of TPU slices that the chips are in.
    stands_for: whether CPU devices stood for the chips in the compilation.
  """

  chips: int
  kind: str
  mesh: dict[str, int]
  batch_size: int
  parameters: int
  trained: int
  held: dict[str, float]
  memory: dict[str, float]
  flops: float
  useful_flops: float
  traffic: float
  sent: tuple[collectives.Collective, ...]
  unknown_loops: tuple[str, ...]
  limits: flops.Chip | None
  compile_seconds: float
  slices: int = 1
  stands_for: bool = False

  @property
  def peak_memory(self) -> float:
    """Largest number of bytes in use, as XLA reports it."""
    memory = self.memory
    total = memory['arguments'] + memory['outputs'] - memory['aliased']
    return total + memory['temporaries'] + memory['program']

  @property
  def bytes_sent(self) -> float:
    """Bytes that a chip sends to others of its slice in a step."""
    return sum(o.sent for o in self.sent if o.axes != (collectives.SLICES,))

  @property
  def bytes_between_slices(self) -> float:
    """Bytes that a chip sends to other slices in a step."""
    return sum(o.sent for o in self.sent if o.axes == (collectives.SLICES,))

  @property
  def seconds(self) -> dict[str, float] | None:
    """Seconds of a step that only computed, moved memory or communicated."""
    chip = self.limits
    if chip is None or chip.bandwidth is None or chip.interconnect is None:
      return None
    return {
      'compute': self.flops / chip.flops,
      'memory': self.traffic / chip.bandwidth,
      'interconnect': self.bytes_sent / chip.interconnect,
    }

  @property
  def step_seconds(self) -> tuple[float, float] | None:
    """Shortest and longest step: all work at once, or one by one.

    The memory traffic of CPU devices that stand for GPUs is not a lower bound,
    so it counts in the longest one alone.
    """
    parts = self.seconds
    if parts is None:
      return None
    return max(parts[name] for name in self.bounds), sum(parts.values())

  @property
  def bounds(self) -> tuple[str, ...]:
    """What no step can be shorter than, out of `seconds`."""
    sure = 'compute', 'interconnect'
    return sure if self.stands_for else (*sure, 'memory')

  def mfu(self, seconds: float) -> float:
    """Model FLOPs utilisation of a step that takes so many seconds."""
    return self.useful_flops / (self.limits.flops * seconds)


def make(
  compiled: step.Step,
  devices: Sequence[jax.Device],
  chip: flops.Chip | None = None,
) -> Report:
  """Makes the report of a compiled step.

  Args:
    compiled: result of `step.compile_step`.
    devices: devices that it was compiled for.
    chip: the chip that CPU devices stand for, whose peaks count; None for the
      devices themselves.
  """
  program = hlo.parse(compiled.text)
  memory = compiled.compiled.memory_analysis()
  slices = len({getattr(device, 'slice_index', None) for device in devices})
  return Report(
    chips=len(devices),
    kind=chip.name if chip else devices[0].device_kind,
    mesh=compiled.mesh,
    batch_size=compiled.batch_size,
    parameters=compiled.parameters,
    trained=compiled.trained,
    held=compiled.held,
    memory={
      'arguments': memory.argument_size_in_bytes,
      'outputs': memory.output_size_in_bytes,
      'aliased': memory.alias_size_in_bytes,
      'temporaries': memory.temp_size_in_bytes,
      'program': memory.generated_code_size_in_bytes,
    },
    flops=compiled.flops / len(devices),
    useful_flops=compiled.useful_flops / len(devices),
    traffic=traffic.count(program),
    sent=tuple(collectives.find(program, compiled.mesh, slices)),
    unknown_loops=program.unknown_loops,
    limits=chip or flops.chip(devices[0]),
    stands_for=chip is not None,
    compile_seconds=compiled.seconds,
    slices=slices,
  )


def sum_by_kind(report: Report) -> dict[tuple[str, str], dict[str, float]]:
  """Sums a report's collectives by kind and mesh axes, largest first.

  Returns:
    (kind, axes as in 'data+fsdp') -> 'times', 'sent'.
  """
  out: dict[tuple[str, str], dict[str, float]] = {}
  for collective in report.sent:
    axes = '+'.join(collective.axes) or 'other'
    sums = out.setdefault((collective.kind, axes), {'times': 0.0, 'sent': 0.0})
    sums['times'] += collective.times
    sums['sent'] += collective.sent
  return dict(sorted(out.items(), key=lambda item: -item[1]['sent']))


def to_text(
  report: Report,
  *,
  examples: float | None = None,
  price_per_chip_hour: float | None = None,
) -> str:
  """Formats a report for people.

  Args:
    report: numbers to format.
    examples: number of training examples of the run, for its time and cost.
    price_per_chip_hour: price in any currency.
  """
  within = f' in {report.slices} slices' if report.slices > 1 else ''
  lines = [
    f'{report.chips} x {report.kind}{within}, mesh {mesh_text(report.mesh)}, '
    f'batch {report.batch_size:,} '
    f'({report.batch_size / report.chips:g} a chip); '
    f'compiled in {report.compile_seconds:.0f} s with {step.versions()}',
    '',
    f'parameters      {report.parameters:,}'
    + (
      ''
      if report.trained == report.parameters
      else f', {report.trained:,} of them trained'
    ),
    *_memory(report),
    f'FLOPs a chip    {_number(report.flops)} a step, of which '
    f'{_number(report.useful_flops)} are useful (not repeated)',
    f'memory traffic  {_bytes(report.traffic)} a chip and step (estimated)',
    *_collectives(report),
  ]
  if report.unknown_loops:
    lines.append(
      f'{len(report.unknown_loops)} loops count as one round, since XLA does '
      f'not report their number: {", ".join(report.unknown_loops[:5])}'
    )
  lines += ['', *_roofline(report, examples, price_per_chip_hour)]
  if report.stands_for:
    lines.append(_STANDS_FOR)
    if report.chips > _GPUS_OF_HOST:
      lines.append(
        f'More than {_GPUS_OF_HOST} GPUs are on several hosts, with a network '
        'slower than the links above.'
      )
  return '\n'.join(lines)


def mesh_text(mesh: dict[str, int]) -> str:
  """Formats a mesh: 'data=4 fsdp=2', or 'of one device'."""
  long = [f'{axis}={size}' for axis, size in mesh.items() if size > 1]
  return ' '.join(long) or 'of one device'


def explain_missing_times(report: Report) -> str:
  """Says why a report has no times."""
  return (
    f'no published peaks of {report.kind!r}, so no estimate of times, hours '
    'and cost'
  )


def _memory(report: Report) -> list[str]:
  capacity = report.limits and report.limits.memory
  fraction = (
    f' of {_bytes(capacity)} ({report.peak_memory / capacity:.0%})'
    if capacity
    else ''
  )
  held = ', '.join(
    f'{name} {_bytes(size)}' for name, size in report.held.items() if size
  )
  memory = report.memory
  fresh = memory['outputs'] - memory['aliased']
  lines = [
    f'memory a chip   {_bytes(report.peak_memory)}{fraction}',
    f'  arguments     {_bytes(memory["arguments"])} ({held})',
    f'  temporaries   {_bytes(memory["temporaries"])}',
    f'  output        {_bytes(fresh)} beside those that reuse arguments',
  ]
  if memory['program']:  # Not reported for CPUs.
    lines.append(f'  program       {_bytes(memory["program"])}')
  return lines


def _collectives(report: Report) -> list[str]:
  if not report.sent:
    return ['collectives     none']
  between = (
    f', {_bytes(report.bytes_between_slices)} to other slices'
    if report.slices > 1
    else ''
  )
  lines = [
    f'collectives     {_bytes(report.bytes_sent)} sent a chip and step{between}'
  ]
  for (kind, axes), sums in sum_by_kind(report).items():
    lines.append(
      f'  {kind:<18} over {axes:<12} {sums["times"]:>6,.0f} times '
      f'{_bytes(sums["sent"]):>10}'
    )
  return lines


def _roofline(
  report: Report, examples: float | None, price: float | None
) -> list[str]:
  parts, between = report.seconds, report.step_seconds
  if parts is None or between is None:
    return [explain_missing_times(report)]
  best, worst = between
  chip = report.limits
  bound = max(report.bounds, key=parts.get)
  speeds = [report.batch_size / seconds for seconds in between]
  lines = [
    'estimated from published peaks: '
    f'{chip.flops / 1e12:g} TFLOP/s in bfloat16, memory '
    f'{chip.bandwidth / 1e9:g} GB/s, all links together send '
    f'{chip.interconnect / 1e9:g} GB/s',
    *(
      f'  {name:<13} {time_text(seconds):>12}'
      + ('  <- the bound' if name == bound else '')
      for name, seconds in parts.items()
    ),
    '                 all at once   one by one',
    f'  step         {time_text(best):>13} {time_text(worst):>12}',
    f'  MFU          {report.mfu(best):>12.1%} {report.mfu(worst):>12.1%}',
    f'  examples/s   {speeds[0]:>12,.0f} {speeds[1]:>12,.0f}',
  ]
  if examples is not None:
    hours = [examples / speed / 3600 for speed in speeds]
    span = f'{hours[0]:,.1f} to {hours[1]:,.1f} hours'
    lines.append(f'  {_number(examples)} examples: {span}')
    if price is not None:
      costs = [h * report.chips * price for h in hours]
      lines.append(
        f'  cost at {price:g} a chip hour: {costs[0]:,.0f} to {costs[1]:,.0f}'
      )
  if report.slices > 1:
    lines.append(
      'The network between slices is not included in these times, since its '
      'speed is\nnot published: divide the bytes by what your chips can send.'
    )
  lines.append(
    'A step takes between the two if XLA reaches the peaks, which it never '
    'quite does.\nMemory, collectives and memory traffic are counted in the '
    'compiled program,\nFLOPs in the traced one. Not counted: waiting for '
    'data, other work than\nproducts, links that a collective along one axis '
    'leaves idle.'
  )
  return lines


def time_text(seconds: float) -> str:
  """Formats the time of a step.

  >>> time_text(0.0123), time_text(4.56e-6)
  ('12.30 ms', '4.56 µs')
  """
  if 0 < seconds < 1e-4:
    return f'{seconds * 1e6:.2f} µs'
  return f'{seconds * 1e3:.2f} ms'


def _bytes(number: float) -> str:
  """Formats a number of bytes with binary units.

  >>> _bytes(3 * 2**30)
  '3.00 GiB'
  """
  for unit, size in (('GiB', 2**30), ('MiB', 2**20), ('KiB', 2**10)):
    if number >= size:
      return f'{number / size:.2f} {unit}'
  return f'{number:.0f} B'


def _number(number: float) -> str:
  for unit, size in (('P', 1e15), ('T', 1e12), ('G', 1e9), ('M', 1e6)):
    if number >= size:
      return f'{number / size:.3g} {unit}'
  return f'{number:,.0f}'


def to_json(report: Report) -> dict[str, Any]:
  """All numbers of a report, as plain values for a JSON file."""
  out = dataclasses.asdict(report)
  out['limits'] = report.limits and report.limits._asdict()
  out['sent'] = [
    {'kind': kind, 'axes': axes, **sums}
    for (kind, axes), sums in sum_by_kind(report).items()
  ]
  return out | {
    'bytes_sent': report.bytes_sent,
    'bytes_between_slices': report.bytes_between_slices,
    'peak_memory': report.peak_memory,
    'seconds': report.seconds,
    'step_seconds': report.step_seconds,
    'versions': step.versions(),
  }
