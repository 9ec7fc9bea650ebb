"""The text of a compiled program: shapes, loops, what is called."""

import pytest
import small_program

from mmjax.planning import hlo

MAIN = hlo.parse(small_program.TEXT)


def test_loops_run_their_bodies_as_often_as_they_go_round():
  assert MAIN.runs['main'] == 1
  # From 2 to below 12, in steps of 2.
  assert MAIN.runs['body'] == 5
  # One loop has three rounds, the other an unknown number.
  assert MAIN.runs['other_body'] == 3 + 1
  assert MAIN.unknown_loops == ('while.3',)
  assert MAIN.runs['part'] == 1


def test_shapes_and_operands():
  own = MAIN.computations['body'].instructions
  assert own['w'].bytes == 7 * 8 * 2
  assert own['p'].bytes == 4 + 7 * 8 * 2
  assert own['gathered'].operands == ('w',)
  assert own['w'].shapes[0].in_memory
  assert not own['gathered'].shapes[0].in_memory
  main = MAIN.computations['main']
  assert main.root == 'out'
  assert main.instructions['sliced'].called == ('part',)
  assert main.instructions['first'].arguments == '2'


def test_widths_of_types():
  text = 'ENTRY %m (a: pred[3]) -> pred[3] {\n'
  for i, kind in enumerate(('pred', 's4', 'f8e4m3fn', 'bf16', 'u64', 'c64')):
    text += f'  %x{i} = {kind}[6]{{0}} parameter({i})\n'
  own = hlo.parse(text + '}\n').computations['m'].instructions
  assert [i.bytes for i in own.values()] == [6, 3, 6, 12, 48, 48]


def test_a_text_without_a_program_is_refused():
  with pytest.raises(ValueError, match='no ENTRY'):
    hlo.parse('HloModule nothing\n')
