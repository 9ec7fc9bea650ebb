"""Language models that hear: as transformers computed them, and out again."""

import json
import shutil
import wave
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.inference import abilities
from mmjax.pretrained import checkpoint, families, tensors

GOLDEN = Path(__file__).parent / 'golden/qwen2_audio'
HEARD = '<|audio_bos|><|AUDIO|><|audio_eos|>'
PROMPTS = [f'{HEARD} a b', f'c {HEARD} a']


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return dict(np.load(GOLDEN / 'expected.npz'))


@pytest.fixture(scope='module')
def sounds(expected, tmp_path_factory):
  """One as floats, one as a file."""
  path = tmp_path_factory.mktemp('sounds') / 'second.wav'
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(16_000)
    file.writeframes(expected['second'].astype('<i2').tobytes())
  return [expected['first'] / np.float32(32768), path]


def test_logits_and_texts_are_those_of_transformers(loaded, expected, sounds):
  got = loaded.logits(sounds, PROMPTS)
  size = np.abs(expected['logits']).max()
  for i, mask in enumerate(expected['mask'] > 0):
    want = expected['logits'][i, mask]
    # Spectrograms within 1e-5, and some blocks in float32.
    np.testing.assert_allclose(
      got[i, : len(want)] / size, want / size, rtol=0, atol=2e-5
    )
  written = loaded.generate(sounds, PROMPTS, max_new_tokens=12)
  assert [text.strip() for text in written] == expected['texts'].tolist()


def test_conversations_have_sounds_in_their_places(loaded, sounds):
  parts = [{'type': 'audio', 'audio': sounds[1]}, 'a b']
  answer = loaded.chat([{'role': 'user', 'content': parts}], max_new_tokens=5)
  text = f'<|im_start|>user\nAudio 1: {HEARD}\na b<|im_end|>\n'
  text = f'<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{text}'
  (want,) = loaded.generate(
    [sounds[1]], [f'{text}<|im_start|>assistant\n'], max_new_tokens=5
  )
  assert answer.strip() == want.strip() != ''
  published = abilities.Published(loaded, 'name', 5)
  (ability,) = published.tasks.values()
  lines = ability.predict_use.make_lines(
    published, {'sound': sounds[1]}, ['a b'], None
  )
  assert lines == [answer]


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for tensor in there.names:
    np.testing.assert_array_equal(here.read(tensor), there.read(tensor))


def test_sounds_that_do_not_fit_are_refused(loaded, sounds, tmp_path):
  with pytest.raises(ConfigError, match=r'2\.0 seconds is longer than the 1'):
    loaded.generate([np.zeros(32_000, np.float32)], PROMPTS[:1])
  with pytest.raises(ConfigError, match='of 160 samples is too short'):
    loaded.generate([np.zeros(160, np.float32)], PROMPTS[:1])
  with pytest.raises(ConfigError, match=r'2 entries of sounds .* 1 texts'):
    loaded.generate(sounds, PROMPTS[:1])
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'preprocessor_config.json'
  settings = json.loads(path.read_text())
  path.write_text(json.dumps({**settings, 'chunk_length': 2}))
  with pytest.raises(ConfigError, match=r'of 200 frames, but .* reads 100'):
    pretrained.load(tmp_path).generate(sounds, PROMPTS)


def test_published_size():
  """That of Qwen2-Audio 7B."""
  config = {
    'text_config': {'intermediate_size': 11008, 'vocab_size': 156032},
    'audio_config': {},
  }
  family = families.find({'model_type': 'qwen2_audio'})
  shapes = checkpoint.shapes(family.build_module(config), family.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 8_397_094_912
