"""Encoders of a `multimodal` model that start from published ones."""

import functools
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models, pretrained
from mmjax.config import settings
from mmjax.data import preprocess, tokenizers
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.runs import init_from

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
# Half of the silence that pads a sound lies in a frame with sound.
SOUND = np.random.default_rng(0).normal(0, 0.1, 3120).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (1, 4, 14, 14, 3), np.uint8)
TEXT = 'a red cat'


def make_config(source, kind, name='mine', **feature):
  """A config whose one encoder reads a feature of a kind, here empty."""
  return settings.complete(
    {
      'experiment': 'multimodal',
      'init_from': source,
      'data': {'features': {name: {'kind': kind, **feature}}},
      'model': {'name': 'multimodal', 'embed_dim': 5, 'encoders': {name: {}}},
      'tasks': {'align': {'features': (name,)}},
    }
  )


def load(config, values):
  """The first encoder's tokens of an array and its mask, and its weights."""
  config = init_from.resolve(config)
  tokenizer = None
  if config.data.tokenizer:
    tokenizer = tokenizers.Tokenizer.load(config.data.tokenizer)
  prepared = preprocess.Preprocessor(
    preprocess.build(config.data.features.to_dict()), tokenizer
  )
  (name,) = prepared.features
  module = models.build(
    config.model,
    models.DataSizes(
      tokenizer.vocab_size if tokenizer else 1, features=prepared.features
    ),
  )
  batch = values if isinstance(values, dict) else prepared.prepare(mine=values)
  init = functools.partial(module.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), batch)['params']
  found = init_from.load(config, nn.unbox(shapes))
  below = f'encoders_{name}/'
  found = {k.removeprefix(below): v for k, v in found.items()}
  wanted = [k for k in tree_paths.flatten(nn.unbox(shapes)) if below in k]
  assert len(found) == len(wanted)
  params = tree_paths.unflatten(found)
  tokens = module.encoders[name].apply(
    {'params': params}, batch[name], batch[f'{name}_mask'], train=False
  )
  return config, tokens


def check_tokens(tokens, want):
  np.testing.assert_allclose(tokens.values, want.values, rtol=0, atol=1e-5)
  np.testing.assert_allclose(tokens.pooled, want.pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
  ('family', 'seconds'),
  [('whisper', 1.0), ('audio_spectrogram_transformer', 0.255)],
)
def test_sounds_are_encoded_as_the_published_model_does(family, seconds):
  source = GOLDEN / family
  config, tokens = load(make_config(f'encoders.mine={source}', 'sound'), SOUND)
  feature = config.data.features.mine
  assert (feature.rate, feature.seconds) == (16000, seconds)
  check_tokens(tokens, pretrained.load(source).encode_audio(SOUND))


def test_windows_of_whisper_may_be_shorter(capsys):
  config = make_config(
    f'encoders.mine={GOLDEN / "whisper"}', 'sound', rate=8000, seconds=0.4
  )
  config, tokens = load(config, SOUND)
  assert config.data.features.mine.to_dict() == {
    'kind': 'sound',
    'rate': 16000,
    'seconds': 0.4,
  }
  assert tokens.values.shape[1] == 20
  assert 'of 1.0 s, this run takes 0.4 s' in capsys.readouterr().out


def test_videos_get_the_frames_of_the_published_model():
  source = GOLDEN / 'videomae'
  published = pretrained.load(source)
  array = published.preprocess([[*IMAGES[0]]])
  batch = {'mine': array, 'mine_mask': jnp.ones((1, 4), bool)}
  config, tokens = load(make_config(f'encoders.mine={source}', 'video'), batch)
  feature = config.data.features.mine
  assert (feature.number, feature['size'], feature['resize']) == (
    4,
    (14, 14),
    'crop',
  )
  check_tokens(tokens, published.encode_video([[*IMAGES[0]]]))


def test_images_get_the_size_of_the_published_model(capsys):
  source = GOLDEN / 'clip'
  published = pretrained.load(source)
  array = published.preprocess([IMAGES[0, 0]])
  batch = {'mine': array, 'mine_mask': jnp.ones(1, bool)}
  config = make_config(f'encoders.mine={source}', 'image', size=99)
  config, tokens = load(config, batch)
  assert config.data.features.mine['size'] == (21, 21)
  assert 'data.features.mine.size=(21, 21)' in capsys.readouterr().out
  assert config.data.image_size == 32
  tower = {'params': published.params['image']}
  want = published.module.image.apply(tower, array, train=False)
  check_tokens(tokens, want)


def test_frames_are_encoded_by_a_tower_of_images():
  config = make_config(
    f'encoders.mine.image={GOLDEN / "clip"}', 'video', number=2
  )
  published = pretrained.load(GOLDEN / 'clip')
  width = published.module.image.width
  config.model.encoders.mine = {
    'name': 'frame_encoder',
    'width': width,
    'final_norm': False,
  }
  array = published.preprocess([*IMAGES[0, :2]])
  batch = {'mine': array[None], 'mine_mask': jnp.ones((1, 2), bool)}
  config, tokens = load(config, batch)
  assert config.data.features.mine['size'] == (21, 21)
  tower = {'params': published.params['image']}
  want = published.module.image.apply(tower, array, train=False)
  np.testing.assert_allclose(tokens.values[0], want.pooled, rtol=0, atol=1e-5)


def test_sentence_encoders_pool_as_they_were_trained(tmp_path):
  """The golden model's vectors are means, although it has a pooler."""
  source = GOLDEN / 'bert'
  config = make_config(
    f'encoders.mine={source}', 'text', as_input=True, length=20
  )
  config, tokens = load(config, TEXT)
  assert config.data.features.mine.length == 9
  vector = tokens.pooled / np.linalg.norm(tokens.pooled)
  want = pretrained.load(source).encode_text(TEXT)
  np.testing.assert_allclose(vector, want, rtol=0, atol=1e-5)
  other = shutil.copytree(source, tmp_path / 'other')
  modes = {'pooling_mode_max_tokens': True}
  (other / '1_Pooling/config.json').write_text(json.dumps(modes))
  config.init_from = f'encoders.mine={other}'
  with pytest.raises(ConfigError, match='pooled in a way that no text'):
    init_from.resolve(config)


def test_standard_fields_have_their_settings_in_data():
  config = make_config(
    f'encoders.image={GOLDEN / "vit"},encoders.text={GOLDEN / "t5"}', 'image'
  )
  config.data.features = None
  config.model.encoders = {'image': {'drop_path': 0.1}, 'text': {}}
  resolved = init_from.resolve(config)
  assert resolved.data.image_size != config.data.image_size
  assert resolved.model.encoders.image.drop_path == 0.1
  assert resolved.data.tokenizer.endswith('t5/tokenizer.json')
  # The word vectors of a T5 are its decoder's.
  t5 = pretrained.load(GOLDEN / 't5').params
  vit = pretrained.load(GOLDEN / 'vit').params
  wanted = {
    'encoders_image': vit['encoder'],
    'encoders_text': {**t5['encoder'], 'words': t5['decoder']['words']},
  }
  found = tree_paths.unflatten(init_from.load(resolved, wanted))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
  ('source', 'kind', 'message'),
  [
    ('sound={whisper}', 'sound', 'write encoders.NAME=.*, NAME one of mine'),
    ('encoders.other={whisper}', 'sound', 'model.encoders has mine; add other'),
    ('encoders.mine={whisper}', 'video', 'no encoders of the kind video; ther'),
    (
      'encoders.mine={clip}',
      'sound',
      r'there are: image \(image\), text \(tex',
    ),
    ('encoders.mine={clip}#head', 'image', 'no such encoder; there are: image'),
    ('encoders.mine={clip}#text', 'image', 'encodes the kind text, but'),
    ('encoders.mine.image={clip}', 'image', 'videos, but .* leave out .image'),
    ('encoders.mine.frame={clip}', 'video', 'use encoders.mine, or encoders.m'),
    ('encoders.mine={llama}', 'text', 'there are: none'),
    ('encoders.mine={whisper}', 'noise', 'data.features has no .* known kind'),
  ],
)
def test_what_no_encoder_can_start_from_is_named(source, kind, message):
  names = ('whisper', 'clip', 'llama')
  source = source.format(**{name: GOLDEN / name for name in names})
  with pytest.raises(ConfigError, match=message):
    init_from.resolve(make_config(source, kind))


def test_a_published_encoder_of_sounds_needs_its_preprocessing(tmp_path):
  source = shutil.copytree(GOLDEN / 'whisper', tmp_path / 'whisper')
  (source / 'preprocessor_config.json').unlink()
  with pytest.raises(ConfigError, match=r'no preprocessor_config.json, which'):
    init_from.resolve(make_config(f'encoders.mine={source}', 'sound'))
