"""Measures the speed of `mmjax data import` on a CSV file.

Writes JPEGs of 224 x 224 pixels with random content and a table that names
them, imports the table and prints examples per second of wall time and per
second of CPU time, that is per core.

  python benchmarks/import_csv.py --rows=100000
"""

import csv
import io
import pathlib
import struct
import tempfile
import time

import numpy as np
from absl import app, flags
from PIL import Image

from mmjax.data import importing

_ROWS = flags.DEFINE_integer(
  'rows', 100_000, 'number of rows and images', lower_bound=1
)
_FOLDER = flags.DEFINE_string('folder', '', 'folder to keep the images in')
_SIZE = 224
_DISTINCT = 200  # Encoded images; a comment makes each copy's bytes unique.


def main(argv):
  """Prints the rates."""
  del argv
  with tempfile.TemporaryDirectory(dir=_FOLDER.value or None) as scratch:
    folder = pathlib.Path(_FOLDER.value or scratch)
    table = folder / f'{_ROWS.value}.csv'
    if not table.exists():
      _write(table)
    settings = importing.Settings(name='timed')
    wall, cpu = time.monotonic(), time.process_time()
    importing.import_data('csv', str(table), settings, data_dir=scratch)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
  print(f'wall time {wall:6.1f} s {_ROWS.value / wall:8,.0f} examples/s')
  print(f'CPU time  {cpu:6.1f} s {_ROWS.value / cpu:8,.0f} examples/s per core')


def _write(table: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  images = [_jpeg(rng) for _ in range(_DISTINCT)]
  rows = []
  for i in range(_ROWS.value):
    data, comment = images[i % _DISTINCT], b'%d' % i
    segment = b'\xff\xfe' + struct.pack('>H', len(comment) + 2) + comment
    path = table.parent / f'{i // 1000:03d}' / f'{i:06d}.jpg'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data[:2] + segment + data[2:])
    name = path.relative_to(table.parent).as_posix()
    rows.append([name, f'a photo, number {i} of {_ROWS.value}'])
  with table.open('w', newline='', encoding='utf-8') as file:
    csv.writer(file).writerows([['image', 'caption'], *rows])


def _jpeg(rng: np.random.Generator) -> bytes:
  coarse = rng.integers(0, 256, (_SIZE // 16, _SIZE // 16, 3), np.uint8)
  image = Image.fromarray(coarse).resize((_SIZE, _SIZE), Image.BICUBIC)
  noise = rng.normal(0, 8, (_SIZE, _SIZE, 3))
  array = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(array).save(file, 'JPEG', quality=85)
  return file.getvalue()


if __name__ == '__main__':
  app.run(main)
