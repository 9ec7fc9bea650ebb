"""Flags of `mmjax plan`: refused, or heard; what it leaves at each moment."""

import dataclasses
import json
import pathlib

import pytest

from mmjax.cli import plan
from mmjax.planning import report, search, step

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = [
  f'--config={ROOT}/configs/clip.py:b16,runlocal',
  '--topology=cpu:1',
]
MESH = {'data': 1, 'fsdp': 1, 'tensor': 1, 'sequence': 1}
REPORT = report.Report(
  chips=1,
  kind='cpu',
  mesh=MESH,
  batch_size=4,
  parameters=7,
  trained=7,
  held={},
  memory=dict.fromkeys(
    ('arguments', 'outputs', 'aliased', 'temporaries', 'program'), 0
  ),
  flops=3.0,
  useful_flops=2.0,
  traffic=1.0,
  sent=(),
  unknown_loops=(),
  limits=None,
  compile_seconds=0.0,
)


@pytest.fixture
def planned(monkeypatch):
  """Compiles nothing; every other choice fails."""
  calls = []

  def compile_step(config, build, devices):
    calls.append(config.train.batch_size)
    if len(calls) % 2 == 0:
      raise RuntimeError('XLA is tired')

  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(step, 'compile_step', compile_step)
  monkeypatch.setattr(
    report,
    'make',
    lambda *_: dataclasses.replace(REPORT, batch_size=calls[-1]),
  )
  return calls


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--search_batches=4'], '--search_batches needs --search'),
    (['--search', '--search_batches=4,0'], 'not whole numbers from 1'),
    (['--examples=abc'], "'abc' is not a number above 0"),
    (['--examples=0'], "'0' is not a number above 0"),
    (['--price_per_chip_hour=-1'], "'-1' is not a number above 0"),
    (['--slices=0'], 'use 1 or more'),
  ],
)
def test_flags_that_mean_nothing_are_refused(flags, message, capsys):
  with pytest.raises(SystemExit):
    plan.main([*COMMAND, *flags])
  assert message in capsys.readouterr().err


def test_without_peaks_no_cost_is_printed(planned, capsys):
  flags = ['--examples=1e9', '--price_per_chip_hour=2']
  assert plan.main([*COMMAND, *flags]) == 0
  assert 'no estimate of times, hours and cost' in capsys.readouterr().out


def test_a_search_keeps_what_it_has(planned, tmp_path, monkeypatch, capsys):
  file = tmp_path / 'plan.json'
  kept, write = [], plan._write
  monkeypatch.setattr(
    plan,
    '_write',
    lambda *args: (write(*args), kept.append(json.loads(file.read_text()))),
  )
  flags = ['--search', '--search_batches=4', f'--json={file}']
  assert plan.main([*COMMAND, *flags]) == 0
  assert [len(found) for found in kept] == [1, 2, 3, 4, 5]
  reasons = [one['reason'] for one in kept[-1] if 'reason' in one]
  assert reasons == 2 * ['RuntimeError: XLA is tired']
  assert {one['remat'] for one in kept[-1]} == set(search.REMATS)
  assert 'no estimate of times, hours and cost' in capsys.readouterr().out
  assert list(tmp_path.iterdir()) == [file]
