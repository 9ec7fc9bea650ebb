"""Who sends how much to whom, in each of XLA's spellings."""

import pytest
import small_program

from mmjax.planning import collectives, hlo, traffic

MESH = {'data': 2, 'fsdp': 4, 'tensor': 1}


def find(line, before=''):
  text = (
    f'{before}ENTRY %m (x: f32[24]) -> f32[24] {{\n'
    f'  %x = f32[24]{{0}} parameter(0)\n  {line}\n}}\n'
  )
  return collectives.find(hlo.parse(text), MESH)


def test_those_of_a_program():
  found = collectives.find(hlo.parse(small_program.TEXT), MESH)
  got = {(c.kind, c.axes): (c.times, c.sent) for c in found}
  assert got == {
    # Five times, each sends its part to three others.
    ('all-gather', ('fsdp',)): (5, 5 * 3 * 7 * 8 * 2),
    # A ring reduces, then gathers: twice half of it, four times.
    ('all-reduce', ('data',)): (4, 4 * 2 * 8 * 4 / 2),
    # Begun and ended by two fusions, but sent once.
    ('all-gather', ('data', 'fsdp')): (1, 7 * 16 * 4),
  }
  assert [c.sent for c in found] == sorted([c.sent for c in found])[::-1]


@pytest.mark.parametrize(
  ('groups', 'axes', 'number'),
  [
    ('{{0,1,2,3},{4,5,6,7}}', ('fsdp',), 4),
    ('[2,4]<=[8]', ('fsdp',), 4),
    ('[4,2]<=[2,4]T(1,0)', ('data',), 2),
    ('[1,8]<=[8]', ('data', 'fsdp'), 8),
    ('{}', ('data', 'fsdp'), 8),
    ("mesh['a'=2,'b'=4] {'b'}", ('fsdp',), 4),
    ("mesh['a'=2,'b'=4] {'a'}", ('data',), 2),
    ("mesh['a'=8] {'a'}", ('data', 'fsdp'), 8),
    ("mesh['a'=8] {'a':(2)4}", ('fsdp',), 4),
    ("mesh['a'=8] {'a':(1)2}", ('data',), 2),
    # Neighbours of four: no line of the mesh.
    ('[4,2]<=[8]', (), 2),
  ],
)
def test_groups_are_axes_of_the_mesh(groups, axes, number):
  (found,) = find(
    f'ROOT %y = f32[24]{{0}} all-reduce(%x), channel_id=1, '
    f'replica_groups={groups}, to_apply=%add'
  )
  assert found.axes == axes
  assert found.sent == pytest.approx(2 * 96 * (number - 1) / number)


@pytest.mark.parametrize(
  ('kind', 'sent'),
  [
    ('all-reduce', 2 * 96 * 3 / 4),
    ('all-reduce-start', 2 * 96 * 3 / 4),
    ('all-gather', 96 * 3),
    ('reduce-scatter', 96 * 3 / 4),
    ('all-to-all', 96 * 3 / 4),
  ],
)
def test_what_a_ring_sends(kind, sent):
  (found,) = find(
    f'ROOT %y = f32[24]{{0}} {kind}(%x), replica_groups=[2,4]<=[8]'
  )
  assert found.kind == kind.removesuffix('-start')
  assert found.sent == pytest.approx(sent)


def test_a_permutation_sends_to_the_next():
  (found,) = find(
    'ROOT %y = f32[24]{0} collective-permute(%x), '
    'source_target_pairs={{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}'
  )
  assert (found.axes, found.sent) == (('fsdp',), 96)


def test_a_reduction_of_which_a_part_is_kept_is_a_scatter():
  inside = (
    '%all-reduce-scatter.3 (p: f32[24]) -> f32[6] {\n'
    '  %p = f32[24]{0} parameter(0)\n'
    '  %r = f32[24]{0} all-reduce(%p), channel_id=4, '
    'replica_groups=[2,4]<=[8]\n'
    '  ROOT %s = f32[6]{0} slice(%r), slice={[0:6]}\n}\n'
  )
  (found,) = find(
    'ROOT %y = f32[6]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3',
    before=inside,
  )
  assert (found.kind, found.sent) == ('reduce-scatter', 96 * 3 / 4)


@pytest.mark.parametrize(
  ('kind', 'sent'), [('ALL_REDUCE', 2 * 96 * 2 / 3), ('ALL_GATHER', 2 * 96)]
)
def test_slices_send_to_each_other(kind, sent):
  attributes = (
    'channel_id=1, is_host_transfer=true, frontend_attributes='
    f'{{_xla_megascale_transfer_type="{kind}"}}'
  )
  text = (
    'ENTRY %m (x: f32[24]) -> f32[24] {\n'
    '  %x = f32[24]{0} parameter(0)\n  %token = token[] after-all()\n'
    '  %in = f32[24]{0} all-reduce(%x), replica_groups={{0,4},{1,5},{2,6},'
    '{3,7}}, to_apply=%add\n'
    f'  %s = (f32[24]{{0}}, u32[], token[]) send(%x, %token), {attributes}\n'
    f'  %r = (f32[24]{{0}}, u32[], token[]) recv(%token), {attributes}\n'
    f'  ROOT %e = token[] send-done(%s), {attributes}\n}}\n'
  )
  mesh = {'data': 6, 'fsdp': 4, 'tensor': 1}
  found = collectives.find(hlo.parse(text), mesh, slices=3)
  name = kind.lower().replace('_', '-')
  own = collectives.Collective('all-reduce', ('data',), 1, 96)
  between = collectives.Collective(name, ('slices',), 1, pytest.approx(sent))
  assert sorted(found, key=lambda c: c.axes) == [own, between]
  assert traffic.count(hlo.parse(text)) == (1 + 1 + 2) * 96


def test_one_with_itself_is_none():
  line = 'ROOT %y = f32[24]{0} all-reduce(%x), replica_groups=[8,1]<=[8]'
  assert find(line) == []


def test_an_unknown_notation_raises():
  with pytest.raises(ValueError, match='replica_groups=anew'):
    find('ROOT %y = f32[24]{0} all-reduce(%x), replica_groups=anew')
