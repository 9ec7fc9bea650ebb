"""Parquet files are read, with the values of users' tables."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.data import image_rows, parquet_files

IMAGE = {'bytes': b'a', 'path': None}
LABELS = {'label': {'_type': 'ClassLabel', 'names': ['cat', 'dog']}}


def _read(path, table, *, features=None, wanted=(), **kwargs):
  table = table if isinstance(table, pa.Table) else pa.table(table)
  if features:
    meta = json.dumps({'info': {'features': features}})
    table = table.replace_schema_metadata({'huggingface': meta})
  pq.write_table(table, path / 'a.parquet', **kwargs)
  options = image_rows.Options(columns=wanted)
  return list(parquet_files.read([path / 'a.parquet'], options))


def _find_reason(raw):
  with pytest.raises(ValueError) as caught:
    raw.read_fields()
  return str(caught.value)


def test_a_list_of_one_image_is_that_image(tmp_path):
  image, two, none, empty = _read(
    tmp_path,
    {
      'images': [[IMAGE], [IMAGE, IMAGE], None, []],
      'text': ['a', 'b', 'c', 'd'],
    },
  )
  assert image.read_image() == b'a'
  assert image.read_fields()['caption'] == 'a'
  assert "'images' has 2 images" in _find_reason(two)
  assert 'its image is missing' in _find_reason(none)
  assert 'its image is missing' in _find_reason(empty)


def test_an_image_may_be_a_file_beside(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'dog')
  file = {'bytes': None, 'path': 'dog.png'}
  outside = {'bytes': None, 'path': '/elsewhere/dog.png'}
  neither = {'bytes': None, 'path': None}
  images = [file, IMAGE, {**IMAGE, 'bytes': b''}, outside, neither]
  table = {'image': images, 'caption': list('abcde')}
  beside, inside, empty, *bad = _read(tmp_path, table)
  assert (beside.id, beside.read_image()) == ('dog.png', b'dog')
  assert beside.is_part and inside.read_image() == b'a'
  with pytest.raises(ValueError, match='its image is missing: it has no bytes'):
    empty.read_image()
  assert 'path of another machine; write' in _find_reason(bad[0])
  assert 'its image is missing' in _find_reason(bad[1])


@pytest.mark.parametrize(
  'table, message',
  [
    (
      {'front': [IMAGE], 'mask': [b'x'], 'text': ['a']},
      "no column `image`, but 'front', 'mask' with bytes; .*image=front",
    ),
    (
      {'photo': [IMAGE], 'filename': ['a.png'], 'text': ['a']},
      "but 'photo' with bytes, and 'filename' with paths",
    ),
    (
      {'row': [{'photo': IMAGE, 'text': 'a'}]},
      "but 'row' with objects that have bytes inside; .*image=row.FIELD",
    ),
    ({'img': [IMAGE], 'image_path': ['a']}, '^the columns .* choose one'),
    ({'image': [IMAGE], 'caption': [3]}, 'the captions are numbers'),
    ({'image': [{'data': b'x'}], 'text': ['a']}, 'has data, not bytes and'),
  ],
)
def test_refused_columns(tmp_path, table, message):
  (raw,) = _read(tmp_path, table)
  with pytest.raises(ValueError, match=message):
    raw.read_fields()


def test_a_bad_value_costs_its_row(tmp_path):
  # Not UTF-8, as C programs may write it.
  texts = pa.array([b'a', b'gro\xdf', b'c']).view(pa.string())
  days = pa.array([0, 1, 2**50]).cast(pa.timestamp('s'))
  times = pa.array([1, 1, 2]).cast(pa.timestamp('ns'))
  table = pa.table({'image': [IMAGE] * 3, 'text': texts, 'day': days})
  table = table.append_column('time', times)
  first, *bad = _read(tmp_path, table)
  assert first.read_fields()['day'] == '1970-01-01 00:00:00'
  assert first.read_fields()['time'] == '1970-01-01 00:00:00.000000001'
  assert "column 'text' can't be read: byte 0xdf at 3" in _find_reason(bad[0])
  assert "column 'day' can't be read" in _find_reason(bad[1])


def test_damaged_rows_cost_no_others(tmp_path):
  texts = ['first ' * 9, 'second ' * 9, 'third ' * 9]
  table = {'image': [IMAGE] * 3, 'text': texts}
  settings = {'row_group_size': 1, 'compression': 'NONE', 'use_dictionary': []}
  _read(tmp_path, table, **settings)
  path = tmp_path / 'a.parquet'
  data = path.read_bytes()
  place = data.index(b'second') - 30
  path.write_bytes(data[:place] + bytes(30) + data[place + 30 :])
  first, second, third = parquet_files.read([path], image_rows.Options())
  assert first.read_fields()['caption'].startswith('first')
  assert second.where == 'a.parquet, rows 2 to 2'
  assert 'these rows are not readable' in _find_reason(second)
  assert third.read_fields()['caption'].startswith('third')


def test_classes_without_names(tmp_path):
  table = {'image': [IMAGE] * 3, 'text': list('abc'), 'label': [1, -1, 2]}
  first, none, unknown = _read(tmp_path, table, features=LABELS)
  assert first.read_fields()['label'] == 'dog'
  assert 'label' not in none.read_fields()
  assert "'label' is 2, which is not one of its 2 classes" in _find_reason(
    unknown
  )
  wanted = (('caption', 'label'),)
  first, *bad = _read(tmp_path, table, features=LABELS, wanted=wanted)
  assert first.read_fields()['caption'] == 'dog'
  assert "'label' is -1, which is not one of" in _find_reason(bad[0])


def test_maps_are_objects(tmp_path):
  kind = pa.map_(pa.string(), pa.string())
  maps = pa.array([[('en', 'a dog'), ('de', 'ein Hund')]], kind)
  (raw,) = _read(tmp_path, pa.table({'image': [IMAGE], 'caption': maps}))
  assert raw.read_fields()['caption'] == {'en': 'a dog', 'de': 'ein Hund'}


def test_turns_in_a_column(tmp_path):
  turns = [{'from': 'human', 'value': '<image>\nWhy?'}]
  turns += [{'from': 'gpt', 'value': 'So.'}]
  texts = [{**turns[0], 'value': 'Who?'}, turns[1]]
  table = {
    'id': ['1', '2', '3'],
    'image': [IMAGE, None, None],
    'conversations': [turns, texts, turns],
    'topic': ['x'] * 3,
  }
  asked, text, missing = _read(tmp_path, table)
  fields = asked.read_fields()
  assert (fields['question'], fields['answer']) == ('Why?', 'So.')
  assert (asked.id, asked.read_image(), fields['topic']) == ('1', b'a', 'x')
  assert text.read_fields()['question'] == 'Who?' and text.read_image() == b''
  assert 'it names no image' in _find_reason(missing)


def test_another_kind_of_file_is_shown(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_text('<!DOCTYPE html><title>404</title>')
  (raw,) = parquet_files.read([path], image_rows.Options())
  assert "begins with b'<!DOCTYPE html" in _find_reason(raw)
