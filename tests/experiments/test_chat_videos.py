"""Runs that learn conversations with videos and images."""

import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

import mmjax
from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import settings
from mmjax.data import extra_fields, importing
from mmjax.errors import ConfigError
from mmjax.runs import init_from, rebuild
from mmjax.training import runner
from tests.data import chat_forms, video_encoding

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Models with a chat template, an imported data set and its files."""
  folder = tmp_path_factory.mktemp('videos')
  for name in ('qwen2_5_vl', 'qwen3_vl'):
    own = shutil.copytree(GOLDEN / name, folder / name)
    (own / 'chat_template.jinja').write_text(
      chat_forms.unmark(chat_forms.QWEN_VL)
    )
    (own / 'tokenizer_config.json').write_text(
      json.dumps({'eos_token': '</s>'})
    )
  rng = np.random.default_rng(0)
  for number, size in enumerate(((16, 24), (24, 10), (16, 16))):
    frames = rng.integers(0, 256, (5 + number, *size, 3), np.uint8)
    file = video_encoding.encode(frames, 3)
    (folder / f'{number}.mp4').write_bytes(file)
    PIL.Image.fromarray(frames[0]).save(folder / f'{number}.png')
  watch = [{'type': 'video', 'video': f'{i}.mp4'} for i in range(3)]
  see = [{'type': 'image', 'image': f'{i}.png'} for i in range(3)]
  said = lambda text: {'type': 'text', 'text': text}
  contents = [
    [watch[0], said('a cat'), see[1], watch[1]],
    'a',
    [said('cat'), watch[2]],
    [see[0], said('a')],
  ]
  rows = [
    [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': 'cat a'},
    ]
    for content in contents
  ]
  path = folder / 'rows.jsonl'
  path.write_text('\n'.join(json.dumps({'messages': row}) for row in rows))
  fields = 'photos=images:messages,clips=videos:messages,turns=turns:messages'
  importing.import_data(
    'jsonl',
    str(path),
    importing.Settings(
      name='seen', splits={'train': 1.0}, fields=extra_fields.parse(fields)
    ),
    data_dir=folder / 'data',
    progress=False,
  )
  return folder


@pytest.fixture
def config(make_config, folder):
  """Of a run from Qwen2.5-VL, on these conversations."""
  config = make_config(folder / 'qwen2_5_vl', 'chat_shapes.py')
  config.model = {'name': 'interleaved'}
  config.data.update(
    name='seen', data_dir=str(folder / 'data'), eval_split='', test_split=''
  )
  config.data.features = {
    'turns': {
      'kind': 'turns',
      'image': 'photos',
      'video': 'clips',
      'length': 157,
    },
    'photos': {'kind': 'patches', 'tokens': 20},
    'clips': {'kind': 'videos', 'tokens': 50, 'max_pixels': 512},
  }
  config.tasks.chat.update(image='photos', video='clips', max_new_tokens=4)
  return config


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'budget', 'want'),
  [
    (
      'qwen2_5_vl',
      {'max_pixels': 512},
      {'window': 2, 'tokens_per_second': 4, 'time_text': '', 'max_pixels': 512},
    ),
    (
      'qwen3_vl',
      {},
      {'scheme': 'whole', 'time_text': '<{:.1f} seconds>', 'max_pixels': 1280},
    ),
  ],
)
def test_videos_are_learnt_with_adapters_and_answered_as_published(
  name, budget, want, config, folder, tmp_path, capsys, monkeypatch
):
  """Packed; by the run, by `mmjax chat`, and as a Hugging Face folder."""
  config.init_from = str(folder / name)
  config.data.features.turns.packed = True
  config.data.features.clips = {'kind': 'videos', 'tokens': 50, **budget}
  config.optimizer.update(lr=0.05, schedule='constant')
  config.adapter = {
    'layers': ('attention/(query|value)$', 'merger/'),
    'rank': 2,
    'frozen_dtype': 'float32',
  }
  workdir = tmp_path / 'run'
  runner.run(config, chat.build, workdir)
  run, base = rebuild.load(workdir), pretrained.load(folder / name)
  clips = run.preprocessor['clips']
  want = {'patch_size': 4, 'min_pixels': 128, **want}
  assert {key: getattr(clips, key) for key in want} == want
  turns = run.preprocessor['turns']
  assert turns.video_placeholder == '<|video_pad|>'
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  model = mmjax.load(tmp_path / 'out')
  video = {'type': 'video', 'video': str(folder / '1.mp4')}
  image = {'type': 'image', 'image': str(folder / '0.png')}
  for content in (
    [video, 'a cat', image],
    [image, 'a', {**video, 'video': str(folder / '0.mp4')}, video],
  ):
    messages = [{'role': 'user', 'content': content}]
    want = model.chat(messages, max_new_tokens=4).strip()
    assert want and run.chat(messages) == want
  # The tuned Qwen3-VL of a few weights still says what it said.
  changed = jax.tree.map(lambda a, b: np.any(a != b), model.params, base.params)
  assert any(jax.tree.leaves(changed))
  capsys.readouterr()
  for name in (workdir, tmp_path / 'out'):
    monkeypatch.setattr('sys.stdin', io.StringIO('cat\n'))
    flags = [f'--video={folder / "1.mp4"}', '--max_new_tokens=4']
    assert cli.main(['chat', str(name), *flags]) == 0
    messages = [{'role': 'user', 'content': [video, 'cat']}]
    want = model.chat(messages, max_new_tokens=4).strip()
    assert capsys.readouterr().out.strip() == want


def test_settings_that_contradict_each_other_are_refused(config):
  def resolve(**turns):
    changed = config.copy_and_resolve_references()
    changed.data.features.turns.update(turns)
    return init_from.resolve(settings.complete(changed))

  config.data.features.clips.min_pixels = 128
  with pytest.raises(ConfigError, match=r"chat.video='clips', but .*video=''"):
    chat.build(resolve(video=''), None)
  resolved = resolve()
  resolved.data.features.clips = {'kind': 'patches'}
  with pytest.raises(ConfigError, match="'clips' of the kind patches; use vid"):
    chat.build(resolved, None)
  resolved = resolve()
  resolved.data.features.turns.video_placeholder = '<|image_pad|>'
  with pytest.raises(ConfigError, match='is that of images too; use another'):
    chat.build(resolved, None)
  resolved = resolve()
  resolved.data.features.clips.window = 3
  with pytest.raises(ConfigError, match=r'clips.window is 3, but model.vision'):
    chat.build(resolved, None)
  resolved = resolve(image_tokens=4)
  resolved.data.features.photos = {'kind': 'images', 'size': 8}
  with pytest.raises(ConfigError, match='is beside images of the kind images'):
    chat.build(resolved, None)
  config.init_from = str(GOLDEN / 'llava')
  with pytest.raises(ConfigError, match='no place for the videos of conver'):
    resolve()
