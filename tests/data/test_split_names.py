"""Splits are found by the names of files and folders."""

import pathlib

import pytest

from mmjax.data import split_names


@pytest.mark.parametrize(
  'names, splits',
  [
    ('train.csv test.csv', 'train test'),
    ('cc3m-train-0000.tar cc3m-validation-0000.tar.gz', 'train validation'),
    ('captions_train2014.json captions_val2014.json', 'train validation'),
    ('train-00000-of-00001.parquet dev.parquet', 'train validation'),
    ('x/Train/0.tar x/test/train/1.tar', 'train train'),
    ('train_val.csv latest.csv training', '- - train'),
    # All are below this folder, so that it says nothing.
    ('train/0.csv train/test.csv', '- test'),
    ('train/0.csv', '-'),
  ],
)
def test_splits_that_paths_are_named_after(names, splits):
  paths = [pathlib.Path(name) for name in names.split()]
  found = split_names.find_splits(paths)
  assert [found.get(path, '-') for path in paths] == splits.split()


@pytest.mark.parametrize(
  'text', ['eval', 'Val=eval', 'all=x', 'validation=a,test=A', 'test=']
)
def test_refused_names(text):
  with pytest.raises(ValueError, match='split_names '):
    split_names.parse(text)
