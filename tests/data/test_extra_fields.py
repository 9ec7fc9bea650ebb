"""Columns of an import become fields of any kind."""

import csv
import io
import json

import av
import numpy as np
import PIL.Image
import pytest

from mmjax.data import (
  audio,
  extra_fields,
  features,
  image_rows,
  importing,
  showing,
  sources,
)
from mmjax.errors import ConfigError

TONE = 0.5 * np.sin(np.arange(800) / 8)
FIELDS = (
  'said=sound:spoken,seen=video:moving,age=number:years,place=vector:at,'
  'heart=series:pulse,cloud=points:scan,photos=images:pictures,'
  'talk=turns:dialogue,kind=category:class,title=text:heading'
)


def make_png(seed: int) -> bytes:
  color = tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())
  file = io.BytesIO()
  PIL.Image.new('RGB', (13, 7), color).save(file, 'PNG')
  return file.getvalue()


def make_video() -> bytes:
  file = io.BytesIO()
  with av.open(file, 'w', format='mp4') as container:
    stream = container.add_stream('mpeg4', rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 16, 'yuv420p'
    for level in (0, 90, 180, 240):
      image = np.full((16, 32, 3), level, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return file.getvalue()


def write_rows(folder, format: str):
  """Writes files and a table of six rows that name them."""
  (folder / 'files').mkdir(parents=True)
  video = make_video()
  rows = []
  for i in range(6):
    (folder / f'files/{i}.wav').write_bytes(audio.encode_wave(TONE * i, 800))
    (folder / f'files/{i}.mp4').write_bytes(video)
    (folder / f'files/{i}.png').write_bytes(make_png(i))
    np.save(folder / f'files/{i}.npy', np.full((5, 4), i, np.float64))
    rows.append(
      {
        'caption': f'a tone {i}',
        'spoken': f'files/{i}.wav',
        'moving': f'files/{i}.mp4',
        'years': i + 0.5,
        'at': [i, 2, 3],
        'pulse': [[i, 1], [2, 3]],
        'scan': f'files/{i}.npy',
        'pictures': [f'files/{i}.png', f'files/{(i + 1) % 6}.png'],
        'dialogue': [{'role': 'user', 'content': f'tone {i}?'}],
        'class': 'high' if i % 2 else 'low',
        'heading': f'Title {i}',
        'rest': 'kept',
      }
    )
  path = folder / f'rows.{format}'
  if format == 'jsonl':
    path.write_text('\n'.join(map(json.dumps, rows)))
    return path
  with path.open('w', newline='') as file:
    table = csv.DictWriter(file, rows[0])
    table.writeheader()
    for row in rows:
      # A cell holds a list as JSON.
      cells = {
        k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()
      }
      table.writerow(cells)
  return path


def run_import(path, **settings):
  chosen = {'name': 'mine', 'splits': {'train': 1.0}} | settings
  return importing.import_data(
    path.suffix[1:],
    str(path),
    importing.Settings(**chosen),
    data_dir=path.parent / 'data',
    progress=False,
  )


def open_rows(path) -> list:
  source = sources.open_source('mine', 'train', data_dir=path.parent / 'data')
  return sorted(source, key=lambda row: row['fields']['captions'])


@pytest.mark.parametrize('format', ['jsonl', 'csv'])
def test_columns_of_all_kinds(tmp_path, format):
  path = write_rows(tmp_path, format)
  run_import(path, fields=extra_fields.parse(FIELDS))
  rows = open_rows(path)
  assert len(rows) == 6
  fields = rows[3]['fields']
  assert 'image' not in fields
  assert fields['said'] == (tmp_path / 'files/3.wav').read_bytes()
  assert fields['seen'] == [(tmp_path / 'files/3.mp4').read_bytes()]
  assert fields['age'] == 3.5
  np.testing.assert_array_equal(fields['place'], [3, 2, 3])
  np.testing.assert_array_equal(fields['heart'], [[3, 1], [2, 3]])
  np.testing.assert_array_equal(fields['cloud'], np.full((5, 4), 3))
  assert fields['photos'] == [make_png(3), make_png(4)]
  assert fields['talk'] == [{'role': 'user', 'content': ['tone 3?']}]
  assert fields['kind'] == ['high'] and fields['title'] == ['Title 3']
  assert rows[3]['metadata'] == {'rest': 'kept'}
  shown = showing.show(
    'mine', data_dir=tmp_path / 'data', output=tmp_path / 'sheet.png', rows=4
  )
  assert 'fields: captions (text), said (sound), seen (video), age (' in shown
  assert '6 with said; 6 with seen; 6 with age; 6 with place' in shown
  assert 'metadata: rest' in shown
  assert 'age: ' in shown
  assert PIL.Image.open(tmp_path / 'sheet.png').width > 500


def test_sounds_and_videos_are_found_by_their_columns(tmp_path):
  path = write_rows(tmp_path, 'jsonl')
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  renamed = [
    {'caption': r['caption'], 'audio': r['spoken'], 'video': r['moving']}
    for r in rows
  ]
  path.write_text('\n'.join(map(json.dumps, renamed)))
  run_import(path)
  fields = open_rows(path)[2]['fields']
  assert set(fields) == {'captions', 'sound', 'video'}
  assert fields['sound'] == (tmp_path / 'files/2.wav').read_bytes()


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'RIFF????WAVE', r'spoken: not a readable sound \(12 bytes'),
    (b'', r'there is no file .*3\.wav|file .*3\.wav is empty'),
    (None, r'there is no file .*3\.wav'),
  ],
)
def test_unreadable_files_are_refused_or_skipped(tmp_path, data, reason):
  path = write_rows(tmp_path, 'jsonl')
  broken = tmp_path / 'files/3.wav'
  broken.unlink()
  if data is not None:
    broken.write_bytes(data)
  fields = extra_fields.parse('said=sound:spoken')
  with pytest.raises(ConfigError, match=rf'rows\.jsonl, line 4: .*{reason}'):
    run_import(path, fields=fields)
  folder = run_import(path, fields=fields, on_error='skip')
  assert len(open_rows(path)) == 5
  (line,) = (folder / 'skipped.jsonl').read_text().splitlines()
  assert json.loads(line)['where'] == 'rows.jsonl, line 4'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('said', 'should read NAME=KIND:COLUMN'),
    ('said=sound', 'should read NAME=KIND:COLUMN'),
    ('said=noise:x', "the kind of said.*'noise'"),
    ('look=hog:photo', "the kind of look.*'hog'"),
    ('image=sound:x', 'are mapped by --columns'),
    ('q=questions:x', 'are mapped by --columns'),
    ('a=sound:x,a=video:y', 'names a field twice'),
    ('mask=number:x', "cannot have the name 'mask'"),
    ('a-b=number:x', "cannot have the name 'a-b'"),
  ],
)
def test_wrong_flags_are_refused(text, message):
  with pytest.raises(ConfigError, match=message):
    extra_fields.parse(text)


@pytest.mark.parametrize(
  ('kind', 'value', 'message'),
  [
    ('number', 'old', "'old' is not a number"),
    ('number', 'inf', 'finite number'),
    ('number', '1_000', 'marks between thousands'),
    ('number', True, 'not the boolean true; write 1 or 0'),
    ('number', 'N/A', r"the number is missing \('N/A'\)"),
    ('vector', 'null', 'the vector is missing'),
    ('category', ['None'], 'class is missing'),
    ('number', 10**400, 'is not a number'),
    ('vector', '[1, 2', 'is not JSON'),
    ('vector', '[1, "a"]', 'is not an array of numbers'),
    ('vector', [1e300], 'NaN or infinite'),
    ('vector', 'a.npy', r'not a readable \.npy file'),
    ('series', [[1], [2, 3]], 'is not an array of numbers'),
    ('series', [1, 2], 'should have 2 axes'),
    ('points', [[1, 2]], 'x, y and z, not 2'),
    ('image', 3, 'path of a file, not 3'),
    ('images', [3], 'path of a file, not 3'),
    ('images', 'a.npy', 'not a readable image'),
    ('sound', {'bytes': None}, 'path of a file, not None'),
    ('video', b'hello world', 'not a readable video'),
    ('turns', '[{"role": "user"}]', 'a turn has no text'),
    ('turns', 3, 'a turn should be an object'),
    (
      'turns',
      [{'role': 'tool', 'content': 'x'}],
      "the role 'tool' in turn 1; use one",
    ),
    ('category', True, 'not the boolean true'),
    ('text', {'en': [True]}, 'not the boolean true'),
  ],
)
def test_wrong_cells_name_their_column(kind, value, message):
  field = extra_fields.ExtraField('x', kind, 'col')
  with pytest.raises(ConfigError, match=f'^col: .*{message}'):
    extra_fields.read(field, {'col': value}, lambda path: b'damaged')


@pytest.mark.parametrize('kind', sorted(set(features.KINDS) - {'questions'}))
def test_empty_cells_are_absent(kind):
  field = extra_fields.ExtraField('x', kind, 'col')
  assert extra_fields.read(field, {}, None) is None
  for value in (None, ' ', [], '[ ]', {}):
    assert extra_fields.read(field, {'col': value}, None) is None


def test_turns_of_other_formats_are_one_field():
  """With a reference to each image, in its place."""
  parts = [{'type': 'image'}, {'type': 'text', 'text': 'what?', 'image': None}]
  parts += [{'type': 'image_url', 'image_url': {'url': 'a.png'}}]
  (field,) = extra_fields.parse('x=turns:col')
  (_, photos) = extra_fields.parse('p=images:i,x=turns:col')
  see = {'field': 'image'}
  values = (
    (
      '[{"from": "human", "value": "<image>\\nwhat?<image>"},'
      ' {"from": "gpt", "value": "a dog"}]',
      [see, 'what?', see],
    ),
    (
      [
        {'role': 'user', 'content': parts},
        {'role': 'model', 'content': 'a dog'},
      ],
      [see, 'what?', see],
    ),
    (
      [{'user': 'what <image> is?', 'assistant': 'a dog'}],
      ['what ', see, ' is?'],
    ),
    ([{'user': 'what?', 'assistant': 'a dog'}], ['what?']),
  )
  for value, content in values:
    assert extra_fields.read(field, {'col': value}, None) == [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': ['a dog']},
    ]
  (turn, _) = extra_fields.read(photos, {'col': values[0][0]}, None)
  assert turn['content'] == [{'field': 'p'}, 'what?', {'field': 'p'}]


def test_a_column_may_fill_two_fields(tmp_path):
  (tmp_path / 'a.png').write_bytes(make_png(1))
  path = tmp_path / 'rows.jsonl'
  turns = [{'user': 'what?', 'assistant': 'a dog'}]
  row = {'filename': 'a.png', 'title': 'a dog', 'caption': 'x', 'texts': turns}
  path.write_text(json.dumps(row))
  fields = (
    'seen=image:filename,name=text:title,old=text:caption,chat=turns:texts'
  )
  run_import(
    path,
    fields=extra_fields.parse(fields),
    options=image_rows.Options(columns=(('caption', 'title'),)),
  )
  (record,) = open_rows(path)
  fields = record['fields']
  assert fields['image'] == fields['seen']
  assert fields['captions'] == fields['name'] == ['a dog']
  assert fields['old'] == ['x'] and len(fields['chat']) == 2


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('https://example.org/a.wav', 'is a URL; download the files first'),
    ('../out.wav', 'is outside .*; name the folder'),
    ('a\0.wav', 'null character'),
    ('files', 'there is no file'),
  ],
)
def test_paths_that_are_not_files_are_refused(tmp_path, path, message):
  table = write_rows(tmp_path / 'in', 'jsonl')
  (tmp_path / 'out.wav').write_bytes(audio.encode_wave(TONE, 800))
  table.write_text(json.dumps({'caption': 'x', 'audio': path}))
  with pytest.raises(ConfigError, match=f'line 1: .*{message}'):
    run_import(table, fields=extra_fields.parse('a=sound:audio'))


def test_records_of_one_sound_share_a_split(tmp_path):
  for i in range(4):
    (tmp_path / f'{i}.wav').write_bytes(audio.encode_wave(TONE * i / 3, 800))
  rows = [{'audio': f'{i % 4}.wav', 'caption': f't {i}'} for i in range(60)]
  path = tmp_path / 'rows.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  run_import(path, splits={'train': 0.5, 'test': 0.5})
  sounds = {
    split: {
      row['fields']['sound']
      for row in sources.open_source('mine', split, data_dir=tmp_path / 'data')
    }
    for split in ('train', 'test')
  }
  assert sounds['train'].isdisjoint(sounds['test'])
  assert len(sounds['train'] | sounds['test']) == 4
