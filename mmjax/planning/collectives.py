"""Lists the collectives of a compiled step and the bytes that they send."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.planning import hlo

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)

_LISTS = re.compile(r'replica_groups=(\{[\d{},\s]*\})')
_IOTA = re.compile(
  r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?'
)
_MESH = re.compile(
  r'replica_groups=(?:@?\w+)?mesh\[([^\]]*)\]\s*(?:,\s*device_ids='
  r'\(?\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?\)?)?\s*'
  r'\{([^}]*)\}'
)
_PAIRS = re.compile(r'source_target_pairs=\{([\d{},\s]*)\}')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_BETWEEN = re.compile(r'_xla_megascale_transfer_type="(\w+)"')

# Stands for a mesh axis in collectives between slices.
SLICES = 'slices'


@dataclasses.dataclass(frozen=True)
class Collective:
  """A collective of the program and how often it runs in a step.

  Attributes:
    kind: one of `KINDS`.
    axes: names of the mesh axes whose devices take part; empty if the groups
      don't follow axes of the mesh; `(SLICES,)` if it is between slices.
    times: number of runs in a step.
    sent: bytes that a device sends in all these runs, with a ring algorithm.
  """

  kind: str
  axes: tuple[str, ...]
  times: float
  sent: float


def find(
  program: hlo.Program, mesh: Mapping[str, int], slices: int = 1
) -> list[Collective]:
  """Lists the collectives of a compiled program.

  Args:
    program: result of `hlo.parse`.
    mesh: size by axis, in the order in which the program's devices are laid
      out.
    slices: number of TPU slices; the axis `data` is split over them. An
      operation over several slices is a collective in each slice, and one more
      between the chips at the same position of each.

  Returns:
    The collectives between two or more devices, largest first.
  """
  if slices > 1:
    # A slice's own collectives number the chips of one slice.
    mesh = {**mesh, 'data': mesh['data'] // slices}
  plain, fused = [], {}
  inner = {
    called
    for computation, _ in program
    for instruction in computation.instructions.values()
    if instruction.opcode == 'fusion'
    for called in instruction.called
  }
  reduce_scatters = _find_reduce_scatters(program)
  for computation, times in program:
    for instruction in computation.instructions.values():
      if between := _BETWEEN.search(instruction.attributes):
        if instruction.opcode == 'send':
          kind = between.group(1).lower().replace('_', '-')
          size = computation.instructions[instruction.operands[0]].bytes
          sent = times * _bytes_sent(kind, size, slices)
          plain.append(Collective(kind, (SLICES,), times, sent))
        continue
      kind = instruction.opcode.removesuffix('-start')
      if kind not in KINDS or instruction.opcode.endswith('-done'):
        continue
      if kind == 'all-reduce' and computation.name in reduce_scatters:
        kind = 'reduce-scatter'
      collective = _collective(kind, instruction, computation, times, mesh)
      if collective is None:
        continue
      channel = _CHANNEL.search(instruction.attributes)
      if computation.name in inner and channel:
        # A TPU splits a collective into parts to overlap it with other work,
        # also inside loops: each part is a fusion that names the same channel.
        # The first part runs as often as the collective does.
        known = fused.get(channel.group(1))
        if known is None or known.sent > collective.sent:
          fused[channel.group(1)] = collective
      else:
        plain.append(collective)
  return sorted([*plain, *fused.values()], key=lambda c: -c.sent)


def _find_reduce_scatters(program: hlo.Program) -> set[str]:
  """Names of all-reduce fusions that keep only a part: reduce-scatters."""
  return {
    called
    for computation, _ in program
    for instruction in computation.instructions.values()
    if instruction.opcode == 'fusion'
    for called in instruction.called
    if 'all-reduce-scatter' in called
    or 'all-reduce-scatter' in instruction.name
  }


def _collective(kind, instruction, computation, times, mesh):
  known = computation.instructions
  size = sum(known[o].bytes for o in instruction.operands if o in known)
  if kind == 'collective-permute':
    pairs = _pairs(instruction.attributes)
    axes, number = _crossed_axes(pairs, mesh), 2 if pairs else 1
  else:
    groups = _groups(instruction.attributes, math.prod(mesh.values()))
    axes, number = _axes(groups, mesh), len(groups[0])
  if number < 2:
    return None
  return Collective(kind, axes, times, times * _bytes_sent(kind, size, number))


def _bytes_sent(kind: str, size: float, number: int) -> float:
  """Bytes that one of `number` devices in a ring sends for `size` bytes."""
  fraction = (number - 1) / number
  return {
    'all-reduce': 2 * fraction * size,
    'all-gather': (number - 1) * size,
    'reduce-scatter': fraction * size,
    'all-to-all': fraction * size,
  }.get(kind, size)


def _numbers(text: str) -> list[int]:
  return [int(number) for number in re.findall(r'\d+', text)]


def _pairs(attributes: str) -> list[tuple[int, int]]:
  numbers = _numbers(_PAIRS.search(attributes).group(1))
  pairs = zip(numbers[::2], numbers[1::2], strict=True)
  return [(a, b) for a, b in pairs if a != b]


def _groups(attributes: str, devices: int) -> list[list[int]]:
  """Device numbers of each group, in any of XLA's notations.

  Raises:
    ValueError: for an unknown notation.
  """
  if match := _IOTA.search(attributes):
    shape, reshape, order = (_numbers(part or '') for part in match.groups())
    return _iota(reshape, order).reshape(shape).tolist()
  if match := _MESH.search(attributes):
    return _mesh_groups(*match.groups())
  if match := _LISTS.search(attributes):
    groups = re.findall(r'\{([\d,\s]+)\}', match.group(1))
    return [_numbers(group) for group in groups] or [list(range(devices))]
  raise ValueError(
    'the device groups of a collective are in an unknown notation: '
    f'{attributes[:200]!r}; report it, with the versions of jax and libtpu'
  )


def _iota(shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
  numbers = np.arange(math.prod(shape)).reshape(shape)
  return numbers.transpose(order) if order else numbers


def _mesh_groups(axes, shape, reshape, order, chosen) -> list[list[int]]:
  """Device groups over axes of a mesh, `mesh['a'=4,'b'=2] {'a'}`.

  A part of an axis is written `'a':(BEFORE)SIZE`: of axis a, split as
  [BEFORE, SIZE, rest], the middle dimension.
  """
  sizes = {
    name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)
  }
  if shape:
    numbers = _iota(_numbers(reshape or shape), _numbers(order or ''))
  else:
    numbers = np.arange(math.prod(sizes.values()))
  # Each axis as [before, part, after].
  parts, wanted = [], []
  picked = {
    name: (int(before or 1), int(size or sizes[name]))
    for name, before, size in re.findall(
      r"'([^']+)'(?::\((\d+)\)(\d+))?", chosen
    )
  }
  for name, size in sizes.items():
    before, part = picked.get(name, (1, 1))
    wanted.append(len(parts) + 1)
    parts += [before, part, size // before // part]
  grid = numbers.reshape(parts)
  others = [axis for axis in range(len(parts)) if axis not in wanted]
  grid = grid.transpose(*others, *wanted)
  return grid.reshape(-1, math.prod(parts[axis] for axis in wanted)).tolist()


def _axes(groups: list[list[int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
  """The mesh axes that the groups follow, or () if there are none such."""
  wanted = {frozenset(group) for group in groups}
  long = [axis for axis, size in mesh.items() if size > 1]
  for number in range(1, len(long) + 1):
    for chosen in itertools.combinations(long, number):
      if math.prod(mesh[axis] for axis in chosen) != len(groups[0]):
        continue
      if _axis_groups(mesh, chosen) == wanted:
        return chosen
  return ()


def _axis_groups(
  mesh: Mapping[str, int], chosen: Sequence[str]
) -> set[frozenset[int]]:
  """Groups of devices that differ only in the chosen axes."""
  names = list(mesh)
  grid = np.arange(math.prod(mesh.values())).reshape(list(mesh.values()))
  last = [names.index(axis) for axis in chosen]
  grid = grid.transpose(*(i for i in range(len(names)) if i not in last), *last)
  size = math.prod(mesh[axis] for axis in chosen)
  return {frozenset(row) for row in grid.reshape(-1, size).tolist()}


def _crossed_axes(
  pairs: list[tuple[int, int]], mesh: Mapping[str, int]
) -> tuple[str, ...]:
  """The axes in which senders and receivers differ."""
  shape = tuple(mesh.values())
  differ = np.zeros(len(shape), bool)
  for a, b in pairs:
    differ |= np.array(np.unravel_index(a, shape)) != np.array(
      np.unravel_index(b, shape)
    )
  return tuple(np.array(list(mesh))[differ].tolist())
