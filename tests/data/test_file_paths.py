"""Paths are found as other systems and tools spell them."""

import pytest

from mmjax.data import file_paths
from mmjax.errors import ConfigError


@pytest.mark.parametrize(
  ('name', 'found'),
  [
    ('a/1.png', 'a/1.png'),
    (' a/1.png', 'a/1.png'),
    ('a\\1.png', 'a/1.png'),
    ('a/1.png#3', 'a/1.png'),
    ('a/1', 'a/1.png'),
    ('a/2', 'a/2.JPG'),
    ('a/2.jpg', 'a/2.JPG'),
    ('a\\1.PNG', 'a/1.png'),
    ('a/none', 'a/none'),
    ('a/1.jpg', 'a/1.jpg'),
  ],
)
def test_files_are_found_by_other_spellings(tmp_path, name, found):
  (tmp_path / 'a').mkdir()
  for file in ('1.png', '2.JPG', '3.txt'):
    (tmp_path / 'a' / file).touch()
  path, real = file_paths.locate(str(tmp_path), name, ('png', 'jpg'))
  assert path == found and real == str(tmp_path / found)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('1', r"'1' could be .*1\.png or .*1\.jpg; write its ending"),
    ('/none/of/1.png', 'there is no folder /none/of, so .* of another machine'),
    (r'C:\me\1.png', r'there is no folder C:\\me, so .* of another machine'),
    (r'\\nas\me\1.png', r'so .* is the path of another machine'),
    ('../1.png', 'is outside'),
  ],
)
def test_paths_that_are_not_certain_are_refused(tmp_path, name, message):
  for file in ('1.png', '1.jpg'):
    (tmp_path / file).touch()
  with pytest.raises(ConfigError, match=message):
    file_paths.locate(str(tmp_path), name, ('png', 'jpg'))
