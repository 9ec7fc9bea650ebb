"""Image folders are read, and ambiguous ones refused."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.data import image_folders, image_rows
from mmjax.errors import ConfigError


def _write_files(root, names):
  """Writes files at these paths, each with a text in it."""
  for name in names.split():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'text {path.stem}')


def _read(*roots, **options):
  return list(image_folders.read(roots, image_rows.Options(**options)))


def _list_captions(raws):
  """Returns caption and split by id; 'broken' for unreadable records."""
  expected = {}
  for raw in raws:
    try:
      caption = raw.read_fields()['caption']
    except ValueError:
      caption = 'broken'
    expected[raw.id] = (caption, raw.split)
  return expected


@pytest.mark.parametrize(
  'files, expected',
  [
    (
      'train/big_cat/1.png test/dog/2.jpg test/x.png docs/read.me',
      {
        'train/big_cat/1.png': ('big cat', 'train'),
        'test/dog/2.jpg': ('dog', 'test'),
        'test/x.png': ('broken', None),
      },
    ),
    # Hidden folders and files.
    (
      'cat/1.png __MACOSX/cat/1.png cat/.ipynb_checkpoints/1.png cat/._1.png',
      {'cat/1.png': ('cat', None)},
    ),
    # Sounds and videos, unless there are images.
    (
      'big_dog/1.wav test/2.FLAC',
      {'big_dog/1.wav': ('big dog', None), 'test/2.FLAC': ('test', None)},
    ),
    ('1.mp4 1.txt', {'1.mp4': (['text 1'], None)}),
    ('cat/1.png dog/2.wav', {'cat/1.png': ('cat', None)}),
    # Which of the folders is the class?
    (
      'pets/cat/1.png cat/2.png',
      {'pets/cat/1.png': ('broken', None), 'cat/2.png': ('cat', None)},
    ),
    # A vehicle.
    (
      'car/1.png train/2.png',
      {'car/1.png': ('car', None), 'train/2.png': ('train', None)},
    ),
    (
      'train2014/cat/1.png val2014/cat/1.png',
      {
        'train2014/cat/1.png': ('cat', 'train'),
        'val2014/cat/1.png': ('cat', 'validation'),
      },
    ),
    # Texts beside the images, and one without.
    (
      '1.png 1.txt train/2.png train/2.caption train/x/3.png train/other.txt',
      {
        '1.png': (['text 1'], None),
        'train/2.png': (['text 2'], 'train'),
        'train/x/3.png': ('broken', None),
      },
    ),
    # Texts in a folder of their own.
    (
      'images/1.png captions/1.txt captions/x.md',
      {'images/1.png': (['text 1'], None)},
    ),
    (
      'train/images/1.png train/texts/1.txt val/images/1.png val/texts/1.txt',
      {
        'train/images/1.png': (['text 1'], 'train'),
        'val/images/1.png': (['text 1'], 'validation'),
      },
    ),
    (
      'images/train/1.png captions/train/1.txt 2.jpg txt/2.txt',
      {'images/train/1.png': (['text 1'], None), '2.jpg': (['text 2'], None)},
    ),
    # A text whose image is missing.
    (
      'cat/1.png dog/2.png dog/2.txt dog/1.txt owl/1.txt owl/1.heic',
      {'cat/1.png': ('broken', None), 'dog/2.png': (['text 2'], None)}
      | {'owl/1.heic': ('broken', None)},
    ),
    ('1.png 1.png.txt', {'1.png': (['text 1.png'], None)}),
  ],
)
def test_captions_and_splits(tmp_path, files, expected):
  _write_files(tmp_path, files)
  assert _list_captions(_read(tmp_path)) == expected


def test_texts_of_several_lines_are_noted(tmp_path):
  _write_files(tmp_path, 'a.png b.png b.txt')
  (tmp_path / 'a.txt').write_text('a dog\nan animal\n')
  notes = []
  first, _ = _read(tmp_path, note=notes.append)
  assert first.read_fields()['caption'] == ['a dog\nan animal']
  assert notes[0].startswith(f'1 texts in {tmp_path} have several lines')


@pytest.mark.parametrize(
  'json, captions',
  [
    ('{"title": "a", "n": 1}', ['a', 'a']),
    ('{"captions": ["a", "b"]}', [['a', 'b'], ['a', 'b']]),
    ('{"shapes": []}', ['cat', 'cat']),
    ('{', ['broken', 'broken']),
  ],
)
def test_objects_beside_images(tmp_path, json, captions):
  _write_files(tmp_path, 'cat/1.png cat/2.png')
  (tmp_path / 'cat/1.json').write_text(json)
  (tmp_path / 'cat/2.png.json').write_text(json)
  notes = []
  raws = _read(tmp_path, note=notes.append)
  read = []
  for raw in raws:
    try:
      fields = raw.read_fields()
    except ValueError:
      read.append('broken')
    else:
      read.append(fields.get('captions', fields.get('caption')))
      assert fields['file'] == raw.id
  assert read == captions
  ignored = f'2 files in {tmp_path} were ignored: 2 .json'
  assert notes[1:] == ([ignored] if 'shapes' in json else [])


def test_ignored_files_and_numbered_classes_are_noted(tmp_path):
  _write_files(tmp_path, '0/1.png 0/3.png')
  notes = []
  _read(tmp_path, note=notes.append)
  assert "have the caption '0', the name of their only folder" in notes[0]
  _write_files(tmp_path, '1/1.jpg 2/notes.md a.md')
  notes.clear()
  assert len(_read(tmp_path, note=notes.append)) == 3
  numbers, ignored = notes
  assert 'are numbers, the names of its class folders: 0, 1; name' in numbers
  assert (
    'ignored: 2 .md; nothing was read from the folder itself, 2, ' in ignored
  )


def test_images_of_other_formats_are_unreadable_records(tmp_path):
  _write_files(tmp_path, '1/1.jpg 1/1.heic 1/2.heic 2/1.HEIC 2/1.svg 2/3.png')
  notes = []
  reasons = {}
  for raw in _read(tmp_path, note=notes.append):
    try:
      raw.read_fields()
    except ConfigError as error:
      reasons[raw.id] = str(error)
  assert list(reasons) == ['1/2.heic', '2/1.HEIC', '2/1.svg']
  assert reasons['2/1.svg'] == (
    'images that end in .svg are not read; save it as JPEG or PNG'
  )
  assert notes[-1].endswith('were ignored: 1 .heic')


@pytest.mark.parametrize(
  'files',
  ['images/1.png images/2.png captions.csv', 'a/1.png a/2.png captions/x.txt'],
)
def test_captions_that_would_not_be_read_are_named(tmp_path, files):
  _write_files(tmp_path, files)
  (raw,) = _read(tmp_path)
  with pytest.raises(
    ConfigError, match=f'captions: {files.split()[2]}; name a'
  ):
    raw.read_fields()


def test_boxes_are_not_captions(tmp_path):
  _write_files(tmp_path, 'a.png')
  (tmp_path / 'a.txt').write_text('0 0.5 0.5 0.25 0.125\n')
  (raw,) = _read(tmp_path)
  with pytest.raises(ValueError, match=r'its text a\.txt has only numbers'):
    raw.read_fields()


@pytest.mark.parametrize(
  'files, message',
  [
    ('train/a/1.png test/a/1.png docs/1.png', r'test, train\), and .*\(docs\)'),
    (
      'train/a/1.png docs/1.png',
      r'import the former, --input=.*/train, or rename the la',
    ),
    (
      'a/notes.txt b.heic',
      'no image, sound or video in .*, only 1 .heic, 1 .txt; images end',
    ),
    ('1.png 2.png Metadata.csv', r'no image has a caption, but .* Metadata\.c'),
    ('a/1.png b/1.png captions/1.txt', r'that of a/1\.png or of b/1\.png; w'),
  ],
)
def test_refused_folders(tmp_path, files, message):
  _write_files(tmp_path, files)
  *_, bad = _read(tmp_path)
  with pytest.raises(ValueError, match=message):
    bad.read_fields()
  assert bad.is_input


def test_one_of_several_folders_can_be_skipped(tmp_path):
  _write_files(tmp_path, 'a/cat/1.png read.me')
  bad, good = _read(tmp_path / 'read.me', tmp_path / 'a')
  with pytest.raises(ValueError, match=r'read\.me is not a folder'):
    bad.read_fields()
  assert good.id == 'cat/1.png'


def test_metadata_of_several_kinds(tmp_path):
  _write_files(tmp_path, 'a/metadata.csv b/metadata.jsonl c/d/1.png')
  with pytest.raises(ValueError, match=r'several kinds: .*a/.*csv, .*jsonl; '):
    _read(tmp_path)
  with pytest.raises(ValueError, match=r'several kinds: .*csv, .*/c, without'):
    _read(tmp_path / 'a', tmp_path / 'c')


def test_metadata_in_folders_of_splits(tmp_path):
  _write_files(tmp_path, 'train/1.png test/2.png test/3.png more/4.png')
  rows = 'file_name,text\n1.png,one\n'
  (tmp_path / 'train/metadata.csv').write_text(rows)
  (tmp_path / 'metadata.csv').write_text(
    'file_name,text\ntest/2.png,two\ntest/5.png,five\nmore/4.png,four\n'
  )
  notes = []
  raws = _read(tmp_path, note=notes.append)
  assert [raw.split for raw in raws] == ['test', 'test', None, 'train']
  assert notes == [
    f'1 images in {tmp_path} are in no row of its metadata files and were '
    'ignored: test/3.png'
  ]
  with pytest.raises(ValueError, match=r'no image file .*5\.png'):
    raws[1].read_image()


def test_metadata_in_parquet(tmp_path):
  _write_files(tmp_path, '1.png')
  table = pa.table({'file_name': ['1.png'], 'text': ['one']})
  pq.write_table(table, tmp_path / 'metadata.parquet')
  (raw,) = _read(tmp_path)
  assert raw.read_fields()['caption'] == 'one' and raw.read_image() == b'text 1'


def test_inputs_named_after_splits(tmp_path):
  _write_files(tmp_path, 'train/cat/1.png test/cat/1.png')
  roots = [tmp_path / 'train', tmp_path / 'test']
  splits = dict(zip(roots, ['train', 'test'], strict=True))
  for metadata in False, True:
    if metadata:
      rows = 'file_name,text\ncat/1.png,x\n'
      for root in roots:
        (root / 'metadata.csv').write_text(rows)
    first, second = _read(*roots, splits=splits)
    assert (first.split, second.split) == ('train', 'test')
    assert first.id != second.id


def test_links_are_followed_but_not_in_circles(tmp_path):
  _write_files(tmp_path, 'set/cat/1.png elsewhere/2.png')
  (tmp_path / 'set/dog').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'set/cat/up').symlink_to('..')
  assert {
    name for name, _ in _list_captions(_read(tmp_path / 'set')).values()
  } == {
    'cat',
    'dog',
  }
  os.mkfifo(tmp_path / 'set/metadata.csv')
  (bad,) = _read(tmp_path / 'set')
  with pytest.raises(ValueError, match='is a pipe, socket or device'):
    bad.read_fields()


def test_a_sound_is_a_field(tmp_path):
  _write_files(tmp_path, 'dog/1.wav')
  (raw,) = _read(tmp_path)
  assert raw.read_fields() == {
    'caption': 'dog',
    'sound': 'dog/1.wav',
    'label': 'dog',
  }
  assert raw.read_image() == b''
  assert raw.read_file('dog/1.wav') == b'text 1'
