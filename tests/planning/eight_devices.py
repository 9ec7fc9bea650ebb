"""Plans for eight devices; `test_search.py` runs this file where they are."""

import jax
import toy

from mmjax.config import settings
from mmjax.planning import search, step, topologies


def config(**mesh):
  made = toy.config(batch_size=16)
  return settings.complete({**made, 'model': {'width': 6}, 'mesh': mesh})


def test_both_styles_have_the_same_flops():
  pjit, pmap = (
    step.compile_step(config(style=style), toy.build, jax.devices())
    for style in ('pjit', 'pmap')
  )
  assert pmap.mesh['data'] == pjit.mesh['data'] == 8
  # Up, of which no inputs have a gradient, and down.
  expected = 2 * 16 * 6 * (16 * 2 + 8 * 3)
  assert pjit.flops == pjit.useful_flops == expected
  assert pmap.flops == pmap.useful_flops == expected


def _search(**mesh):
  devices = topologies.devices('cpu:4')
  return search.run(config(**mesh), toy.build, devices, batches=(2,))


def test_what_is_ranked_can_be_trained():
  ranked = _search()
  had = [one for one in ranked if one.report]
  assert len(had) == 4
  assert [one.choice.mesh['tensor'] for one in had].count(2) == 2
  for one in had:
    assert one.report.mesh == one.choice.mesh
    assert one.report.batch_size == 8
  # Six units are not split by four.
  (refused,) = (one for one in ranked if not one.report)
  assert refused.choice.mesh['tensor'] == 4
  assert 'not divisible' in refused.reason


def test_style_and_sequence_stay():
  (one,) = _search(style='pmap')
  assert one.report.mesh['data'] == 4
  ranked = _search(data=-1, sequence=2)
  assert [one.report.mesh['sequence'] for one in ranked] == [2] * 3
  # What is left of four devices.
  choices = search._choices(config(data=2, sequence=-1), 4, (2,))
  assert {choice.mesh['sequence'] for choice in choices} == {2}


def test_what_training_refuses_is_not_compiled():
  choice = search.Choice(
    {'data': 2, 'fsdp': 2, 'tensor': 1, 'sequence': 1}, None, 2
  )
  devices = topologies.devices('cpu:4')
  one = search._try(config(style='pmap'), toy.build, devices, choice)
  assert one.report is None
  assert "mesh.style='pmap' has the whole model" in one.reason
