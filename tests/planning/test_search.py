"""Which choices are tried, what is reported of each, and in which order."""

import dataclasses
import json
import math
from pathlib import Path

import made_up
import pytest

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.planning import search, step


def config(**model):
  made = settings.default_config()
  made.train.batch_size = 64
  made.model = {'name': 'x', **model}
  return made


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')


def test_meshes_use_all_devices():
  one = {'data': 1, 'fsdp': 1, 'tensor': 1, 'sequence': 1}
  assert search.meshes(1) == [one]
  for devices in (4, 16, 256):
    made = search.meshes(devices)
    assert len({tuple(mesh.values()) for mesh in made}) == len(made)
    for mesh in made:
      assert mesh['data'] * mesh['fsdp'] * mesh['tensor'] == devices
  assert one | {'data': 16, 'fsdp': 16} in search.meshes(256)


def test_meshes_keep_sequence_and_style():
  made = search.meshes(16, sequence=2)
  assert {mesh['sequence'] for mesh in made} == {2}
  assert {math.prod(mesh.values()) for mesh in made} == {16}
  whole = {'data': 16, 'fsdp': 1, 'tensor': 1, 'sequence': 1}
  assert search.meshes(16, style='pmap') == [whole]
  with pytest.raises(ConfigError, match='sequence=3 does not divide'):
    search.meshes(16, sequence=3)


@pytest.fixture
def tried(monkeypatch):
  """Compiles nothing: two a chip don't fit, tensor is refused, fsdp is slow."""
  seen = []

  def attempt(config, build, devices, choice, chip):
    seen.append(choice)
    if choice.mesh['tensor'] > 1:
      return search.Outcome(choice, None, 'does not compile: heads')
    if choice.per_chip > 8:
      return search.Outcome(choice, None, 'does not fit: 20 of 16 GiB')
    made = dataclasses.replace(
      made_up.REPORT,
      batch_size=choice.per_chip * 8,
      flops=2e12 * choice.mesh['fsdp'],
    )
    return search.Outcome(choice, made)

  monkeypatch.setattr(search, '_try', attempt)
  return seen


def test_the_fastest_comes_first_and_failures_are_listed(tried):
  lines, kept = [], []
  ranked = search.run(
    config(),
    None,
    range(8),
    batches=(4, 8, 16, 32),
    log=lines.append,
    save=lambda outcomes: kept.append(search.to_json(outcomes)),
  )
  assert [one.speed for one in ranked] == sorted(
    (one.speed for one in ranked), reverse=True
  )
  assert ranked[0].choice.mesh == search.meshes(8)[0]
  assert ranked[0].choice.per_chip == 8
  # What is larger than what doesn't fit is not compiled.
  assert not [c for c in tried if c.per_chip == 32 and c.mesh['tensor'] == 1]
  table = search.to_text(ranked)
  assert 'data=8, 32 a chip: more than 16 a chip, which does not fit' in table
  assert 'does not compile: heads' in table
  assert table.index('Not possible:') > table.index('data=8')
  assert lines[0].startswith('1/')
  # Something is kept of each as soon as it is known.
  assert [len(outcomes) for outcomes in kept] == list(range(1, len(ranked) + 1))
  assert kept[-1] == search.to_json(ranked)
  assert kept[-1][0]['step_seconds'] and kept[-1][-1]['reason']
  json.dumps(kept[-1])


def test_each_row_has_its_cost(tried):
  ranked = search.run(config(), None, range(8), batches=(4, 8))
  table = search.to_text(ranked, examples=3.6e9, price_per_chip_hour=2)
  first = next(
    line for line in table.splitlines() if line.startswith('data=8 ')
  )
  hours = 1e6 / ranked[0].speed
  assert first.split()[-2:] == [f'{hours:,.1f}', f'{hours * 8 * 2:,.0f}']
  assert 'ranked by the geometric mean' in table
  assert 'cost' not in search.to_text(ranked, examples=3.6e9).splitlines()[0]


def test_without_peaks_it_says_what_it_ranks_by():
  choice = search.Choice(search.meshes(8)[0], None, 4)
  made = dataclasses.replace(made_up.REPORT, limits=None)
  table = search.to_text([search.Outcome(choice, made)], examples=1e9)
  assert 'Ranked by examples per FLOP' in table
  assert 'no estimate of times, hours and cost' in table
  assert 'geometric' not in table and 'step, ms' not in table


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (ConfigError('mesh: no'), 'mesh: no'),
    (KeyError('heads'), "KeyError: 'heads'"),
  ],
)
def test_an_error_costs_one_choice(monkeypatch, error, reason):
  def fail(*_):
    raise error

  monkeypatch.setattr(step, 'compile_step', fail)
  ranked = search.run(config(), None, range(1), batches=(4, 8))
  assert [one.reason for one in ranked] == [reason] * 2


def test_policies_are_tried_where_there_are_stacks(tried):
  # Not all that have a depth can be rematerialised.
  parts = {'image': {'name': 'vit'}, 'projector': {'name': 'query_transformer'}}
  ranked = search.run(config(**parts), None, range(1), batches=(4,))
  assert {one.choice.remat for one in ranked} == {
    *('none', 'dots', 'projections', 'attention', 'full')
  }
  ranked = search.run(
    config(text={'name': 'recurrent', 'depth': 2}), None, range(1)
  )
  assert {one.choice.remat for one in ranked} == {None}
  assert {one.choice.per_chip for one in ranked} == {32, 64, 128}


def test_xla_says_why():
  full = (
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error.\n  Ran out of memory '
    'in memory space hbm. Used 22.46G of 15.75G hbm. Exceeded by 6.7G.\n  more'
  )
  assert step._reason(full).startswith('does not fit: Used 22.46G of 15.75G')
  older = 'RESOURCE_EXHAUSTED: Ran out of memory on HBM'
  assert step._reason(older) == 'does not fit: Ran out of memory on HBM'
  assert 'INTERNAL: x; ' in step._reason('INTERNAL: x\ny')
