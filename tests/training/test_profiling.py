"""Traces of a run's steps."""

import gzip
import json

import pytest
import toy

from mmjax.errors import ConfigError
from mmjax.training import runner


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
  folder = tmp_path_factory.getbasetemp() / 'xla'
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(folder))


def run(workdir, first, last):
  steps = range(first, last + 1)
  return runner.run(toy.config(), toy.build, workdir, profile_steps=steps)


def test_steps_are_traced(tmp_path, capsys):
  with pytest.raises(ConfigError, match=r'=5:7 .* done 0 of .*=6; use .*1:6'):
    run(tmp_path, 5, 7)
  run(tmp_path, 2, 3)
  folder = tmp_path / 'profile'
  assert f'traced steps 2 to 3 in {folder};' in capsys.readouterr().out
  (trace,) = folder.rglob('perfetto_trace.json.gz')
  assert len(list(folder.rglob('*.xplane.pb'))) == 1
  events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  steps = [e['args']['step_num'] for e in events if e.get('name') == 'train']
  assert sorted(map(int, steps)) == [2, 3]
  assert any(e.get('name') == 'wait for data' for e in events)
  with pytest.raises(ConfigError, match=r'has done 6 .*; none is left'):
    run(tmp_path, 2, 3)


def test_a_run_that_ends_early_writes_its_trace(tmp_path, monkeypatch, capsys):
  stops = iter([False, False, True, True])
  monkeypatch.setattr(
    'mmjax.training.stopping.Stopping.asked', lambda self: next(stops)
  )
  assert not run(tmp_path, 2, 5)
  assert 'traced steps 2 to 3 in' in capsys.readouterr().out
  monkeypatch.undo()
  # The run resumes from step 3.
  with pytest.raises(ConfigError, match=r'=3:4 .* has done 3 .*; use .* 4:6'):
    run(tmp_path, 3, 4)
