"""Runs that learn conversations with sounds."""

import base64
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
from mmjax.config import overrides, settings
from mmjax.data import audio, extra_fields, importing
from mmjax.errors import ConfigError
from mmjax.runs import init_from, rebuild
from mmjax.training import runner
from tests.pretrained import gguf_writing

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
GOLDEN = ROOT / 'tests/pretrained/golden'
RATE = 16_000


@pytest.fixture(scope='module')
def sounds():
  """Samples of sounds of several lengths."""
  rng = np.random.default_rng(2)
  return [
    rng.uniform(-1, 1, number).astype(np.float32)
    for number in (6_001, 9_600, 16_000, 1_300)
  ]


def _import(folder, name, rows, fields):
  """Imports rows, whose files are in a folder, into its folder `data`."""
  path = folder / 'rows.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  importing.import_data(
    'jsonl',
    str(path),
    importing.Settings(
      name=name, splits={'train': 1.0}, fields=extra_fields.parse(fields)
    ),
    data_dir=folder / 'data',
    progress=False,
  )


@pytest.fixture(scope='module')
def data(sounds, tmp_path_factory):
  """A folder with an imported data set of conversations, and sound files."""
  folder = tmp_path_factory.mktemp('heard')
  files = [audio.encode_wave(samples, RATE) for samples in sounds]
  for number, data in enumerate(files):
    (folder / f'{number}.wav').write_bytes(data)
  encoded = base64.b64encode(files[2]).decode()
  sent = {'type': 'input_audio', 'input_audio': {'data': encoded}}
  first, second = ({'type': 'audio', 'audio': f'{i}.wav'} for i in (0, 1))
  said = lambda text: {'type': 'text', 'text': text}
  contents = [
    [first, said('a b'), second],
    'e f',
    [said('g'), sent],
    [{'type': 'audio_url', 'audio_url': {'url': '3.wav'}}],
  ]
  rows = [
    [
      {'role': 'user', 'content': content},
      {'role': 'assistant', 'content': f'{"cdhi"[i]} d'},
    ]
    for i, content in enumerate(contents)
  ]
  fields = 'sounds=sounds:messages,turns=turns:messages'
  _import(folder, 'heard', [{'messages': row} for row in rows], fields)
  return folder


@pytest.fixture
def config(make_config, data):
  """Of a run from Qwen2-Audio, on these conversations."""
  config = make_config(GOLDEN / 'qwen2_audio', 'chat_shapes.py')
  config.model = {'name': 'interleaved_audio'}
  config.data.update(
    name='heard', data_dir=str(data / 'data'), eval_split='', test_split=''
  )
  config.data.features = {
    'turns': {'kind': 'turns', 'sound': 'sounds', 'length': 107},
    'sounds': {'kind': 'sounds', 'number': 3},
  }
  config.tasks.chat.update(sound='sounds', max_new_tokens=4)
  return config


@pytest.mark.slow
def test_sounds_are_learnt_with_adapters_and_answered_as_published(
  config, data, sounds, tmp_path, capsys
):
  """Packed; by the run, by `predict`, and as a Hugging Face folder."""
  config.data.features.turns.packed = True
  config.optimizer.update(lr=0.05, schedule='constant')
  config.adapter = {
    'layers': ('decoder/.*/(query|value)$', 'audio/.*/query$', 'projector/'),
    'rank': 2,
    'alpha': 4.0,
    'frozen_dtype': 'float32',
  }
  workdir = tmp_path / 'run'
  runner.run(config, chat.build, workdir)
  run, base = rebuild.load(workdir), pretrained.load(GOLDEN / 'qwen2_audio')
  feature = run.preprocessor['sounds']
  assert (feature.seconds, feature.step, feature.merged) == (1.0, 320, 2)
  assert run.preprocessor['turns'].sound_placeholder == '<|AUDIO|>'
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  model = mmjax.load(tmp_path / 'out')
  changed = jax.tree.leaves(
    jax.tree.map(lambda a, b: np.any(a != b), model.params, base.params)
  )
  assert 4 <= sum(changed) < len(changed)
  hear = [{'type': 'audio', 'audio': samples} for samples in sounds]
  messages = [{'role': 'user', 'content': [hear[0], 'a b', hear[2]]}]
  want = model.chat(messages, max_new_tokens=4).strip()
  assert want and run.chat(messages) == want
  messages = [{'role': 'user', 'content': [hear[1], 'g']}]
  want = model.chat(messages, max_new_tokens=4).strip()
  capsys.readouterr()
  flags = [f'--sound={data / "1.wav"}', '--question=g']
  assert cli.main(['predict', str(workdir), *flags]) == 0
  assert capsys.readouterr().out == f'{want}\n'
  with pytest.raises(ConfigError, match=r'has 4 sounds, .* reads 3 sounds'):
    run.chat([{'role': 'user', 'content': hear}])
  with pytest.raises(
    ConfigError, match=r'turn 1 has .* type image, .* and sounds'
  ):
    run.chat([{'role': 'user', 'content': [{'type': 'image', 'image': 'a'}]}])


@pytest.fixture
def shown(sounds, tmp_path):
  """A data set of spoken questions, one about an image and one without."""
  for number, samples in enumerate(sounds[:2]):
    data = audio.encode_wave(samples, RATE)
    (tmp_path / f'{number}.wav').write_bytes(data)
  PIL.Image.new('RGB', (16, 16), 'red').save(tmp_path / 'red.png')
  rows = [
    {
      'images': ['red.png'] * number,
      'sounds': [f'{number}.wav'],
      'turns': [
        {
          'role': 'user',
          'content': [{'type': 'image'}] * number + [{'type': 'audio'}],
        },
        {'role': 'assistant', 'content': 'c d'},
      ],
    }
    for number in (0, 1)
  ]
  fields = 'photos=images:images,sounds=sounds:sounds,turns=turns:turns'
  _import(tmp_path, 'shown', rows, fields)
  return tmp_path / 'data'


@pytest.mark.slow
def test_a_language_model_learns_to_hear_and_see(shown, sounds, tmp_path):
  """From Whisper's encoder and a Llama of texts in one file."""
  llama = gguf_writing.make_config('llama')
  llama['max_position_embeddings'] = 64
  gguf_writing.write(
    tmp_path / 'a.gguf',
    'llama',
    llama,
    gguf_writing.make_tensors('llama', llama)[0],
    lambda writer: writer.add_chat_template(
      '{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}'
      '{% if add_generation_prompt %}{{ "assistant" }}{% endif %}'
    ),
  )
  whisper = GOLDEN / 'whisper'
  config = overrides.load(f'{CONFIGS}/chat_speech.py:runlocal')
  config.init_from = f'audio={whisper},decoder={tmp_path / "a.gguf"}'
  config.data.update(
    name='shown', data_dir=str(shown), test_split='', extra_splits=()
  )
  names = ('<|image|>', '<|user|>')  # Which no text has.
  config.data.features.photos = {'kind': 'images', 'number': 1, 'size': 16}
  config.data.features.turns.update(
    image='photos',
    image_tokens=1,
    length=61,
    placeholder=names[0],
    sound_placeholder=names[1],
  )
  config.data.features.sounds.seconds = 1.0
  width = llama['hidden_size']
  config.model.placeholders = tuple(map(gguf_writing.TOKENS.index, names))
  config.model.vision = {
    'name': 'resnet',
    'width': 16,
    'stages': (1,),
    'stem': 'patch',
    'patch_size': 4,
  }
  config.model.image_projector = {
    'name': 'average_pool',
    'width': width,
    'factor': 4,
  }
  config.model.projector.update(width=width, mlp_dim=5)
  config.adapter.update(rank=2, train=('projector/', '^vision/'))
  config.tasks.chat.update(image='photos', max_new_tokens=4)
  runner.run(config, chat.build, tmp_path / 'run')
  run = rebuild.load(tmp_path / 'run')
  feature, spectrogram = run.preprocessor['sounds'], run.module.spectrogram
  assert (feature.step, feature.merged, feature.seconds) == (320, 4, 1.0)
  assert spectrogram['fills_silence'] and spectrogram['num_mels'] == 10
  jax.tree.map(
    np.testing.assert_array_equal,
    run.params['audio'],
    pretrained.load(whisper).params['audio'],
  )
  hear = {'type': 'audio', 'audio': sounds[1]}
  see = {'type': 'image', 'image': PIL.Image.new('RGB', (9, 9))}
  for content in ([see, hear], [hear]):
    assert run.chat([{'role': 'user', 'content': content}])


def test_settings_that_contradict_each_other_are_refused(config):
  def resolve(**turns):
    changed = config.copy_and_resolve_references()
    changed.data.features.turns.update(turns)
    changed = init_from.resolve(settings.complete(changed))
    return changed

  resolved = resolve()
  assert resolved.model.spectrogram.num_mels == 10
  resolved.data.features.sounds.step = 160
  with pytest.raises(ConfigError, match=r'step is 160, but model.* is 320'):
    chat.build(resolved, None)
  with pytest.raises(ConfigError, match=r"chat.sound='sounds', but .*sound=''"):
    chat.build(resolve(sound=''), None)
  with pytest.raises(
    ConfigError, match=r'no place for the images of .*language'
  ):
    resolve(image='image')
  config.init_from = str(GOLDEN / 'llava')
  config.model = {'name': 'interleaved'}
  with pytest.raises(ConfigError, match=r'for the sounds of .* only Qwen2-Aud'):
    resolve()
