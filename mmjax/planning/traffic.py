"""Estimates the bytes that a compiled step moves to and from main memory."""

import re

from mmjax.planning import hlo

# Opcodes that move no data, or whose computations are counted instead.
_FREE = frozenset(
  (
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'while',
    'conditional',
    'call',
    'async-start',
    'async-update',
    'after-all',
    'opt-barrier',
    'partition-id',
    'replica-id',
    'iota',
  )
)
# Targets of custom calls that only name memory: that of a buffer, or of parts
# that are beside each other.
_NAMING = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast)"')
_PARTS = ('dynamic-slice', 'slice', 'gather')


def count(program: hlo.Program) -> float:
  """Counts the bytes that one device moves in a step.

  Every operation that is scheduled by itself reads its operands and writes its
  results once. Arrays in a faster memory beside the cores cost nothing. If only
  a part of an array is read or written in place, only the part counts. The
  padding of tiles is not counted.
  """
  inner = {
    called
    for computation, _ in program
    for instruction in computation.instructions.values()
    if instruction.opcode not in ('while', 'conditional', 'call', 'async-start')
    for called in instruction.called
  }
  return sum(
    times * _bytes_moved(program, computation, instruction)
    for computation, times in program
    if computation.name not in inner
    for instruction in computation.instructions.values()
  )


def _bytes_moved(program, computation, instruction) -> float:
  opcode = instruction.opcode
  if opcode in _FREE or opcode.endswith('-done'):
    return 0.0
  if opcode in ('send', 'recv'):  # Between slices; (data, ..., token).
    return instruction.shapes[0].bytes
  if opcode == 'custom-call' and _NAMING.search(instruction.attributes):
    return 0.0
  if opcode in ('copy-start', 'slice-start'):
    # (destination, source, ...) of a copy, ((source), destination, ...) of a
    # slice: as much is read as is written.
    ends = instruction.shapes[:2]
    moved = min(shape.bytes for shape in ends)
    return moved * sum(shape.in_memory for shape in ends)
  known = computation.instructions
  if opcode in _PARTS:
    return 2 * _bytes_in_memory(instruction)
  if opcode == 'dynamic-update-slice':
    return 2 * _bytes_in_memory(known[instruction.operands[1]])
  if opcode != 'fusion':
    operands = (known[o] for o in instruction.operands if o in known)
    return _bytes_in_memory(instruction) + sum(map(_bytes_in_memory, operands))
  inside = program.computations[instruction.called[0]]
  read = sum(
    min(_bytes_in_memory(known[operand]), _bytes_read(program, inside, number))
    for number, operand in enumerate(instruction.operands)
    if operand in known
  )
  return read + _bytes_written(inside, instruction)


def _bytes_in_memory(instruction: hlo.Instruction) -> float:
  return sum(shape.bytes for shape in instruction.shapes if shape.in_memory)


def _bytes_read(program, computation: hlo.Computation, number: int) -> float:
  """Upper bound of the bytes that a fusion reads of one of its operands."""
  known = computation.instructions
  names = {
    i.name
    for i in known.values()
    if i.opcode == 'parameter' and i.arguments == str(number)
  }
  total = 0.0
  for user in known.values():
    for index, operand in enumerate(user.operands):
      if operand not in names:
        continue
      if user.opcode == 'bitcast':
        names.add(user.name)
      elif user.opcode in _PARTS and index == 0:
        total += user.bytes
      elif user.opcode == 'dynamic-update-slice' and index == 0:
        total += 0.0  # It is overwritten in place.
      elif user.opcode == 'fusion':
        inside = program.computations[user.called[0]]
        total += _bytes_read(program, inside, index)
      else:
        return float('inf')
  return total


def _bytes_written(inside: hlo.Computation, fusion: hlo.Instruction) -> float:
  """Bytes of a fusion's results; only the part of an update in place."""
  root = inside.instructions[inside.root]
  results = (
    [inside.instructions[o] for o in root.operands]
    if root.opcode == 'tuple'
    else [root]
  )
  if len(results) != len(fusion.shapes):
    return _bytes_in_memory(fusion)
  total = 0.0
  for shape, result in zip(fusion.shapes, results, strict=True):
    while result.opcode in ('bitcast', 'copy') and result.operands:
      result = inside.instructions[result.operands[0]]
    part = shape.bytes
    if result.opcode == 'dynamic-update-slice':
      part = inside.instructions[result.operands[1]].bytes
    total += min(shape.bytes, part) if shape.in_memory else 0.0
  return total
