"""Tars are read, up to damage."""

import bz2
import gzip
import io
import json
import lzma
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from mmjax.data import audio, image_rows, importing, sources, webdataset
from mmjax.errors import ConfigError

OPTIONS = image_rows.Options()


def _write_tar(path, files):
  with tarfile.open(path, 'w') as tar:
    for name, data in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return path


def test_samples_are_files_of_one_key(tmp_path):
  path = _write_tar(
    tmp_path / 'zoo.tar',
    {
      'a.png': b'first',
      'a.txt': b'a dog',
      'a.json': json.dumps({'caption': 'a pet', 'n': 5}).encode(),
      '._a.png': b'junk of some file managers',
      'sub/b.one.JPG': b'not an image by its whole ending',
      'sub/c.JPG': b'third',
      'sub/c.txt': 'größer'.encode(),
    },
  )
  first, second, third = webdataset.read([path], OPTIONS)
  assert (first.id, first.where) == ('zoo/a', 'zoo.tar: a')
  assert first.group == 'a'
  assert first.read_fields() == {
    'caption': ['a dog', 'a pet'],
    'n': 5,
    'source': 'zoo',
    'key': 'a',
  }
  assert first.read_image() == b'first'
  with pytest.raises(ValueError, match=r'no image among its files \.one\.jpg'):
    second.read_image()
  assert third.id == 'zoo/sub/c'
  assert third.read_fields()['caption'] == ['größer']
  assert third.read_image() == b'third'


def test_bad_json_is_reported_when_read(tmp_path):
  path = _write_tar(tmp_path / 'zoo.tar', {'a.json': b'{', 'b.json': b'[1]'})
  first, second = webdataset.read([path], OPTIONS)
  with pytest.raises(ValueError, match=r'its \.json is not valid JSON'):
    first.read_fields()
  with pytest.raises(ValueError, match='should hold an object'):
    second.read_fields()


def test_a_damaged_tar_costs_what_follows_the_damage(tmp_path):
  path = _write_tar(
    tmp_path / 'zoo.tar', {f'{i}.txt': b'x' * 999 for i in range(9)}
  )
  cut = tmp_path / 'cut.tar'
  # A sample takes 1536 bytes. The cuts are in a file, in a header, between
  # samples and at the start. The last sample before damage may lack a file.
  for size, whole in (5500, 3), (5000, 2), (4608, 2), (0, 0):
    cut.write_bytes(path.read_bytes()[:size])
    *good, bad = webdataset.read([cut], OPTIONS)
    assert [raw.id for raw in good] == [f'cut/{i}' for i in range(whole)]
    assert bad.where == 'cut.tar' and bad.is_input
    with pytest.raises(ValueError, match=rf"can't be read beyond .*; {whole} "):
      bad.read_fields()
  cut.write_bytes(b'not a tar, but a longer text' * 99)
  (bad,) = webdataset.read([cut], OPTIONS)
  with pytest.raises(
    ValueError, match=r"cut\.tar can't be read beyond its beg"
  ):
    bad.read_image()


_PACKERS = {
  'gz': gzip.compress,
  'bz2': bz2.compress,
  'xz': lzma.compress,
  'zst': lambda data: pa.Codec('zstd').compress(data, asbytes=True),
}


@pytest.mark.parametrize('ending', _PACKERS)
def test_compressed_tars(tmp_path, ending):
  rng = np.random.default_rng(0)
  texts = {f'{i}.txt': rng.bytes(700).hex().encode() for i in range(400)}
  plain = _write_tar(tmp_path / 'x', texts)
  path = tmp_path / f'zoo.tar.{ending}'
  options = image_rows.Options(scratch=tmp_path)
  packed = _PACKERS[ending](plain.read_bytes())
  path.write_bytes(packed)
  samples = list(webdataset.read([path], options))
  assert [raw.id for raw in samples] == [f'zoo/{i}' for i in range(400)]
  assert samples[3].read_fields()['caption'] == [texts['3.txt'].decode()]
  # A cut tar is read as far as it decompresses; blocks of bz2 have 900 kB.
  path.write_bytes(packed[:-2000])
  *good, bad = webdataset.read([path], options)
  least = {'gz': 396, 'bz2': 0, 'xz': 390, 'zst': 300}[ending]
  assert least <= len(good) < 400 and bad.where == path.name
  for raw, text in zip(good, texts.values(), strict=False):
    assert raw.read_fields()['caption'] == [text.decode()]
  # Damage in the middle.
  path.write_bytes(packed[:9000] + bytes(2000) + packed[11000:])
  *_, bad = webdataset.read([path], options)
  assert bad.where == path.name


def test_tars_of_one_name_are_distinguished_by_their_folders(tmp_path):
  paths = []
  for folder in 'ab':
    (tmp_path / folder).mkdir()
    paths.append(_write_tar(tmp_path / folder / 'zoo.tar', {'1.txt': b'x'}))
  ids = [raw.id for raw in webdataset.read(paths, OPTIONS)]
  assert ids == ['a/zoo/1', 'b/zoo/1']
  packed = tmp_path / 'a/zoo.tar.gz'
  packed.write_bytes(gzip.compress(paths[0].read_bytes()))
  both = [paths[0], packed]
  ids = [raw.id for raw in webdataset.read(both, OPTIONS)]
  assert ids == ['zoo.tar/1', 'zoo.tar.gz/1']


def test_members_in_any_order_and_twice(tmp_path):
  files = {'1.txt': b'one', '2.txt': b'two', '2.png': b'II', '1.png': b'I'}
  path = _write_tar(
    tmp_path / 'zoo.tar', files | {'v1.5.png': b'x', '1.jpg': b'x'}
  )
  one, two, dotted = webdataset.read([path], OPTIONS)
  assert two.read_image() == b'II'
  with pytest.raises(ValueError, match='more than one image'):
    one.read_image()
  for read in dotted.read_fields, dotted.read_image:
    with pytest.raises(ValueError, match='a key ends at the first dot'):
      read()
  with tarfile.open(path, 'a') as tar:
    tar.addfile(tarfile.TarInfo('2.txt'))
  with pytest.raises(ValueError, match=r'its \.txt occurs twice'):
    list(webdataset.read([path], OPTIONS))[1].read_fields()


def test_links_are_the_files_that_they_lead_to(tmp_path):
  path = _write_tar(
    tmp_path / 'zoo.tar', {'d/1.png': b'I', '1.txt': b'a', '3.txt': b'c'}
  )
  with tarfile.open(path, 'a') as tar:
    for name, kind, target in (
      ('2.png', tarfile.LNKTYPE, 'd/1.png'),
      ('e/2.txt', tarfile.SYMTYPE, '../1.txt'),
      ('e/2.png', tarfile.SYMTYPE, '../2.png'),
      ('3.png', tarfile.SYMTYPE, '/photos/3.png'),
      ('d.old', tarfile.SYMTYPE, 'd'),
    ):
      member = tarfile.TarInfo(name)
      member.type, member.linkname = kind, target
      tar.addfile(member)
  raws = {raw.group: raw for raw in webdataset.read([path], OPTIONS)}
  assert raws.keys() == {'d/1', '1', '2', 'e/2', '3'}
  assert raws['e/2'].read_image() == raws['2'].read_image() == b'I'
  assert raws['e/2'].read_fields()['caption'] == ['a']
  with pytest.raises(ValueError, match=r'its \.png is a link to a file that'):
    raws['3'].read_fields()


def test_sparse_files_are_refused(tmp_path):
  path = _write_tar(tmp_path / 'zoo.tar', {'1.txt': b'a'})
  with tarfile.open(path, 'a', format=tarfile.PAX_FORMAT) as tar:
    member = tarfile.TarInfo('1.png')
    member.pax_headers = {'GNU.sparse.size': '9', 'GNU.sparse.map': '0,0'}
    tar.addfile(member)
  (raw,) = webdataset.read([path], OPTIONS)
  with pytest.raises(ValueError, match=r'its \.png is a sparse file'):
    raw.read_fields()


def test_files_that_are_no_samples_are_left_out(tmp_path):
  files = {'1.png': b'I', '1.txt': b'a', 'README.md': b'', 'v.npy': b''}
  junk = ('__MACOSX/2.png', '.cache/3.png', 'Thumbs.db', '@eaDir/4.png')
  path = _write_tar(tmp_path / 'zoo.tar', files | dict.fromkeys(junk, b''))
  notes = []
  (raw,) = webdataset.read([path], image_rows.Options(note=notes.append))
  assert raw.group == '1'
  assert notes == [f'2 files in {path} were ignored: 1 .md, 1 .npy']
  # Without any sample, an error names the reason.
  (raw,) = webdataset.read([_write_tar(path, {'a.tar': b''})], OPTIONS)
  with pytest.raises(ValueError, match=r'among its files \.tar'):
    raw.read_fields()


def test_texts_in_other_encodings_are_refused_or_read(tmp_path):
  path = _write_tar(tmp_path / 'zoo.tar', {'1.txt': 'groß'.encode('cp1252')})
  (raw,) = webdataset.read([path], OPTIONS)
  with pytest.raises(ValueError, match='--encoding=cp1252'):
    raw.read_fields()
  (raw,) = webdataset.read([path], image_rows.Options(encoding='cp1252'))
  assert raw.read_fields()['caption'] == ['groß']


def test_samples_that_dots_hide_are_noted(tmp_path):
  names = ['v1.png', 'v1.txt', 'v1.5.png', 'v1.5.txt', 'v1.5.cls']
  path = _write_tar(tmp_path / 'zoo.tar', dict.fromkeys(names, b'x'))
  notes = []
  (raw,) = webdataset.read([path], image_rows.Options(note=notes.append))
  assert raw.read_image() == b'x'
  (note,) = notes
  assert note.startswith('2 files in tars were ignored')
  assert note.endswith('v1.5.png, v1.5.txt')


def test_texts_of_several_lines_are_one_caption_and_noted(tmp_path):
  path = _write_tar(tmp_path / 'zoo.tar', {'1.txt': b'a\nb\n', '2.txt': b'c\n'})
  notes = []
  for raw in webdataset.read([path], image_rows.Options(note=notes.append)):
    raw.read_fields(), raw.read_fields()
  assert notes[0].startswith('1 texts in tars have several lines')


@pytest.mark.parametrize(
  'files, expected',
  [
    ({'1.cls': b'big_cat\n'}, 'big cat'),
    ({'1.cls': b'3', '1.json': b'{"caption": "a"}'}, 'a'),
    ({'1.cls': b'3'}, ValueError(r'\.cls is the number 3 of a class')),
    ({'cat/1.png': b''}, 'cat'),
    ({'big_cat/1.png': b'', 'big_cat/1.json': b'{"n": 5}'}, 'big cat'),
    ({'x/cat/1.png': b''}, ValueError("could be 'x' or 'cat', .*unpack the")),
    ({'cat/1.png': b'', 'train/dog/1.png': b''}, ValueError('import the form')),
  ],
)
def test_classes(tmp_path, files, expected):
  (raw,) = webdataset.read([_write_tar(tmp_path / 'x.tar', files)], OPTIONS)
  if isinstance(expected, str):
    fields = raw.read_fields()
    assert fields['caption'] == expected
    return
  with pytest.raises(ValueError, match=str(expected)):
    raw.read_fields()


def test_images_of_class_folders_are_not_left_out(tmp_path):
  files = {'cat/1.png': b'x', 'cat/2.heic': b'x', 'dog/v1.5.png': b'x'}
  path = _write_tar(tmp_path / 'x.tar', files)
  first, *others = webdataset.read([path], OPTIONS)
  assert first.read_image() == b'x'
  assert [raw.id for raw in others] == ['x/cat/2', 'x/dog/v1']
  for raw in others:
    with pytest.raises(ConfigError, match='there is no image among its files'):
      raw.read_image()


def test_class_folders_of_splits(tmp_path):
  files = {f'{s}/{c}/1.png': b'' for s in ('train', 'val') for c in ('a', 'b')}
  path = _write_tar(
    tmp_path / 'x.tar', {**files, 'README.md': b'', '1.png': b''}
  )
  notes = []
  raws = list(webdataset.read([path], image_rows.Options(note=notes.append)))
  assert [(raw.split, raw.read_fields()['caption']) for raw in raws[:-1]] == [
    ('train', 'a'),
    ('train', 'b'),
    ('validation', 'a'),
    ('validation', 'b'),
  ]
  with pytest.raises(
    ConfigError, match='not in a folder named after its class'
  ):
    raws[-1].read_fields()
  assert notes == [f'1 files in {path} were ignored: 1 .md']


def test_sounds_and_videos_are_fields(tmp_path):
  wave = audio.encode_wave(np.ones(9), 8000)
  files = {
    'a.txt': b'a caption alone',
    'b.wav': wave,
    'b.txt': b'a beep',
    'c.WAV': wave,
    'c.json': b'{"n": 5}',
    'd.wav': b'damaged',
    'd.txt': b'x',
    'e.wav': wave,
    'e.mp3': wave,
    'v1.5.wav': wave,
  }
  path = _write_tar(tmp_path / 'zoo.tar', files)
  _, b, c, _, e, _ = webdataset.read([path], OPTIONS)
  assert b.read_fields()['sound'] == '.wav' and b.read_image() == b''
  assert b.read_file('.wav') == c.read_file('.wav') == wave
  with pytest.raises(ConfigError, match=r'no file \.mp3 among its files \.wav'):
    b.read_file('mp3')
  with pytest.raises(ConfigError, match='more than one sound'):
    e.read_fields()
  folder = importing.import_data(
    'webdataset',
    str(path),
    importing.Settings('zoo', splits={'some': 1.0}, on_error='skip'),
    data_dir=tmp_path / 'data',
    progress=False,
  )
  source = sources.open_source('zoo', 'some', data_dir=tmp_path / 'data')
  rows = {row['id']: row['fields'] for row in source}
  assert rows == {
    'zoo/b': {'captions': ['a beep'], 'sound': wave},
    'zoo/c': {'sound': wave},
  }
  skipped = (folder / 'skipped.jsonl').read_text()
  assert r'no image' in skipped and 'sound: not a readable sound' in skipped
