"""Conversations are imported with images and sounds in their places."""

import base64
import io
import json
import shutil

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.data import audio, extra_fields, importing, sources
from mmjax.errors import ConfigError
from tests.data import video_encoding


def make_png(seed: int) -> bytes:
  file = io.BytesIO()
  PIL.Image.new('RGB', (13, 7), (seed, 9, 200)).save(file, 'PNG')
  return file.getvalue()


def run_import(path, fields):
  importing.import_data(
    path.suffix[1:],
    str(path),
    importing.Settings(
      name='mine', splits={'train': 1.0}, fields=extra_fields.parse(fields)
    ),
    data_dir=path.parent / 'data',
    progress=False,
  )


@pytest.mark.parametrize('form', ['json', 'parquet', 'messages', 'single'])
def test_images_of_conversations_are_imported_in_their_places(form, tmp_path):
  """Paths in a column, bytes, those in messages, and a single image."""
  for number in range(3):
    (tmp_path / f'{number}.png').write_bytes(make_png(number))
  texts = ['<image>\nor <image>?', 'no image', '<image>']
  images = [['0.png', '1.png'], [], ['2.png']]
  answer = {'from': 'gpt', 'value': 'so'}
  rows = [
    {
      'id': str(i),
      'images': of,
      'messages': [{'from': 'human', 'value': text}, answer],
    }
    for i, (of, text) in enumerate(zip(images, texts, strict=True))
  ]
  fields, path = 'seen=images:images,t=turns:messages', 'r.jsonl'
  if form == 'single':
    rows = [{**row, 'images': row['images'][0]} for row in rows[2:]]
    fields = 't=turns:messages'
  if form == 'messages':
    fields = 'seen=images:messages,t=turns:messages'
    encoded = base64.b64encode(make_png(1)).decode()
    urls = ['0.png', f'data:image/png;base64,{encoded}', '2.png']
    parts = [{'type': 'image_url', 'image_url': {'url': url}} for url in urls]
    contents = [[parts[0], 'or ', parts[1], '?'], 'no image', [parts[2]]]
    answer = {'role': 'assistant', 'content': 'so'}
    rows = [
      {'id': str(i), 'messages': [{'role': 'user', 'content': content}, answer]}
      for i, content in enumerate(contents)
    ]
  if form == 'parquet':
    path = 'r.parquet'
    for row in rows:
      row['images'] = [
        {'bytes': (tmp_path / name).read_bytes(), 'path': None}
        for name in row['images']
      ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / path)
  else:
    lines = '\n'.join(map(json.dumps, rows))
    (tmp_path / path).write_text(lines)
  run_import(tmp_path / path, fields)
  found = sources.open_source('mine', 'train', data_dir=tmp_path / 'data')
  found = {record['id']: record['fields'] for record in found}
  if form == 'single':
    assert found['2']['image'] == make_png(2)
    assert found['2']['t'][0]['content'] == [{'field': 'image'}]
    return
  see = {'field': 'seen'}
  assert found['0']['seen'] == [make_png(0), make_png(1)]
  assert found['0']['t'][0]['content'] == [see, 'or ', see, '?']
  assert 'seen' not in found['1'] and found['2']['seen'] == [make_png(2)]
  assert all('image' not in fields for fields in found.values())


@pytest.mark.parametrize(
  ('images', 'text', 'words'),
  [
    (['a.png'], '<image> <image>', 'turn 1 of its messages refers to image 2'),
    (['a.png', 'a.png'], '<image>', 'refer to 1 images, but the record has 2'),
    ([], '<image>', "image 1, but the record has 0 in 'seen'"),
  ],
)
def test_turns_that_refer_to_other_images_are_refused(
  images, text, words, tmp_path
):
  (tmp_path / 'a.png').write_bytes(make_png(1))
  turns = [{'from': 'human', 'value': text}, {'from': 'gpt', 'value': 'so'}]
  path = tmp_path / 'r.jsonl'
  path.write_text(json.dumps({'images': images, 'messages': turns}))
  with pytest.raises(ConfigError, match=words):
    run_import(path, 'seen=images:images,t=turns:messages')


def test_sounds_of_conversations_are_imported_in_their_places(tmp_path):
  """Placeholders beside those of images, parts of messages, one sound."""
  (tmp_path / 'a.png').write_bytes(make_png(0))
  waves = [audio.encode_wave(np.full(9, x), 8000) for x in (0.1, 0.2)]
  for number, wave in enumerate(waves):
    (tmp_path / f'{number}.wav').write_bytes(wave)
  encoded = base64.b64encode(waves[1]).decode()
  parts = [
    {'type': 'audio', 'audio': '0.wav'},
    {'type': 'text', 'text': 'or'},
    {'type': 'input_audio', 'input_audio': {'data': encoded, 'format': 'wav'}},
  ]
  path = tmp_path / 'r.jsonl'
  silent = json.dumps({'messages': [{'role': 'user', 'content': 'so'}]})
  write = lambda row: path.write_text(f'{json.dumps(row)}\n{silent}\n')
  hear, see = {'field': 'heard'}, {'field': 'seen'}
  for text, column, kind, value, content in (
    (
      '<audio>\n<image> <video>or<audio>?',
      'wavs',
      'sounds',
      ['0.wav', '1.wav'],
      [hear, see, ' or', hear, '?'],
    ),
    (parts, 'messages', 'sounds', None, [hear, 'or', hear]),
    ('so <audio>', 'wavs', 'sound', '1.wav', ['so ', hear]),
  ):
    row = {'messages': [{'role': 'user', 'content': text}], 'wavs': value}
    fields = f'heard={kind}:{column},t=turns:messages'
    if '<image>' in text:
      row['images'], fields = ['a.png'], f'seen=images:images,{fields}'
    write(row)
    run_import(path, fields)
    found = sources.open_source('mine', 'train', data_dir=tmp_path / 'data')
    (found,) = (record for record in found if 'heard' in record['fields'])
    want = waves[1] if kind == 'sound' else waves
    assert found['fields']['heard'] == want
    assert found['fields']['t'][0]['content'] == content
    shutil.rmtree(tmp_path / 'data')
  row = {'messages': [{'role': 'user', 'content': '<audio> <audio>'}]}
  write({**row, 'wavs': '0.wav'})
  with pytest.raises(ConfigError, match=r'turn 1 of its .* refers to sound 2'):
    run_import(path, fields)
  write({'messages': [{'role': 'user', 'content': parts}]})
  with pytest.raises(ConfigError, match='type audio, but no field has the sou'):
    run_import(path, 't=turns:messages')


def test_videos_of_conversations_are_imported_in_their_places(tmp_path):
  """Placeholders, parts of messages as OpenAI's and others, one of frames."""
  rng = np.random.default_rng(0)
  clips = [
    video_encoding.encode(rng.integers(0, 256, (3, 8, 8, 3), np.uint8), 5)
    for _ in range(2)
  ]
  for number, clip in enumerate(clips):
    (tmp_path / f'{number}.mp4').write_bytes(clip)
    (tmp_path / f'{number}.png').write_bytes(make_png(number))
  url = f'data:video/mp4;base64,{base64.b64encode(clips[1]).decode()}'
  parts = [
    {'type': 'video', 'video': '0.mp4'},
    {'type': 'text', 'text': 'or'},
    {'type': 'video_url', 'video_url': {'url': url}},
  ]
  path, watch = tmp_path / 'r.jsonl', {'field': 'seen'}
  blind = json.dumps({'messages': [{'role': 'user', 'content': 'so'}]})
  write = lambda row: path.write_text(f'{json.dumps(row)}\n{blind}\n')
  frames = ['0.png', '1.png']
  for text, column, kind, value, content in (
    ('<video>\nor<video>?', 'files', 'videos', ['0.mp4', '1.mp4'], None),
    (parts, 'messages', 'videos', None, [watch, 'or', watch]),
    ('so <video>', 'files', 'video', frames, ['so ', watch]),
  ):
    row = {'messages': [{'role': 'user', 'content': text}], 'files': value}
    write(row)
    run_import(path, f'seen={kind}:{column},t=turns:messages')
    found = sources.open_source('mine', 'train', data_dir=tmp_path / 'data')
    (found,) = (record for record in found if 'seen' in record['fields'])
    want = [make_png(0), make_png(1)] if kind == 'video' else clips
    assert found['fields']['seen'] == want
    content = content or [watch, 'or', watch, '?']
    assert found['fields']['t'][0]['content'] == content
    shutil.rmtree(tmp_path / 'data')
  row['messages'][0]['content'] = '<video> <video>'
  write(row)
  with pytest.raises(ConfigError, match=r'turn 1 of its .* refers to video 2'):
    run_import(path, 'seen=video:files,t=turns:messages')
  row['messages'][0]['content'] = parts
  write(row)
  with pytest.raises(ConfigError, match='type video, but no field has the vid'):
    run_import(path, 't=turns:messages')
  (tmp_path / '0.mp4').write_bytes(clips[0][:99])
  with pytest.raises(ConfigError, match='not a readable video'):
    run_import(path, 'seen=videos:messages,t=turns:messages')
