"""Input files are found by paths and patterns."""

import os
import pathlib

import pytest

from mmjax.data import input_files
from mmjax.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
  for name in ('set[1]', 'set1', 'a,b', 'x{1}'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'c.csv').touch()
  (tmp_path / 'deep/1/2').mkdir(parents=True)
  (tmp_path / 'deep/1/2/c.csv').touch()
  (tmp_path / 'deep/1/up').symlink_to('..')
  for i in range(12):
    (tmp_path / f'{i:05d}.tar').touch()
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'spec, expected',
  [
    ('set[1]/c.csv', ['set[1]/c.csv']),
    ('a,b/c.csv,set1/c.csv', ['a,b/c.csv', 'set1/c.csv']),
    ('set1/c.csv, a,b/c.csv', ['set1/c.csv', 'a,b/c.csv']),
    ('x{1}/c.csv', ['x{1}/c.csv']),
    ('{00009..00011}.tar', ['00009.tar', '00010.tar', '00011.tar']),
    ('0001?.tar,00010.tar', ['00010.tar', '00011.tar']),
    (
      '**/c.csv',
      [
        'a,b/c.csv',
        'deep/1/2/c.csv',
        'set1/c.csv',
        'set[1]/c.csv',
        'x{1}/c.csv',
      ],
    ),
    ('deep/**/c.csv', ['deep/1/2/c.csv']),
  ],
)
def test_paths_of_a_specification(folder, spec, expected):
  assert input_files.find(spec) == list(map(pathlib.Path, expected))


def test_missing_files(folder):
  with pytest.raises(ConfigError, match=r"no file matches 'none\*'"):
    input_files.find('none*')
  with pytest.raises(
    ConfigError, match=r"'00012.tar' \(88 of 100\); patterns with \*"
  ):
    input_files.find('{00000..00099}.tar')
  for url in 's3://b/{0..3}.tar', 'pipe:curl -s http://x/0.tar':
    with pytest.raises(ConfigError, match='is a URL or a command; download'):
      input_files.find(url)
  with pytest.raises(ConfigError, match='separate paths with commas, not'):
    input_files.find('00000.tar::00001.tar')


def test_files_of_folders(folder):
  notes = []
  (folder / 'deep/1/.hidden.csv').touch()
  (folder / 'deep/1/read.me').touch()
  (folder / 'deep/1/link.csv').symlink_to('2/c.csv')
  (folder / 'deep/d.TSV.zst').touch()
  # Two folders with links to each other, and one of a file manager.
  (folder / 'deep/3').mkdir()
  (folder / 'deep/3/c.csv').symlink_to('../1/2/c.csv')
  (folder / 'deep/1/to_3').symlink_to('../3')
  (folder / 'deep/3/to_1').symlink_to('../1')
  (folder / 'deep/@eaDir').mkdir()
  (folder / 'deep/@eaDir/thumb.csv').touch()
  paths = [folder / 'deep', folder / 'a,b/c.csv']
  expected = input_files.expand_folders(paths, ('.csv', '.tsv'), notes.append)
  assert expected == [
    folder / name for name in ('deep/1/2/c.csv', 'deep/d.TSV.zst', 'a,b/c.csv')
  ]
  assert notes == [f'2 files of the folder {folder}/deep were read']
  with pytest.raises(ValueError, match=r'no file \*\.tar in the folder .*deep'):
    input_files.expand_folders(paths, ('.tar',), notes.append)
  with pytest.raises(ValueError, match=r'deep is a folder; name the files'):
    input_files.expand_folders(paths, (), notes.append)


def test_pipes_are_refused(folder):
  os.mkfifo('pipe.csv')
  for spec in 'pipe.csv', '*.csv', '/dev/null':
    with pytest.raises(ValueError, match='is a pipe, socket or device'):
      input_files.find(spec)
  with pytest.raises(ValueError, match='is a pipe, socket or device'):
    input_files.expand_folders([folder], ('.csv',), print)
