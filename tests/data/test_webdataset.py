"""Reading tars."""

import io
import json
import tarfile

import pytest

from mmjax.data import webdataset


def _tar(path, files):
  with tarfile.open(path, 'w') as tar:
    for name, data in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return path


def test_samples_are_files_of_one_key(tmp_path):
  path = _tar(
    tmp_path / 'zoo.tar',
    {
      'a.png': b'first',
      'a.txt': b'a dog',
      'a.json': json.dumps({'caption': 'a pet', 'n': 5}).encode(),
      '._a.png': b'junk of some file managers',
      'sub/b.one.JPG': b'not an image by its whole ending',
      'sub/c.JPG': b'third',
      'sub/c.txt': 'größer'.encode(),
    },
  )
  first, second, third = webdataset.read([path])
  assert (first.id, first.where) == ('zoo/a', 'zoo.tar: a')
  assert first.group == 'a'
  assert first.read_fields() == {
    'caption': ['a dog', 'a pet'],
    'n': 5,
    'source': 'zoo',
    'key': 'a',
  }
  assert first.read_image() == b'first'
  with pytest.raises(ValueError, match=r'no image among its files \(.one.jpg'):
    second.read_image()
  assert third.id == 'zoo/sub/c'
  assert third.read_fields()['caption'] == ['größer']
  assert third.read_image() == b'third'


def test_bad_json_is_reported_when_read(tmp_path):
  path = _tar(tmp_path / 'zoo.tar', {'a.json': b'{', 'b.json': b'[1]'})
  first, second = webdataset.read([path])
  with pytest.raises(ValueError, match=r'its \.json is not valid JSON'):
    first.read_fields()
  with pytest.raises(ValueError, match='holds no object'):
    second.read_fields()


def test_damaged_tars_are_refused(tmp_path):
  path = _tar(tmp_path / 'zoo.tar', {f'{i}.txt': b'x' * 999 for i in range(9)})
  cut = tmp_path / 'cut.tar'
  # A sample takes 1536 bytes: cut in a file, in a header and between samples.
  for size in (5500, 5000, 4608):
    cut.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
      ValueError, match=r"cut\.tar can't be read beyond [23]\.txt"
    ):
      list(webdataset.read([cut]))
  with tarfile.open(tmp_path / 'z.tar', 'w:gz') as tar:
    tar.add(path, 'x')
  with pytest.raises(ValueError, match='whole, uncompressed tar'):
    list(webdataset.read([tmp_path / 'z.tar']))


def test_tars_of_one_name_are_refused(tmp_path):
  with pytest.raises(ValueError, match='two tars are called zoo'):
    list(webdataset.read([tmp_path / 'a/zoo.tar', tmp_path / 'b/zoo.tar']))
