"""Records in memory with images of one grey level each."""

import io

import pytest
from PIL import Image

from mmjax.data import preprocess, sources, tokenizers


def record(number, captions=(), questions=(), **metadata):
  png = io.BytesIO()
  Image.new('RGB', (4, 4), (40 * number,) * 3).save(png, 'PNG')
  fields = {
    'image': png.getvalue(),
    'captions': list(captions),
    'questions': list(questions),
  }
  return {'id': f'record-{number}', 'fields': fields, 'metadata': metadata}


@pytest.fixture(scope='session')
def make_source():
  """Keyword arguments of `record`, one mapping a record -> a source."""
  return lambda rows: sources.ListSource(
    [record(number, **row) for number, row in enumerate(rows)]
  )


@pytest.fixture(scope='session')
def preprocessor():
  return preprocess.Preprocessor(
    preprocess.build(
      {
        'text': {'kind': 'text', 'field': 'captions', 'length': 12},
        'questions': {
          'kind': 'questions',
          'length': 12,
          'answer_length': 6,
          'has_label': True,
          'answers': ('red', 'blue', 'two'),
        },
        'image': {
          'kind': 'image',
          'size': 4,
          'mean': (0,) * 3,
          'std': (1,) * 3,
        },
      }
    ),
    tokenizers.make_byte_tokenizer(),
  )


@pytest.fixture(scope='session')
def number_of():
  """Which record an image in a batch belongs to, [B] int."""
  return lambda image: (image[:, 0, 0, 0] * 255 / 40 + 0.5).astype(int)
