"""Parses a compiled program's text: instructions, and how often each runs."""

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
    bytes: size in bytes, without the padding of tiles.
    in_memory: whether it is in the device's main memory, not in a faster one
      beside the cores (TPUs print that as `S(1)` in the layout).
  """

  bytes: float
  in_memory: bool = True


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: name, unique in its computation.
    opcode: name of the operation, such as 'fusion'.
    shapes: shapes of its result; several for a tuple.
    operands: names of instructions of the same computation.
    arguments: text between the parentheses.
    attributes: text behind the parentheses.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str

  @property
  def bytes(self) -> float:
    """Size of its whole result."""
    return sum(shape.bytes for shape in self.shapes)

  @functools.cached_property
  def called(self) -> tuple[str, ...]:
    """Names of the computations that it runs, without loop conditions."""
    branches = [
      name
      for group, one in _BRANCHES.findall(self.attributes)
      for name in ([one] if one else re.findall(r'[\w.\-]+', group))
    ]
    return (*_CALLED.findall(self.attributes), *branches)


@dataclasses.dataclass(frozen=True)
class Computation:
  """A function of the program.

  Attributes:
    name: name of the computation.
    instructions: instructions by name, in the order of the text.
    root: name of the instruction whose result it returns.
  """

  name: str
  instructions: Mapping[str, Instruction]
  root: str


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled module.

  Attributes:
    computations: computations by name.
    runs: how often one call of the program runs each computation; a loop's
      body is counted once per round.
    unknown_loops: names of loops whose number of rounds the text doesn't say;
      they are counted as one round.
  """

  computations: Mapping[str, Computation]
  runs: Mapping[str, float]
  unknown_loops: tuple[str, ...]

  def __iter__(self) -> Iterator[tuple[Computation, float]]:
    """Yields each computation that runs, and how often."""
    for name, times in self.runs.items():
      yield self.computations[name], times


def parse(text: str) -> Program:
  """Parses `compiled.as_text()`, the program of one device.

  Raises:
    ValueError: if it has no entry computation.
  """
  computations, entry, current, root = {}, None, None, ''
  for line in text.splitlines():
    if line.startswith(' '):
      if current is not None and (instruction := _parse_instruction(line)):
        current[1][instruction.name] = instruction
        if line.lstrip().startswith('ROOT '):
          root = instruction.name
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
  _count_runs(computations, entry, 1.0, runs, unknown)
  return Program(computations, runs, tuple(dict.fromkeys(unknown)))


def _count_runs(computations, name, times, runs, unknown) -> None:
  runs[name] = runs.get(name, 0.0) + times
  for instruction in computations[name].instructions.values():
    rounds = 1.0
    if instruction.opcode == 'while':
      known = _count_rounds(computations, name, instruction)
      if known is None:
        unknown.append(instruction.name)
      rounds = 1.0 if known is None else float(known)
    for called in instruction.called:
      if called in computations:
        _count_runs(computations, called, times * rounds, runs, unknown)


def _count_rounds(computations, name: str, loop: Instruction) -> int | None:
  """Number of rounds of a loop, as annotated or from its condition."""
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
  index = int(index.group(1))
  start = _constant(computations[name], loop.operands[0], index)
  stride = _stride(computations[_BODY.search(loop.attributes).group(1)], index)
  if start is None or not stride:
    return None
  return -(-(int(limit.arguments) - start) // stride)


def _constant(
  computation: Computation, operand: str, index: int | None = None
) -> int | None:
  """Value of an operand, or of a tuple's element, if it is a constant."""
  instructions = computation.instructions
  source = instructions[operand]
  if index is not None:
    if source.opcode != 'tuple':
      return None
    source = instructions[source.operands[index]]
  while source.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start'):
    source = instructions[source.operands[0]]
  return int(source.arguments) if source.opcode == 'constant' else None


def _stride(body: Computation, index: int) -> int | None:
  """What a round adds to the counter; 2 in an unrolled loop."""
  root = body.instructions[body.root]
  if root.opcode != 'tuple':
    return None
  counter = body.instructions[root.operands[index]]
  if counter.opcode != 'add':
    return None
  added = [_constant(body, operand) for operand in counter.operands]
  return next((number for number in added if number is not None), None)


def _parse_instruction(line: str) -> Instruction | None:
  match = _INSTRUCTION.match(line)
  if match is None:
    return None
  rest = line[match.end() :]
  end = _find_closing(rest) + 1 if rest.startswith('(') else rest.index(' ')
  shapes, rest = rest[:end], rest[end:].lstrip()
  opcode = _OPCODE.match(rest)
  if opcode is None:
    return None
  inside = rest[opcode.end() - 1 :]
  end = _find_closing(inside)
  arguments = inside[1:end]
  return Instruction(
    name=match.group(1),
    opcode=opcode.group(1),
    shapes=tuple(_shape(*parts) for parts in _SHAPE.findall(shapes)),
    operands=tuple(_NAME.findall(arguments)),
    arguments=arguments,
    attributes=inside[end + 1 :],
  )


def _find_closing(text: str) -> int:
  """Index at which the parenthesis closes that a text begins with."""
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
