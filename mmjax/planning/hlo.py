"""A compiled program's text, read: instructions, and how often each runs."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r'([\w\-]+)\(')
_NAME = re.compile(r'%([\w.\-]+)')
_SHAPE = re.compile(r'\b([a-z]\w*)\[([\d,<=]*)\](\{[^{}]*\})?')
_CALLED = re.compile(r'\b(?:calls|to_apply|body)=%?([\w.\-]+)')
_BODY = re.compile(r'\bbody=%?([\w.\-]+)')
_CONDITION = re.compile(r'\bcondition=%?([\w.\-]+)')
_BRANCHES = re.compile(
  r'\b(?:branch_computations|called_computations)=\{([^}]*)\}'
  r'|\b(?:true|false)_computation=%?([\w.\-]+)'
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BITS = re.compile(r'[a-z]+(\d+)')


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array of an instruction's result.

  Attributes:
    bytes: that it holds, without the padding of tiles.
    in_memory: whether it lies in the device's main memory, and not in a
      faster one beside the cores (TPUs print that as `S(1)` in the layout).
  """

  bytes: float
  in_memory: bool = True


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: unique in its computation.
    opcode: such as 'fusion'.
    shapes: of its result; several for a tuple.
    operands: names of instructions of the same computation.
    arguments: what stands between the parentheses.
    attributes: what stands behind them.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str

  @property
  def bytes(self) -> float:
    """Of its whole result."""
    return sum(shape.bytes for shape in self.shapes)

  @functools.cached_property
  def called(self) -> tuple[str, ...]:
    """Computations that it runs, but for a loop's condition."""
    several = [
      name
      for group, one in _BRANCHES.findall(self.attributes)
      for name in ([one] if one else re.findall(r'[\w.\-]+', group))
    ]
    return (*_CALLED.findall(self.attributes), *several)


@dataclasses.dataclass(frozen=True)
class Computation:
  """A function of the program.

  Attributes:
    name: of the computation.
    instructions: by name, in the order of the text.
    root: name of the instruction whose result it gives.
  """

  name: str
  instructions: Mapping[str, Instruction]
  root: str


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled module.

  Attributes:
    computations: by name.
    runs: how often one call of the program runs each computation; those of a
      loop's body as often as the loop goes round.
    unknown_loops: names of the loops that count as one round, since the text
      doesn't say how many they make.
  """

  computations: Mapping[str, Computation]
  runs: Mapping[str, float]
  unknown_loops: tuple[str, ...]

  def __iter__(self) -> Iterator[tuple[Computation, float]]:
    """Computations that run, and how often."""
    for name, times in self.runs.items():
      yield self.computations[name], times


def parse(text: str) -> Program:
  """Reads what `compiled.as_text()` gives, of one device's program.

  Raises:
    ValueError: if it has no entry computation.
  """
  computations, entry, current, root = {}, None, None, ''
  for line in text.splitlines():
    if line.startswith(' '):
      if current is not None and (found := _instruction(line)):
        current[1][found.name] = found
        if line.lstrip().startswith('ROOT '):
          root = found.name
    elif match := _COMPUTATION.match(line):
      current, root = (match.group(2), {}), ''
      entry = current[0] if match.group(1) else entry
    elif line == '}' and current is not None:
      name, instructions = current
      computations[name] = Computation(name, instructions, root)
      current = None
  if entry is None:
    raise ValueError('the text of the compiled program has no ENTRY')
  runs: dict[str, float] = {}
  unknown: list[str] = []
  _run(computations, entry, 1.0, runs, unknown)
  return Program(computations, runs, tuple(dict.fromkeys(unknown)))


def _run(computations, name, times, runs, unknown) -> None:
  runs[name] = runs.get(name, 0.0) + times
  for instruction in computations[name].instructions.values():
    rounds = 1.0
    if instruction.opcode == 'while':
      known = _rounds(computations, name, instruction)
      if known is None:
        unknown.append(instruction.name)
      rounds = 1.0 if known is None else float(known)
    for called in instruction.called:
      if called in computations:
        _run(computations, called, times * rounds, runs, unknown)


def _rounds(computations, name: str, loop: Instruction) -> int | None:
  """How often a loop goes round, by its own word or by its condition."""
  if match := _TRIPS.search(loop.attributes):
    return int(match.group(1))
  condition = computations[_CONDITION.search(loop.attributes).group(1)]
  root = condition.instructions[condition.root]
  if root.opcode != 'compare' or 'direction=LT' not in root.attributes:
    return None
  counter, limit = (condition.instructions[o] for o in root.operands)
  index = re.search(r'index=(\d+)', counter.attributes)
  if limit.opcode != 'constant' or not index:
    return None
  place = int(index.group(1))
  start = _constant(computations[name], loop.operands[0], place)
  stride = _stride(computations[_BODY.search(loop.attributes).group(1)], place)
  if start is None or not stride:
    return None
  return -(-(int(limit.arguments) - start) // stride)


def _constant(
  around: Computation, operand: str, place: int | None = None
) -> int | None:
  """The number that an operand, or a part of a tuple, is known to be."""
  own = around.instructions
  found = own[operand]
  if place is not None:
    if found.opcode != 'tuple':
      return None
    found = own[found.operands[place]]
  while found.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start'):
    found = own[found.operands[0]]
  return int(found.arguments) if found.opcode == 'constant' else None


def _stride(body: Computation, place: int) -> int | None:
  """By how much a round moves the counter on; 2 in an unrolled loop."""
  root = body.instructions[body.root]
  if root.opcode != 'tuple':
    return None
  moved = body.instructions[root.operands[place]]
  if moved.opcode != 'add':
    return None
  added = [_constant(body, operand) for operand in moved.operands]
  return next((number for number in added if number is not None), None)


def _instruction(line: str) -> Instruction | None:
  match = _INSTRUCTION.match(line)
  if match is None:
    return None
  rest = line[match.end() :]
  end = _closing(rest) + 1 if rest.startswith('(') else rest.index(' ')
  shapes, rest = rest[:end], rest[end:].lstrip()
  opcode = _OPCODE.match(rest)
  if opcode is None:
    return None
  inside = rest[opcode.end() - 1 :]
  end = _closing(inside)
  arguments = inside[1:end]
  return Instruction(
    name=match.group(1),
    opcode=opcode.group(1),
    shapes=tuple(_shape(*parts) for parts in _SHAPE.findall(shapes)),
    operands=tuple(_NAME.findall(arguments)),
    arguments=arguments,
    attributes=inside[end + 1 :],
  )


def _closing(text: str) -> int:
  """Where the parenthesis closes that a text begins with."""
  depth = 0
  for match in re.finditer(r'[()]', text):
    depth += 1 if match.group() == '(' else -1
    if depth == 0:
      return match.start()
  raise ValueError(f'a parenthesis of {text[:80]!r} is not closed')


def _shape(kind: str, sizes: str, layout: str) -> Shape:
  number = 1
  for size in filter(None, sizes.split(',')):
    number *= int(size.removeprefix('<='))
  bits = 8 if kind == 'pred' else 0
  if match := _BITS.match(kind):
    bits = int(match.group(1))
  return Shape(number * bits / 8, re.search(r'S\([1-9]', layout) is None)
