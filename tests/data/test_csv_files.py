"""Reading JSONL and CSV."""

import pytest

from mmjax.data import tables


def test_csv_rows(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'dog')
  path = tmp_path / 'pets.csv'
  path.write_text(
    '\ufeffimage,caption,n\n'
    'dog.png,"a dog, sitting",3\n'
    'dog.png,"[""a"", ""b""]",\n'
    ',"[text] of two\nlines]",5\n',
    encoding='utf-8',
  )
  first, second, third = tables.read_csv([path])
  assert (first.id, first.where) == ('dog.png', 'pets.csv, line 2')
  assert first.read_fields() == {
    'caption': 'a dog, sitting',
    'n': '3',
    'file': 'dog.png',
  }
  assert first.read_image() == b'dog'
  assert first.is_part and second.is_part and not third.is_part
  assert (second.id, second.group) == ('dog.png', 'dog.png')
  assert second.read_fields() == {'caption': ['a', 'b'], 'file': 'dog.png'}
  assert third.id == 'pets-5' and third.read_image() == b''
  assert third.read_fields()['caption'] == '[text] of two\nlines]'


def test_other_images_of_one_name_have_other_ids(tmp_path):
  paths = [tmp_path / name / 'rows.csv' for name in 'ab']
  for path in paths:
    path.parent.mkdir()
    path.write_text('image,caption\ndog.png,a dog\n,a text\ndog.png,a pet\n')
  ids = [row.id for row in tables.read_csv(paths)]
  assert ids[:3] == ['dog.png', 'rows-3', 'dog.png']
  assert ids[3:] == ['dog.png#2', 'rows-3#2', 'dog.png#2']


def test_jsonl_rows(tmp_path):
  path = tmp_path / 'pets.jsonl'
  path.write_text('{"id": 7, "image": "no.png", "caption": "x"}\n\n[1]\n{\n')
  good, wrong, broken = tables.read_jsonl([path])
  assert good.id == '7' and good.group == 'no.png' and not good.is_part
  with pytest.raises(ValueError, match=r'no image file .*no\.png'):
    good.read_image()
  assert wrong.where == 'pets.jsonl, line 3'
  with pytest.raises(ValueError, match='it is no object'):
    wrong.read_fields()
  assert broken.where == 'pets.jsonl, line 4'
  with pytest.raises(ValueError, match='not a JSON object'):
    broken.read_fields()


def test_wrong_tables(tmp_path):
  path = tmp_path / 'pets.csv'
  path.write_text('')
  with pytest.raises(ValueError, match='has no header line'):
    list(tables.read_csv([path]))
  path.write_text('caption\na dog, sitting\n')
  (row,) = tables.read_csv([path])
  with pytest.raises(ValueError, match='more cells than the 1 columns'):
    row.read_fields()


def test_empty_image_files(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'')
  path = tmp_path / 'pets.jsonl'
  path.write_text('{"image": "dog.png"}\n{"image": 3}\n')
  empty, number = tables.read_jsonl([path])
  with pytest.raises(ValueError, match='is empty'):
    empty.read_image()
  with pytest.raises(ValueError, match='image should be a path, not 3'):
    number.read_image()
