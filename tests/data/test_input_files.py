"""Files by patterns."""

import pathlib

import pytest

from mmjax.data import input_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
  for name in ('set[1]', 'set1', 'a,b', 'x{1}'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'c.csv').touch()
  for i in range(12):
    (tmp_path / f'{i:05d}.tar').touch()
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'spec, found',
  [
    ('set[1]/c.csv', ['set[1]/c.csv']),
    ('a,b/c.csv,set1/c.csv', ['a,b/c.csv', 'set1/c.csv']),
    ('set1/c.csv, a,b/c.csv', ['set1/c.csv', 'a,b/c.csv']),
    ('x{1}/c.csv', ['x{1}/c.csv']),
    ('{00009..00011}.tar', ['00009.tar', '00010.tar', '00011.tar']),
    ('0001?.tar,00010.tar', ['00010.tar', '00011.tar']),
  ],
)
def test_what_is_found(folder, spec, found):
  assert input_files.find(spec) == list(map(pathlib.Path, found))


def test_missing_files(folder):
  with pytest.raises(FileNotFoundError, match=r"no file matches 'none\*'"):
    input_files.find('none*')
  with pytest.raises(FileNotFoundError, match=r"'00012.tar' \(88 of 100\)"):
    input_files.find('{00000..00099}.tar')
