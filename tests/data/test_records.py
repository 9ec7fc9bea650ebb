"""Records on disk equal those in memory, and data sets are found."""

import json
import pathlib

import pytest

from mmjax.data import records

RECORD = {
  'id': 'a/é',
  'image': b'\x89PNG',
  'captions': ['ein Fuß', 'a foot'],
  'questions': [
    {'question': 'wie viele?', 'answers': ['1', 'eins'], 'type': 'count'},
    {'question': 'why?', 'answers': [], 'type': 'other'},
  ],
  'metadata': {'tags': ['x', 'y'], 'n': 3},
}


def _write_and_read(record):
  features = records.FEATURES
  example = features.encode_example(records.encode_record(record))
  data = features.serialize_example(example)
  return records.decode_record(
    features.deserialize_example_np(data, decoders=records.make_decoders())
  )


def test_decode_undoes_encode():
  assert _write_and_read(RECORD) == RECORD


@pytest.mark.parametrize('captions', [[], ['one']])
def test_absent_parts_stay_absent(captions):
  record = {
    'id': 'x',
    'image': b'',
    'captions': captions,
    'questions': [],
    'metadata': {},
  }
  assert _write_and_read(record) == record


@pytest.mark.parametrize(
  'change, message',
  [
    ({'extra': 1}, 'put further fields into metadata'),
    ({'captions': 'a foot'}, 'captions of record .* should be list, not str'),
    ({'questions': [{'question': 'why?'}]}, 'not question, answers and type'),
  ],
)
def test_wrong_fields_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    records.encode_record({**RECORD, **change})


def test_the_default_data_dir_is_that_of_the_environment(monkeypatch, tmp_path):
  monkeypatch.setenv('MMJAX_DATA_DIR', str(tmp_path))
  assert records.get_default_data_dir() == tmp_path
  monkeypatch.delenv('MMJAX_DATA_DIR')
  assert records.get_default_data_dir().parts[-3:] == (
    '.cache',
    'mmjax',
    'data',
  )
  assert records.get_default_data_dir().is_absolute()


def _make_version(folder: pathlib.Path):
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text('{}')


def test_find_folder_takes_the_newest_version(tmp_path):
  _make_version(tmp_path / 'one' / '1.9.0')
  _make_version(tmp_path / 'one' / '1.10.0')
  _make_version(tmp_path / 'one' / 'incomplete.ABC_2.0.0')
  assert records.find_folder('one', tmp_path).name == '1.10.0'
  assert records.find_folder('two', tmp_path) is None


def test_find_folder_knows_the_default_configuration(tmp_path):
  _make_version(tmp_path / 'one' / 'full' / '1.0.0')
  _make_version(tmp_path / 'one' / 'small' / '1.0.0')
  settings = tmp_path / 'one' / '.config' / 'metadata.json'
  settings.parent.mkdir()
  settings.write_text(json.dumps({'default_config_name': 'full'}))
  assert records.find_folder('one', tmp_path).parent.name == 'full'
  assert records.find_folder('one/small', tmp_path).parent.name == 'small'
  assert records.list_prepared(tmp_path) == ['one', 'one/small']


def test_a_missing_folder_has_no_prepared_data_sets(tmp_path):
  assert records.list_prepared(tmp_path / 'none') == []
