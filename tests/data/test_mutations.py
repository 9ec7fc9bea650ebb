"""Randomly changed inputs give records or import errors, never other errors."""

import gzip
import io
import json
import os
import pathlib
import tarfile

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.data import formats, image_rows, images, raw_records
from tests import mutations

NUMBER = int(os.environ.get('MMJAX_MUTATIONS', 1000))
IMAGES = {
  'PNG': 'RGB',
  'JPEG': 'RGB',
  'GIF': 'P',
  'WEBP': 'RGBA',
  'BMP': 'RGB',
  'TIFF': 'I;16',
  'PPM': 'L',
  'JPEG2000': 'L',
}


def _encode(kind):
  rng = np.random.default_rng(0)
  pixels = PIL.Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
  mode = IMAGES[kind]
  image = pixels.convert(mode if ';' not in mode else 'L')
  if ';' in mode:
    grey = np.asarray(image).astype(np.uint16)
    image = PIL.Image.fromarray(257 * grey)
  file = io.BytesIO()
  exif = PIL.Image.Exif()
  exif[PIL.ExifTags.Base.Orientation] = 6
  image.save(file, kind, **({'exif': exif} if mode.startswith('RGB') else {}))
  return file.getvalue()


def _make_tar():
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as tar:
    for i in range(3):
      fields = json.dumps({'question': 'why?', 'answer': ['so'], 'n': i})
      parts = {'png': _encode('PNG'), 'txt': b'a dog', 'json': fields.encode()}
      if i == 2:
        parts = {'png': parts['png'], 'cls': b'a_dog'}
      for ending, data in parts.items():
        member = tarfile.TarInfo(f'some/{i}.{ending}')
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
  return file.getvalue()


def _make_parquet():
  image = {'bytes': _encode('PNG'), 'path': 'a.png'}
  beside = {'bytes': None, 'path': 'a.png'}
  table = {
    'images': [[image], [beside], None],
    'text': ['a', 'b', 'c'],
    'n': [[1], [], None],
    'time': pa.array([1, 2, 3], pa.timestamp('ns')),
  }
  file = io.BytesIO()
  pq.write_table(pa.table(table), file, row_group_size=2)
  return file.getvalue()


ROWS = [
  {'image': 'a.png', 'captions': {'en': ['a', 'b'], 'de': 'c'}, 'n': 1.5},
  {'image': './a.png', 'question': 'why?', 'answer': 3, 'id': 7},
  {'question': 'why?', 'answer': 'B', 'choices': {'A': 'so', 'B': "('a',)"}},
]
TURNS = [
  {'from': 'human', 'value': '<image> why?'},
  {'from': 'gpt', 'value': ''},
]
CSV = b'image,caption\na.png,"a, b"\na.png,"[""a"", ""b""]"\na.png,\n'
PARTS = [
  {'role': 'user', 'content': [{'type': 'image', 'image': 'a.png'}]},
  {'role': 'assistant', 'content': 'so'},
]
FILES = {
  'csv': CSV,
  'csv.gz': gzip.compress(CSV, mtime=0),
  'jsonl': '\n'.join(map(json.dumps, ROWS)).encode(),
  'webdataset': _make_tar(),
  'webdataset.gz': gzip.compress(_make_tar(), mtime=0),
  'webdataset.zst': pa.Codec('zstd').compress(_make_tar(), asbytes=True),
  'parquet': _make_parquet(),
  'coco': json.dumps(
    {
      'images': [{'id': 7, 'file_name': 'a.png'}],
      'annotations': [{'image_id': 7, 'caption': 'a'}] * 2,
    }
  ).encode(),
  'karpathy': json.dumps(
    {
      'images': [
        {'filename': 'a.png', 'split': 'val', 'sentences': [{'raw': 'a'}]}
      ]
    }
  ).encode(),
  'vqa': json.dumps(
    {'questions': [{'image_id': 7, 'question_id': 1, 'question': 'why?'}]}
  ).encode(),
  'gqa': json.dumps(
    {'1': {'imageId': 'a', 'question': 'a', 'answer': 'b', 'types': {}}}
  ).encode(),
  'visual_genome': json.dumps(
    [{'id': 5, 'qas': [{'question': 'a', 'answer': 'b'}]}]
  ).encode(),
  'conversations': json.dumps(
    [
      {'image': 'a.png', 'conversations': TURNS},
      {'messages': PARTS},
      {'images': ['a.png'], 'texts': [{'user': 'why?', 'assistant': 'so'}]},
    ]
  ).encode(),
}
ANSWERS = json.dumps(
  {'annotations': [{'question_id': 1, 'answers': [{'answer': 'so'}]}]}
)


def _change(kind):
  for seed in range(NUMBER):
    rng = np.random.default_rng([seed, len(kind)])
    yield seed, mutations.mutate(rng, FILES[kind])


@pytest.mark.parametrize('kind', FILES)
def test_a_changed_file_gives_records_or_errors(tmp_path, kind):
  format = kind.partition('.')[0]
  (tmp_path / 'a.png').write_bytes(_encode('PNG'))
  path, answers = tmp_path / 'changed', tmp_path / 'answers'
  answers.write_text(ANSWERS)
  paths = [path, answers] if format == 'vqa' else [path]
  read = formats.FORMATS[format].import_reader()
  failed = []
  for seed, data in _change(kind):
    path.write_bytes(data)
    try:
      for raw in read(paths, image_rows.Options(scratch=tmp_path)):
        assert pathlib.PurePath(raw.where).name, raw.where
        try:
          raw_records.to_record(raw)
        except (ValueError, OSError) as error:
          assert str(error)
    except (ValueError, OSError) as error:
      # Of all inputs together, by a reader that can't start.
      assert 'changed' in str(error)
    except Exception as error:
      failed.append(f'{seed}: {error!r:.300}')
  assert not failed, '\n'.join([f'{len(failed)}', *failed[:20]])


@pytest.mark.filterwarnings('ignore')  # Pillow's, of odd headers.
@pytest.mark.parametrize('kind', IMAGES)
def test_a_changed_image_is_decoded_or_refused(kind):
  data = _encode(kind)
  for seed in range(NUMBER):
    rng = np.random.default_rng([seed, len(kind)])
    try:
      image = images.decode(mutations.mutate(rng, data))
    except ValueError as error:
      assert 'not a readable image' in str(error)
    else:
      assert image.ndim == 3 and image.shape[2] == 3
