"""easy_vqa from a fake package, and the error without the package."""

import sys
import types

import numpy as np
import pytest

from mmjax.data import prepare, shapes_drawing, sources
from mmjax.errors import ConfigError

QUESTIONS = (
  [
    'what is the blue shape?',
    'is there not a red shape?',
    'is no cat present?',
  ],
  ['circle', 'yes', 'no'],
)


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Forty images for training and three for testing."""
  path = tmp_path / 'image.png'
  path.write_bytes(shapes_drawing.encode_png(np.zeros((2, 3, 3), np.uint8)))
  package = types.ModuleType('easy_vqa')
  for split, count in (('train', 40), ('test', 3)):
    texts = QUESTIONS[0] * count + ['what color is the shape?']
    answers = QUESTIONS[1] * count + ['teal']
    ids = [i for i in range(count) for _ in range(3)] + [0]
    paths = {i: str(path) for i in range(count)}
    setattr(
      package, f'get_{split}_questions', lambda q=(texts, answers, ids): q
    )
    setattr(package, f'get_{split}_image_paths', lambda p=paths: p)
  monkeypatch.setitem(sys.modules, 'easy_vqa', package)


def test_one_record_an_image(package, tmp_path):
  prepare.prepare('easy_vqa', tmp_path, progress=False)
  records = {
    split: {
      row['id']: row
      for row in sources.open_source('easy_vqa', split, data_dir=tmp_path)
    }
    for split in ('train', 'validation', 'test')
  }
  assert len(records['train']) + len(records['validation']) == 40
  assert 0 < len(records['validation']) < 15
  assert sorted(records['test']) == ['test-0', 'test-1', 'test-2']
  entries = records['test']['test-0']['fields']['questions']
  assert [(entry['answers'], entry['type']) for entry in entries] == [
    (['circle'], 'shape'),
    (['yes'], 'absence'),
    (['no'], 'absence'),
    (['teal'], 'color'),
  ]


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'easy_vqa', None)
  with pytest.raises(ConfigError, match=r"pip install 'mmjax\[easy_vqa\]'"):
    prepare.prepare('easy_vqa', tmp_path, progress=False)
  assert list(tmp_path.iterdir()) == []
