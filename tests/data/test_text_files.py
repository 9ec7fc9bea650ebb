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


def test_archives_are_refused(tmp_path):
  path = tmp_path / 'rows.xlsx'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('sheet.xml', '')
  with pytest.raises(
    ValueError, match='is a zip archive, as spreadsheets also'
  ):
    text_files.read(path, None)
