"""`mmjax data` from end to end, on a tiny table."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.cli import main
from mmjax.data import shapes_drawing


@pytest.fixture
def table(tmp_path):
  (tmp_path / 'a.png').write_bytes(
    shapes_drawing.encode_png(np.zeros((5, 7, 3), np.uint8))
  )
  rows = [{'caption': f'text {i}', 'tags': ['zebrazebra']} for i in range(20)]
  rows += [{'question': 'why?', 'answer': 'so'}]
  rows = [{'id': i, 'image': 'a.png', **row} for i, row in enumerate(rows)]
  path = tmp_path / 'rows.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def _import(table, *more):
  return main.main(
    [
      'data',
      'import',
      '--format=jsonl',
      f'--input={table}',
      '--name=mine',
      f'--data_dir={table.parent}/data',
      '--splits=train:1',
      *more,
    ]
  )


def test_import_show_and_list(table, tmp_path, capsys):
  assert _import(table, '--text_fields=tags', '--vocab_size=300') == 0
  said = capsys.readouterr()
  assert said.out.strip() == f'{tmp_path}/data/mine/2.0.0'
  assert 'records: train 21\n' in said.err
  assert '21 records share 1 images' in said.err
  sheet = tmp_path / 'sheets' / 'mine.png'
  data_dir = f'--data_dir={tmp_path}/data'
  assert main.main(['data', 'show', 'mine', data_dir, f'--output={sheet}']) == 0
  shown = capsys.readouterr().out
  assert 'train: 21 records; 20 captions of 2.0 words; 1 questions' in shown
  assert f'contact sheet: {sheet}' in shown
  assert Image.open(sheet).width > 500
  assert main.main(['data', 'list', data_dir]) == 0
  listed = capsys.readouterr().out
  assert '  mine\n' in listed and '  shapes/small\n' in listed


def test_further_columns_become_fields(table, capsys):
  row = {'image': 'a.png', 'caption': 'x'}
  rows = [row | {'id': f'r{i}', 'years': i} for i in range(9)]
  table.write_text('\n'.join(map(json.dumps, rows)))
  assert _import(table, '--fields=age=number:year') == 2
  error = capsys.readouterr().err
  assert "no record has a column 'year'" in error and 'caption, years' in error
  assert _import(table, '--fields=age=number:years') == 0
  data_dir = f'--data_dir={table.parent}/data'
  output = f'--output={table.parent}/sheet.png'
  assert main.main(['data', 'show', 'mine', data_dir, output]) == 0
  shown = capsys.readouterr().out
  assert 'age (number)' in shown and '9 with age' in shown
  assert _import(table, '--overwrite', '--fields=age=nombre:years') == 2
  assert 'the kind of age' in capsys.readouterr().err


class _Theirs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.0.0')
  name = 'theirs'
  url_infos = None  # There is nothing to download.

  def _info(self):
    features = {'picture': tfds.features.Image(), 'note': tfds.features.Text()}
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    picture = shapes_drawing.encode_png(np.zeros((5, 7, 3), np.uint8))
    yield 0, {'picture': io.BytesIO(picture), 'note': 'a grey cat'}


def test_sets_of_other_tools_are_shown(tmp_path, capsys):
  _Theirs(data_dir=tmp_path, file_format='array_record').download_and_prepare()
  command = ['data', 'show', 'theirs', f'--data_dir={tmp_path}']
  command.append(f'--output={tmp_path / "sheet.png"}')
  assert main.main(command) == 2
  assert 'map its features' in capsys.readouterr().err
  fields = "--fields=dict(image='picture', captions='note')"
  assert main.main([*command, fields]) == 0
  shown = capsys.readouterr().out
  assert 'train: 1 records; 1 captions of 3.0 words' in shown
  assert 'caption: a grey cat' in shown
  assert main.main([*command, '--fields=note']) == 2
  assert 'data.fields is a dict' in capsys.readouterr().err


def test_an_empty_split_is_refused(table, capsys):
  assert _import(table, '--splits=train:0.999,test:0.001') == 0
  said = capsys.readouterr().err
  assert 'records: train 21, test 0\n' in said
  assert 'no record is in test; ' in said


def test_data_alone_names_its_commands(capsys):
  assert main.main(['data']) == 2
  assert 'prepare' in capsys.readouterr().out


def test_errors_are_one_line(table, capsys):
  (table.parent / 'a.png').unlink()
  assert _import(table) == 2
  error = capsys.readouterr().err
  assert error.startswith('mmjax data: rows.jsonl, line 1: there is no image')
  assert '--on_error=skip' in error and error.count('\n') == 1
  assert _import(table, '--splits=train:2') == 2
  assert 'the sum 2, not 1' in capsys.readouterr().err


def test_what_is_not_prepared(tmp_path, capsys):
  data_dir = f'--data_dir={tmp_path}'
  assert main.main(['data', 'show', 'shapes', data_dir]) == 2
  assert 'mmjax data prepare shapes' in capsys.readouterr().err
  assert main.main(['data', 'prepare', 'shapez', data_dir]) == 2
  assert "no data set 'shapez'" in capsys.readouterr().err


def test_unknown_flags_are_refused(capsys):
  with pytest.raises(SystemExit) as stop:
    main.main(['data', 'import', '--format=tsv'])
  assert stop.value.code == 2
  assert "'tsv' is unknown; use one of" in capsys.readouterr().err


def test_a_baseline_is_printed(table, tmp_path, capsys):
  rows = [
    {'id': i, 'image': 'a.png', 'captions': [f'red word{i}', f'word{i} red']}
    for i in range(5)
  ]
  table.write_text('\n'.join(map(json.dumps, rows)))
  assert _import(table) == 0
  capsys.readouterr()
  baseline = [
    *('data', 'baseline', 'mine', '--split=train'),
    f'--data_dir={tmp_path}/data',
    "--feature=dict(kind='tfidf', field='captions')",
  ]
  assert main.main(baseline) == 0
  values = dict(line.split() for line in capsys.readouterr().out.splitlines())
  assert values['first_to_others_r1'] == values['others_to_first_r1'] == '1.000'
  assert values['chance_r1'] == '0.200' and values['records'] == '5'
  assert main.main([*baseline, '--num_examples=-1']) == 2
  assert '--num_examples=-1 is not legal' in capsys.readouterr().err
