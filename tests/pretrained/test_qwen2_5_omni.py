"""Qwen2.5-Omni's thinker: as transformers computed it, and out again."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from mmjax import pretrained
from mmjax.data import audio
from mmjax.errors import ConfigError
from mmjax.pretrained import chats, tensors

GOLDEN = Path(__file__).parent / 'golden/qwen2_5_omni'
SEEN = '<|vision_bos|><|IMAGE|><|vision_eos|>'
HEARD = '<|audio_bos|><|AUDIO|><|audio_eos|>'
PROMPTS = [f'{SEEN} a {HEARD} b', f'c {HEARD} a {SEEN}']


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return dict(np.load(GOLDEN / 'expected.npz'))


@pytest.fixture(scope='module')
def media(expected, tmp_path_factory):
  """Of each prompt: arrays, and paths of files."""
  folder = tmp_path_factory.mktemp('media')
  first, second = (expected[key] for key in ('first', 'second'))
  (folder / 'a.wav').write_bytes(
    audio.encode_wave(second / np.float32(32768), 16_000)
  )
  PIL.Image.fromarray(expected['pixels'][:19]).save(folder / 'b.png')
  return [
    [expected['pixels'], first / np.float32(32768)],
    [str(folder / 'a.wav'), str(folder / 'b.png')],
  ]


def test_logits_and_texts_are_those_of_transformers(loaded, expected, media):
  got = loaded.logits(media, PROMPTS)
  size = np.abs(expected['logits']).max()
  for i, mask in enumerate(expected['mask'] > 0):
    want = expected['logits'][i, mask]
    # Spectrograms within 1e-5, and some blocks in float32.
    np.testing.assert_allclose(
      got[i, : len(want)] / size, want / size, rtol=0, atol=2e-5
    )
  written = loaded.generate(media, PROMPTS, max_new_tokens=12)
  assert [text.strip() for text in written] == expected['texts'].tolist()


def test_messages_have_all_media_in_their_places(loaded, media):
  """The steps of a video are as far apart as tokens of a sound of a second."""
  frames = np.random.default_rng(0).integers(0, 256, (6, 9, 17, 3), np.uint8)
  pixels, sound = media[0]
  content = [
    {'type': 'audio', 'audio': sound},
    {'type': 'video', 'video': frames},
    {'type': 'image', 'image': pixels},
    {'type': 'audio', 'audio': media[1][0]},
  ]
  prompt = chats.render_prompt(
    loaded.chat_template, [{'role': 'user', 'content': content}]
  )
  batch, _ = loaded.prepare_prompts([prompt])
  ids = np.asarray(batch['text'][0])
  names = [loaded.tokenizer.id_to_token(i) for i in ids.tolist()]
  kinds = [n for n in names if n in ('<|AUDIO|>', '<|VIDEO|>', '<|IMAGE|>')]
  changes = [a for a, b in zip(kinds, [*kinds[1:], ''], strict=True) if a != b]
  assert changes == ['<|AUDIO|>', '<|VIDEO|>', '<|IMAGE|>', '<|AUDIO|>']
  assert kinds.count('<|AUDIO|>') == 8 + 5
  times = np.asarray(batch['text_positions'][0, :, 0])
  places = [i for i, name in enumerate(names) if name == '<|VIDEO|>']
  assert sorted(set(times[places] - times[places[0]])) == [0, 25, 50]
  heard = [i for i, name in enumerate(names) if name == '<|AUDIO|>'][:8]
  np.testing.assert_array_equal(np.diff(times[heard]), 1)
  # Two chunks of 20 frames are the fewest for the first sound.
  assert batch['spectrogram'].shape == (1, 2, 40, 10)


def test_the_thinker_of_a_whole_folder_is_read(loaded, tmp_path):
  """And saved alone, under the names that it has there."""
  whole = shutil.copytree(GOLDEN, tmp_path / 'whole')
  path = whole / 'config.json'
  config = json.loads(path.read_text())
  config['architectures'] = ['Qwen2OmniNaViTThinkerForConditionalGeneration']
  path.write_text(
    json.dumps(
      {
        'model_type': 'qwen2_5_omni',
        'architectures': ['Qwen2_5OmniModel'],
        'enable_audio_output': True,
        'thinker_config': config,
        'talker_config': {'model_type': 'qwen2_5_omni_talker'},
        'token2wav_config': {'model_type': 'qwen2_5_omni_token2wav'},
      }
    )
  )
  source = tensors.Tensors(GOLDEN)
  named = {f'thinker.{name}': source.read(name) for name in source.names}
  named['talker.codec_head.weight'] = np.zeros((2, 3), np.float32)
  named['token2wav.code2wav_bigvgan_model.conv_pre.bias'] = np.zeros(2)
  tensors.write(whole, named.items())
  model = pretrained.load(whole)
  jax.tree.map(np.testing.assert_array_equal, model.params, loaded.params)
  pretrained.save(model, tmp_path / 'out')
  again = tensors.Tensors(tmp_path / 'out')
  assert again.names == source.names
  for name in source.names:
    np.testing.assert_array_equal(again.read(name), source.read(name))
  assert pretrained.load(tmp_path / 'out').config == loaded.config
  path.write_text(json.dumps({'model_type': 'qwen2_5_omni'}))
  with pytest.raises(ConfigError, match='there is no thinker_config'):
    pretrained.load(whole)


def test_what_does_not_fit_is_refused(loaded, media, tmp_path):
  with pytest.raises(ConfigError, match=r'a text has 2 of the .* need 1'):
    loaded.generate([media[0][:1]], PROMPTS[:1])
  with pytest.raises(ConfigError, match=r'2\.5 seconds is longer than the 2'):
    loaded.generate([[np.zeros(40_000, np.float32)]], [HEARD])
  inside = '<|vision_bos|><|audio_bos|><|VIDEO|><|audio_eos|><|vision_eos|>'
  with pytest.raises(ConfigError, match='not do; write video and sound in'):
    loaded.generate([[media[0][0][None]]], [inside])
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  config['audio_config']['output_dim'] = 8
  path.write_text(json.dumps(config))
  with pytest.raises(ConfigError, match=r'output_dim is 8, but .* is 16'):
    pretrained.load(tmp_path)
