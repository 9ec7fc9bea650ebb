"""Bytes to and from main memory."""

import small_program

from mmjax.planning import hlo, traffic

HEAD = 'ENTRY %m (x: f32[24]) -> f32[24] {\n  %x = f32[24]{0} parameter(0)\n'
FAST = '{0:T(128)S(1)}'


def count(*lines, before=''):
  body = ''.join(f'  {line}\n' for line in lines)
  return traffic.count(hlo.parse(f'{before}{HEAD}{body}}}\n'))


def test_reads_and_writes_once():
  assert count('ROOT %y = f32[24]{0} add(%x, %x)') == 3 * 96


def test_fast_memory_is_free():
  assert count(f'%y = f32[24]{FAST} negate(%x)') == 96
  lines = (
    f'%c = (f32[24]{FAST}, f32[24]{{0}}, u32[]) copy-start(%x)',
    f'%d = f32[24]{FAST} copy-done(%c)',
    f'ROOT %y = f32[24]{FAST} negate(%d)',
  )
  assert count(*lines) == 96


def test_a_slice_into_fast_memory_reads_its_part():
  lines = (
    f'%s = ((f32[24]{{0}}), f32[8]{FAST}, s32[]{{:S(2)}}) slice-start(%x), '
    'slice={[0:8]}',
    f'%d = f32[8]{FAST} slice-done(%s)',
    f'ROOT %y = f32[8]{FAST} negate(%d)',
  )
  assert count(*lines) == 32


def test_a_buffer_is_allocated_without_traffic():
  line = 'ROOT %b = f32[24]{0} custom-call(), custom_call_target='
  assert count(f'{line}"AllocateBuffer"') == 0
  assert count(f'{line}"Other"') == 96


def test_of_a_program_the_parts_that_are_read_count():
  moved = {
    # Five rounds; the result lies in fast memory, and so does not count.
    'all-gather': 5 * 7 * 8 * 2,
    'counter': 5 * 3 * 4,
    'all-reduce': 4 * 2 * 8 * 4,
    # A line of the operand and its number; the result lies in fast memory.
    'slice': 64 * 4 + 4,
    # What is gathered from, and what is given.
    'begun': 16 * 4 + 16 * 4 + 128 * 4,
    'ended': 16 * 4 + 128 * 4,
  }
  program = hlo.parse(small_program.TEXT)
  assert traffic.count(program) == sum(moved.values())


def test_an_update_in_place_writes_its_part():
  inside = (
    '%up (a: f32[24], b: f32[3], i: s32[]) -> f32[24] {\n'
    '  %a = f32[24]{0} parameter(0)\n  %b = f32[3]{0} parameter(1)\n'
    '  %i = s32[] parameter(2)\n'
    '  ROOT %u = f32[24]{0} dynamic-update-slice(%a, %b, %i)\n}\n'
  )
  lines = (
    '%b = f32[3]{0} parameter(1)',
    '%i = s32[] parameter(2)',
    'ROOT %y = f32[24]{0} fusion(%x, %b, %i), kind=kLoop, calls=%up',
  )
  # The update and its place are read, the part is written.
  assert count(*lines, before=inside) == 12 + 4 + 12


def test_a_loop_moves_as_often_as_it_runs():
  inside = (
    '%b (p: (s32[], f32[24])) -> (s32[], f32[24]) {\n'
    '  %p = (s32[], f32[24]{0}) parameter(0)\n'
    '  %i = s32[] get-tuple-element(%p), index=0\n'
    '  %v = f32[24]{0} get-tuple-element(%p), index=1\n'
    '  %n = f32[24]{0} negate(%v)\n'
    '  ROOT %t = (s32[], f32[24]{0}) tuple(%i, %n)\n}\n'
    '%c (p: (s32[], f32[24])) -> pred[] {\n'
    '  ROOT %q = pred[]{:S(1)} constant(true)\n}\n'
  )
  lines = (
    '%z = s32[] constant(0)',
    '%t = (s32[], f32[24]{0}) tuple(%z, %x)',
    'ROOT %w = (s32[], f32[24]{0}) while(%t), condition=%c, body=%b, '
    'backend_config={"known_trip_count":{"n":"5"}}',
  )
  assert count(*lines, before=inside) == 5 * 2 * 96
