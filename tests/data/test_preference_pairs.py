"""Imported pairs of answers: those that teach nothing are left out."""

import json

from mmjax.data import importing, sources


def _say(*texts):
  """A conversation that the user begins."""
  roles = ('user', 'assistant') * len(texts)
  return [
    {'role': role, 'content': text}
    for role, text in zip(roles, texts, strict=False)
  ]


GOOD = [
  {'prompt': 'hi', 'chosen': 'hello', 'rejected': 'no'},
  {'chosen': _say('hi', 'hello'), 'rejected': _say('hi', 'no', 'so')},
]
BAD = [
  ({'prompt': 'hi', 'chosen': 'yes', 'rejected': 'yes'}, 'are the same'),
  ({'prompt': 'hi', 'chosen': 'yes', 'rejected': ''}, 'rejected answer is emp'),
  ({'chosen': 'yes', 'rejected': 'no'}, 'answers without a prompt'),
  ({'chosen': _say('hi', 'yes'), 'rejected': 'no'}, 'make both the same'),
  (
    {'chosen': _say('hi', 'yes'), 'rejected': _say('ho', 'no')},
    'differ in turn 1, where user speaks in chosen',
  ),
  (
    {'chosen': _say('hi'), 'rejected': _say('hi', 'no')},
    'differ in turn 2, where nobody speaks in chosen',
  ),
]


def test_pairs_that_teach_nothing_are_counted(tmp_path, capsys):
  rows = [*GOOD, *(row for row, _ in BAD)]
  path = tmp_path / 'pairs.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  settings = importing.Settings(
    name='pairs', splits={'train': 1.0}, on_error='skip'
  )
  folder = importing.import_data(
    'jsonl', str(path), settings, data_dir=tmp_path / 'data'
  )
  source = sources.open_source('pairs', 'train', data_dir=tmp_path / 'data')
  assert len(source) == len(GOOD)
  assert '6 unreadable: see' in capsys.readouterr().err
  lines = (folder / 'skipped.jsonl').read_text().splitlines()
  for line, (_, reason) in zip(lines, BAD, strict=True):
    assert reason in json.loads(line)['reason']
