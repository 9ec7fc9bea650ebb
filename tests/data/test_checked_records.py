"""Words for splits are read, refused or noted; shared images are divided."""

import functools

import numpy as np
import pytest

from mmjax.data import (
  checked_records,
  import_report,
  importing,
  raw_records,
  shapes_drawing,
)

PNG = shapes_drawing.encode_png(np.zeros((2, 3, 3), np.uint8))


def _check(words, splits_by_word=None):
  """Checks one row of an image for each word of its field `split`."""
  checked = checked_records.CheckedRecords(
    None, None, keeps_splits=True, splits_by_word=splits_by_word or {}
  )
  for i, word in enumerate(words.split()):
    fields = {'caption': f'text {i}', 'split': word}
    checked.add(
      raw_records.RawRecord(
        id='a.png',
        where=f'row {i}',
        group='a.png',
        read_fields=functools.partial(dict, fields),
        read_image=lambda: PNG,
        is_part=True,
        image_file='a.png',
      )
    )
  return checked


def test_an_image_in_several_splits_is_a_record_in_each():
  checked = _check('train val train val')
  assert {key: len(raws) for key, raws in checked.raws.items()} == {
    'a.png': 2,
    'a.png#validation': 2,
  }
  assert checked.find_same_images() == [['a.png', 'a.png#validation']]
  assert list(checked.assign(None)) == ['train', 'validation']


def test_words_for_splits():
  names = {'dev-test': 'dev_test'}
  assert _check('train Dev-Test', names).find_split_names() == [
    'train',
    'dev_test',
  ]
  with pytest.raises(ValueError, match="row 0 is of the split 'eval', which"):
    _check('eval train')
  with pytest.raises(ValueError, match=r"no record has .* with 'dev-test'"):
    _check('train test', names).find_split_names()


def test_unknown_words_are_noted():
  checked = _check('fit eval')
  assert checked.unknown_splits == {'fit': 'row 0', 'eval': 'row 1'}
  outcome = import_report.Outcome(unknown_splits=tuple(checked.unknown_splits))
  (line,) = outcome.format_lines('x', {})[1:]
  assert "metadata: 'fit', 'eval'; --split_names=validation=fit reads" in line


@pytest.mark.parametrize(
  'cell, message',
  [
    ('dog.png', 'no record has an image; name the column'),
    ('https://x/1', "the column 'photo' has URLs: download the images first"),
  ],
)
def test_a_table_without_images_is_refused(tmp_path, cell, message):
  path = tmp_path / 'pets.csv'
  path.write_text(f'photo,caption\n{cell},a dog\n')
  settings = importing.Settings(name='pets')
  with pytest.raises(ValueError, match=message):
    importing.import_data('csv', str(path), settings, data_dir=tmp_path)
  assert not list(tmp_path.glob('pets/*'))
