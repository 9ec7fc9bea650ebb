"""Results of runs in one table."""

import json

import pytest

from mmjax.cli import main
from mmjax.runs import owner

TASKS = {'contrastive': {}, 'captioning': {}, 'vqa_classification': {}}


def _finish(folder, **results):
  (folder / 'samples').mkdir(parents=True)
  (folder / 'samples' / 'test_vqa_000009.png').touch()
  (folder / 'config.json').write_text(json.dumps({'tasks': TASKS}))
  results = {name.replace('__', '/'): v for name, v in results.items()}
  (folder / 'results.json').write_text(json.dumps(results))


@pytest.fixture
def runs(tmp_path):
  answers = {'test__vqa__accuracy': 0.75, 'test__vqa__majority_accuracy': 0.5}
  _finish(tmp_path / 'a', **answers, test__vqa__blind_accuracy=0.625)
  _finish(tmp_path / 'b', test__other__retrieval__image_to_text_r1=0.25)
  return tmp_path


def test_numbers_stand_beside_chance_and_the_blind_twin(runs, capsys):
  assert main.main(['report', str(runs / 'a'), str(runs / 'b')]) == 0
  out = capsys.readouterr().out
  rows = [line.split() for line in out.splitlines()]
  assert ['a', 'test', 'right', 'answers', '0.750', '0.500', '0.625'] in rows
  assert ['b', 'other', 'image', 'to', 'text', 'R@1', '0.250'] in rows
  assert f'{runs}/a/samples/test_vqa_000009.png' in out


def test_a_task_without_rows_is_shown_by_the_names_of_its_metrics(
  tmp_path, capsys
):
  names = ('far/own/x', 'own/x', 'vqa/accuracy', 'far/vqa/accuracy/of/colors')
  _finish(tmp_path, **{f'test/{name}': i for i, name in enumerate(names)})
  config = {'tasks': {'own': {}, 'vqa_classification': {}}}
  config |= {'data': {'extra_splits': ['far']}}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert main.main(['report', str(tmp_path)]) == 0
  rows = [line.split()[-3:] for line in capsys.readouterr().out.splitlines()]
  shown = [row for row in rows if row and row[-1].endswith('.000')]
  assert shown == [
    ['right', 'answers', '2.000'],
    ['test', 'own/x', '1.000'],
    ['far', 'own/x', '0.000'],
  ]


def test_a_folder_of_runs_stands_for_them(runs, capsys):
  main.main(['report', str(runs / 'a'), str(runs / 'b')])
  each = capsys.readouterr().out
  main.main(['report', str(runs)])
  assert capsys.readouterr().out == each


def test_runs_of_one_name_have_longer_paths(tmp_path, capsys):
  for parent in ('old', 'new'):
    _finish(tmp_path / parent / 'vqa', test__vqa__accuracy=0.5)
  _finish(tmp_path / 'old/captions', test__vqa__accuracy=0.25)
  folders = ('old/vqa', 'new/vqa', 'old/captions')
  main.main(['report', *(str(tmp_path / folder) for folder in folders)])
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  names = [row[0] for row in rows if 'right' in row]
  assert names == ['old/vqa', 'new/vqa', 'captions']


def test_unfinished_runs_are_listed_with_their_state(runs, capsys):
  config = json.dumps({'train': {'steps': 9}})
  for name in ('live', 'begun/blind', 'ended'):
    (runs / name).mkdir(parents=True)
    (runs / name / 'config.json').write_text(config)
  (runs / 'live' / 'metrics.jsonl').write_text('{"step": 2}\n{"step": 4}\n')
  (runs / 'ended' / 'checkpoints' / '5').mkdir(parents=True)
  (runs / 'ended' / 'results.json').write_text('{"step": 5}')
  identity = {**owner._identity(), 'started': -1}
  (runs / 'ended' / 'running.json').write_text(json.dumps(identity))
  with owner.claim(runs / 'live'):
    assert main.main(['report', str(runs)]) == 0
  out = capsys.readouterr().out
  assert 'right answers' in out
  assert '  begun  blind baseline: step 0 of 9, stopped; nothing' in out
  assert '  ended  step 5 of 9, stopped; saved up to step 5\n' in out
  assert f'  live  step 4 of 9, running on {identity["host"]} since ' in out


def test_a_folder_without_results_is_named(tmp_path, capsys):
  assert main.main(['report', str(tmp_path)]) == 2
  assert f'{tmp_path}/results.json does not exist' in capsys.readouterr().err


def test_those_that_have_results_are_shown_all_the_same(runs, capsys):
  none, unfit = runs / 'none', runs / 'unfit'
  _finish(unfit, val__vqa__accuracy=0.5)
  folders = [str(none), str(runs / 'a'), str(unfit)]
  assert main.main(['report', *folders]) == 2
  output = capsys.readouterr()
  assert 'right answers' in output.out and 'a/samples' in output.out
  assert f'there is no folder {none}' in output.err
  assert 'finished, without test results:\n  unfit\n' in output.out
