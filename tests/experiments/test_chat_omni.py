"""Runs that learn conversations with images, videos and sounds."""

import io
import json
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

import mmjax
from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.data import audio, extra_fields, importing
from mmjax.runs import rebuild
from mmjax.training import runner
from tests.data import video_encoding

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden/qwen2_5_omni'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """An imported data set of conversations, and their files."""
  folder = tmp_path_factory.mktemp('omni')
  rng = np.random.default_rng(0)
  for number, size in enumerate(((16, 24), (24, 10))):
    frames = rng.integers(0, 256, (5 + number, *size, 3), np.uint8)
    (folder / f'{number}.mp4').write_bytes(video_encoding.encode(frames, 3))
    PIL.Image.fromarray(frames[0]).save(folder / f'{number}.png')
    samples = rng.uniform(-1, 1, 6_001 + 4_000 * number)
    (folder / f'{number}.wav').write_bytes(audio.encode_wave(samples, 16_000))
  see, watch, hear = (
    [{'type': kind, kind: f'{i}.{end}'} for i in range(2)]
    for kind, end in (('image', 'png'), ('video', 'mp4'), ('audio', 'wav'))
  )
  said = lambda text: {'type': 'text', 'text': text}
  contents = [
    [hear[0], said('a b'), see[1], watch[0]],
    'e f',
    [said('g'), watch[1], hear[1], hear[0]],
    [see[0], said('a'), see[1]],
  ]
  rows = [
    [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': f'{"cdhi"[i]} d'},
    ]
    for i, content in enumerate(contents)
  ]
  path = folder / 'rows.jsonl'
  path.write_text('\n'.join(json.dumps({'messages': row}) for row in rows))
  fields = 'photos=images:messages,clips=videos:messages,'
  fields += 'heard=sounds:messages,turns=turns:messages'
  importing.import_data(
    'jsonl',
    str(path),
    importing.Settings(
      name='all', splits={'train': 1.0}, fields=extra_fields.parse(fields)
    ),
    data_dir=folder / 'data',
    progress=False,
  )
  return folder


@pytest.fixture
def config(make_config, folder):
  """Of a run from Qwen2.5-Omni, on these conversations."""
  config = make_config(GOLDEN, 'chat_shapes.py')
  config.model = {'name': 'interleaved_audio'}
  config.data.update(
    name='all', data_dir=str(folder / 'data'), eval_split='', test_split=''
  )
  config.data.features = {
    'turns': {
      'kind': 'turns',
      'image': 'photos',
      'video': 'clips',
      'sound': 'heard',
      'length': 211,
      'packed': True,
    },
    'photos': {'kind': 'patches', 'tokens': 40},
    'clips': {
      'kind': 'videos', 'tokens': 50, 'min_pixels': 128, 'max_pixels': 512,
    },
    'heard': {'kind': 'sounds', 'number': 3, 'seconds': 1.0},
  }  # fmt: skip
  config.tasks.chat.update(
    image='photos', video='clips', sound='heard', max_new_tokens=4
  )
  return config


@pytest.mark.slow
def test_all_media_are_learnt_with_adapters_and_answered_as_published(
  config, folder, tmp_path, capsys, monkeypatch
):
  """Packed; by the run, by `mmjax chat`, and as a Hugging Face folder."""
  config.optimizer.update(lr=0.05, schedule='constant')
  config.adapter = {
    'layers': ('attention/(query|value)$', 'projector/', 'merger/'),
    'rank': 2,
    'frozen_dtype': 'float32',
  }
  workdir = tmp_path / 'run'
  runner.run(config, chat.build, workdir)
  run, base = rebuild.load(workdir), pretrained.load(GOLDEN)
  turns, clips = run.preprocessor['turns'], run.preprocessor['clips']
  assert turns.placeholder == '<|IMAGE|>'
  assert turns.video_placeholder == '<|VIDEO|>'
  assert turns.sound_placeholder == '<|AUDIO|>'
  assert (clips.tokens_per_second, clips.assumes_fps) == (25, True)
  assert (run.module.audio.chunk, run.preprocessor['heard'].merged) == (20, 2)
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  model = mmjax.load(tmp_path / 'out')
  for part in ('audio', 'vision', 'projector', 'decoder'):
    changed = jax.tree.leaves(
      jax.tree.map(
        lambda a, b: np.any(a != b), model.params[part], base.params[part]
      )
    )
    assert any(changed), part
  image = {'type': 'image', 'image': str(folder / '0.png')}
  sound = {'type': 'audio', 'audio': str(folder / '1.wav')}
  messages = [{'role': 'user', 'content': [sound, 'a b', image]}]
  want = model.chat(messages, max_new_tokens=4).strip()
  assert want and run.chat(messages) == want
  capsys.readouterr()
  monkeypatch.setattr('sys.stdin', io.StringIO('a b\n'))
  flags = [f'--image={image["image"]}', f'--audio={sound["audio"]}']
  assert cli.main(['chat', str(workdir), *flags]) == 0
  messages = [{'role': 'user', 'content': [image, sound, 'a b']}]
  want = model.chat(messages, max_new_tokens=4).strip()
  assert capsys.readouterr().out.strip() == want
  # Here of fewer pixels than those of the folder.
  video = {'type': 'video', 'video': str(folder / '1.mp4')}
  assert run.chat([{'role': 'user', 'content': [video, sound, 'a']}])
