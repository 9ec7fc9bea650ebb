"""Text files are read up to damage; archives are refused."""

import gzip
import zipfile

import numpy as np
import pytest

from mmjax.data import text_files


def test_the_text_before_a_cut_is_read(tmp_path):
  rng = np.random.default_rng(0)
  lines = [rng.bytes(40).hex() + '\n' for _ in range(2000)]
  packed = gzip.compress(''.join(lines).encode())
  path = tmp_path / 'rows.csv.gz'
  path.write_bytes(packed[:-200])
  found = []
  with pytest.raises(ValueError, match=r'rows\.csv\.gz is damaged: .* ended'):
    found.extend(text_files.read_lines(path, None))
  assert found == lines[: len(found)] and len(found) > 1990


@pytest.mark.parametrize(
  'encoding, text',
  [
    ('cp1252', 'groß'),
    ('shift_jis', '犬が\u3000二匹'),
    ('gb18030', '两只狗'),
    ('cp1251', 'две собаки'),
  ],
)
def test_encodings_are_suggested_with_what_they_read(encoding, text):
  data = text.encode(encoding)
  wrong = data.decode('utf-8', 'surrogateescape')
  calls = [(text_files.check, wrong), (text_files.decode, data)]
  for read, value in calls:
    with pytest.raises(ValueError, match=r'not UTF-8.*: --encoding=') as info:
      read(value, None)
    assert f'{encoding} reads {text!r}' in str(info.value)
  assert text_files.decode(data, encoding) == text


def test_bytes_are_decoded_by_their_mark():
  assert text_files.decode('ä'.encode('utf-16'), None) == 'ä'
  with pytest.raises(ValueError, match='not utf-16'):
    text_files.decode(b'abc', 'utf-16')
  with pytest.raises(ValueError, match="encoding 'utf-9' is unknown"):
    text_files.decode(b'abc', 'utf-9')


def test_archives_are_refused(tmp_path):
  path = tmp_path / 'rows.xlsx'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('sheet.xml', '')
  with pytest.raises(
    ValueError, match='is a zip archive, as spreadsheets also'
  ):
    text_files.read(path, None)
