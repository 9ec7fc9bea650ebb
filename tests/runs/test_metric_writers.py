"""A step never appears twice, and nobody reads half a file."""

import json
import struct
import sys
import types

import pytest
from tensorboardX.proto import event_pb2

from mmjax.runs import metric_writers


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_after_the_restored_step_are_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  first = metric_writers.JsonLines(path)
  for step in (1, 10, 20):
    first.write(step, {'loss': float(step)})
  first.close()
  with path.open('a') as file:
    file.write('{"step": 30, "los')  # Killed here.
  again = metric_writers.JsonLines(path, restored=10)
  assert again.last == {'step': 10, 'loss': 10.0}
  again.write(20, {'loss': 2.0})
  again.close()
  assert [line['step'] for line in _lines(path)] == [1, 10, 20]
  assert _lines(path)[-1]['loss'] == 2.0


def test_a_fresh_run_drops_all(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n')
  metric_writers.JsonLines(path).close()
  assert path.read_text() == ''


@pytest.mark.parametrize('reopen', [False, True])
def test_numbers_of_one_step_share_a_line(tmp_path, reopen):
  path = tmp_path / 'metrics.jsonl'
  mine = metric_writers.JsonLines(path)
  mine.write(3, {'loss': 1.0})
  mine.write(5, {'loss': 2.0})
  if reopen:
    mine.close()
    mine = metric_writers.JsonLines(path, restored=5)
  mine.write(5, {'val/x': 0.5})
  mine.write(7, {'loss': 3.0})
  mine.close()
  assert _lines(path) == [
    {'step': 3, 'loss': 1.0},
    {'step': 5, 'loss': 2.0, 'val/x': 0.5},
    {'step': 7, 'loss': 3.0},
  ]


def test_json_replaces_the_file(tmp_path):
  path = tmp_path / 'results.json'
  metric_writers.write_json(path, {'a': 2})
  metric_writers.write_json(path, {'a': 3})
  assert json.loads(path.read_text()) == {'a': 3}
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']


def _events(path):
  """Of a file of (length, checksum, event, checksum) records."""
  data, out = path.read_bytes(), []
  while data:
    (length,) = struct.unpack('Q', data[:8])
    out.append(event_pb2.Event.FromString(data[12 : 12 + length]))
    data = data[16 + length :]
  return out


@pytest.mark.parametrize('restored', [0, 3])
def test_tensorboard_writes_events(tmp_path, monkeypatch, restored):
  monkeypatch.setattr(metric_writers, 'FLUSH_EVERY', -1.0)
  board = metric_writers.TensorBoard(tmp_path / 'board', restored)
  board.write(4, {'loss': 2.0, 'val/x': 0.5})
  (path,) = (tmp_path / 'board').glob('events.out.tfevents*')
  first, *events = _events(path)
  assert first.file_version == 'brain.Event:2'
  if restored:  # It overwrites what came after.
    start = events.pop(0)
    assert start.step == 4
    assert start.session_log.status == event_pb2.SessionLog.START
  values = {
    value.tag: (event.step, value.simple_value)
    for event in events
    for value in event.summary.value
  }
  assert values == {'loss': (4, 2.0), 'val/x': (4, 0.5)}
  board.close()


def test_weights_and_biases_goes_on_with_the_same_run(tmp_path, monkeypatch):
  begun, logged = [], []

  class Run:
    def log(self, values, step):
      logged.append((step, values))

    def finish(self):
      logged.append('finished')

  fake = types.SimpleNamespace(
    init=lambda **kwargs: begun.append(kwargs) or Run(),
    util=types.SimpleNamespace(generate_id=lambda: f'id{len(begun)}'),
  )
  monkeypatch.setitem(sys.modules, 'wandb', fake)
  for step in (1, 2):
    mine = metric_writers.WeightsAndBiases('shapes', tmp_path, {'seed': 0})
    mine.write(step, {'loss': 2.0})
    mine.close()
  assert [one['id'] for one in begun] == ['id0', 'id0']
  assert begun[0]['project'] == 'shapes' and begun[0]['resume'] == 'allow'
  assert logged == [(1, {'loss': 2.0}), 'finished'] + (
    [(2, {'loss': 2.0}), 'finished']
  )
