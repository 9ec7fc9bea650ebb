"""Data sets are written completely or not at all."""

import fcntl
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from mmjax.data import builders, records, shapes_drawing, tokenizers

PNG = shapes_drawing.encode_png(np.zeros((2, 3, 3), np.uint8))


class Toy(builders.RecordBuilder, skip_registration=True):
  """Builder of a few records, which fails at the record `fail_at`."""

  name = 'toy'
  VERSION = tfds.core.Version('1.0.0')
  VOCAB_SIZE = 270
  TEXT_FIELDS = ('tags',)

  def __init__(self, *, fail_at=None, caption='red', meanwhile=None, **kwargs):
    self._fail_at = fail_at
    self._caption = caption
    self._meanwhile = meanwhile
    super().__init__(**kwargs)

  def read_splits(self):
    return {'train': self._make_records(7), 'test': self._make_records(3)}

  def _make_records(self, count):
    for i in range(count):
      if i == self._fail_at:
        raise KeyboardInterrupt
      if self._meanwhile and i == 0:
        meanwhile, self._meanwhile = self._meanwhile, None
        meanwhile()
      yield {
        'id': str(i),
        'fields': {'image': PNG, 'captions': [self._caption]},
        'metadata': {'tags': ['zebrazebra'] * 3},
      }


def _build(data_dir, overwrite=False, **kwargs):
  return builders.build(
    lambda folder: Toy(data_dir=folder, **kwargs),
    data_dir,
    overwrite=overwrite,
    progress=False,
  )


def _read(folder, split='train'):
  builder = tfds.builder_from_directory(folder)
  schema = records.Schema.load(folder)
  source = builder.as_data_source(split, decoders=schema.make_decoders())
  return [schema.decode(source[i]) for i in range(len(source))]


def test_records_and_tokenizer_are_written(tmp_path):
  folder = _build(tmp_path)
  assert folder == tmp_path / 'toy' / '1.0.0'
  assert sorted(record['id'] for record in _read(folder)) == list('0123456')
  assert len(_read(folder, 'test')) == 3
  tokenizer = tokenizers.Tokenizer.load(folder / 'tokenizer.json')
  assert tokenizer.tokenize('red') == ['Ġred']
  assert len(tokenizer.tokenize('zebrazebra')) == 1
  # Nothing else is left behind.
  assert [path.name for path in tmp_path.iterdir()] == ['toy']


def test_data_beyond_what_is_kept_in_memory(tmp_path, monkeypatch):
  small = _read(_build(tmp_path / 'small'))
  # Two of the seven records stay below the limit.
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 3 * len(PNG))
  folder = _build(tmp_path / 'large')
  assert _read(folder) == small
  assert not list(folder.glob('*.tmp'))


def test_an_interrupted_build_leaves_nothing(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    _build(tmp_path, fail_at=5)
  assert list(tmp_path.iterdir()) == []
  assert len(_read(_build(tmp_path))) == 7


def test_a_build_reuses_an_existing_data_set(tmp_path):
  folder = _build(tmp_path)
  assert _build(tmp_path, fail_at=0) == folder


def test_overwriting_is_atomic_too(tmp_path):
  folder = _build(tmp_path)
  with pytest.raises(KeyboardInterrupt):
    _build(tmp_path, overwrite=True, fail_at=2)
  assert _read(folder)[0]['fields']['captions'] == ['red']
  _build(tmp_path, overwrite=True, caption='blue')
  assert _read(folder)[0]['fields']['captions'] == ['blue']
  assert [path.name for path in tmp_path.iterdir()] == ['toy']


def test_the_first_of_two_builds_at_once_provides(tmp_path):
  folder = _build(
    tmp_path,
    caption='slow',
    meanwhile=lambda: _build(tmp_path, caption='quick'),
  )
  assert _read(folder)[0]['fields']['captions'] == ['quick']
  assert [path.name for path in tmp_path.iterdir()] == ['toy']


def test_files_of_a_killed_process_are_removed(tmp_path):
  for name in ('killed', 'running', 'new'):
    lock = tmp_path / f'.unfinished-{name}' / 'lock'
    lock.parent.mkdir()
    lock.touch()
    if name != 'new':
      os.utime(lock, (0, 0))
  with (tmp_path / '.unfinished-running' / 'lock').open() as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    _build(tmp_path)
  left = sorted(path.name for path in tmp_path.iterdir())
  assert left == ['.unfinished-new', '.unfinished-running', 'toy']


def test_tfds_keeps_quiet(tmp_path, capsys):
  _build(tmp_path)
  output = capsys.readouterr()
  assert output.out == '' and output.err == ''


def test_progress_reports_the_number_of_records(tmp_path, capsys):
  folder = builders.build(lambda d: Toy(data_dir=d), tmp_path)
  line = capsys.readouterr().err
  assert line.startswith('toy: 10 records in ')
  assert line.endswith(f'{folder}\n')


def test_many_texts_are_thinned_evenly(tmp_path, monkeypatch):
  monkeypatch.setattr(builders, '_MAX_TEXTS', 8)
  builder = Toy(data_dir=str(tmp_path))
  for i in range(100):
    fields = {'captions': [str(i)]}
    builder._learn_from({'id': 'x', 'fields': fields, 'metadata': {}})
  kept = [int(texts[0]) for texts in builder._texts]
  assert 4 <= len(kept) <= 8
  assert len(set(np.diff(kept))) == 1 and kept[-1] >= 80
