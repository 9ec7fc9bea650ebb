"""Records on disk equal those in memory, and data sets are found."""

import json
import pathlib

import pytest

from mmjax.data import records
from mmjax.errors import ConfigError

RECORD = {
  'id': 'a/é',
  'fields': {
    'image': b'\x89PNG',
    'captions': ['ein Fuß', 'a foot'],
    'questions': [
      {'question': 'wie viele?', 'answers': ['1', 'eins'], 'type': 'count'},
      {'question': 'why?', 'answers': [], 'type': 'other'},
    ],
  },
  'metadata': {'tags': ['x', 'y'], 'n': 3},
}


def _write_and_read(record, *, large=True):
  schema = records.Schema()
  whole = schema.make_tfds_features()
  data = whole.serialize_example(whole.encode_example(schema.encode(record)))
  part = schema.make_tfds_features(large=large)
  decoders = schema.make_decoders() if large else None
  return schema.decode(part.deserialize_example_np(data, decoders=decoders))


def test_decode_undoes_encode():
  assert _write_and_read(RECORD) == RECORD


def test_without_large_fields_the_rest_is_read():
  small = {k: v for k, v in RECORD['fields'].items() if k != 'image'}
  assert _write_and_read(RECORD, large=False) == RECORD | {'fields': small}


@pytest.mark.parametrize('fields', [{}, {'captions': ['one']}])
def test_absent_fields_stay_absent(fields):
  record = {'id': 'x', 'fields': fields, 'metadata': {}}
  assert _write_and_read(record) == record


@pytest.mark.parametrize(
  'change, message',
  [
    ({'extra': 1}, 'a record has id, fields and metadata, not .*extra'),
    ({'fields': {'sound': b''}}, "'sound', but the data set has image, .*kind"),
    ({'fields': {'captions': 'a foot'}}, "'captions' should be list, not str"),
    (
      {'fields': {'questions': [{'question': 'why?'}]}},
      'not question, answers and type',
    ),
    ({'metadata': {'n': float('nan')}}, "'n' has the number nan"),
    ({'metadata': {'\ud800': 1}}, 'has a lone surrogate'),
    ({'id': 'a\ud800'}, "'id' has a lone surrogate"),
  ],
)
def test_wrong_records_are_refused(change, message):
  with pytest.raises(ConfigError, match=message):
    records.Schema().check({**RECORD, **change})


@pytest.mark.parametrize(
  'kinds, message',
  [
    ({'a': 'noises'}, "the kind of field 'a'.*'noises'"),
    ({'id': 'text'}, "cannot have the name 'id'"),
    ({'a b': 'text'}, "cannot have the name 'a b'; use letters"),
  ],
)
def test_wrong_schemas_are_refused(kinds, message):
  with pytest.raises(ConfigError, match=message):
    records.Schema(kinds)


def test_a_schema_survives_its_file(tmp_path):
  assert records.Schema.load(tmp_path) is None
  schema = records.Schema({'said': 'sound', 'age': 'number'}, {'age'})
  schema.save(tmp_path)
  assert records.Schema.load(tmp_path) == schema
  # As data sets before `complete` have it.
  older = {name: {'kind': kind} for name, kind in schema.kinds.items()}
  (tmp_path / records.FIELDS_FILE).write_text(json.dumps(older))
  assert records.Schema.load(tmp_path) == records.Schema(schema.kinds)
  (tmp_path / records.FIELDS_FILE).write_text('{"said": "sound"}')
  with pytest.raises(ConfigError, match=r'fields\.json is damaged'):
    records.Schema.load(tmp_path)


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
