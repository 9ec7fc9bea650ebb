"""Small files that are broken, or hold what they should not, are named."""

import dataclasses
import functools
import json
import pathlib
import shutil

import numpy as np
import pytest

import mmjax
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  checkpoint,
  families,
  preprocess,
  preprocess_audio,
  processors,
  qwen2_vl,
  siglip2,
  tensors,
)
from mmjax.pretrained import clip as clip_lib

GOLDEN = pathlib.Path(__file__).parent / 'golden'
IMAGE = np.zeros((9, 11, 3), np.uint8)


@pytest.fixture
def clip(tmp_path):
  return shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')


def change(path, **values):
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('{"metadata": {"tot', 'index.json is broken or cut off'),
    ('', 'index.json is broken or cut off'),
    ('[]', r'index.json holds \[\], not an object'),
    ('{}', 'index.json: weight_map does not name the file'),
    ('{"weight_map": {"a": 1}}', 'index.json: weight_map does not name'),
  ],
)
def test_a_broken_index(clip, content, message):
  (clip / tensors.INDEX).write_text(content)
  with pytest.raises(ValueError, match=message):
    mmjax.load(clip)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('{"model_type": "cl', 'config.json is broken or cut off'),
    ('[]', r'config.json holds \[\], not an object'),
    ('{"text_config": []}', r'config.json: text_config is \[\], not an object'),
    (
      '{"text_config": {"rope_scaling": 7}}',
      'config.json: rope_scaling is 7, not an object',
    ),
  ],
)
def test_a_broken_config(clip, content, message):
  (clip / 'config.json').write_text(content)
  with pytest.raises(ValueError, match=message):
    mmjax.load(clip)


@pytest.mark.parametrize(
  'file',
  ['preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json'],
)
@pytest.mark.parametrize('content', ['{"a": [1', '[]', '\xff'])
def test_what_prepares_inputs_is_broken(clip, file, content):
  (clip / file).write_bytes(content.encode('latin-1'))
  model = mmjax.load(clip)
  with pytest.raises(ValueError, match=f'^{file} (is broken|holds)'):
    model.encode_text('cat')
    model.encode_image(IMAGE)


def test_no_heads(clip):
  text = json.loads((clip / 'config.json').read_text())['text_config']
  change(clip / 'config.json', text_config={**text, 'num_attention_heads': 0})
  message = 'text_config.num_attention_heads is 0; it should be at least 1'
  with pytest.raises(ValueError, match=message):
    mmjax.load(clip)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'image_token_index': -5},
      'image_token_index is -5, but ids are at least',
    ),
    ({'text_config': {'eos_token_id': [2, -3]}}, r'eos_token_id is \[2, -3\],'),
    ({'text_config': None}, 'there is no text_config, which describes a part'),
  ],
)
def test_ids_and_parts_that_no_model_has(changes, message, tmp_path):
  path = shutil.copy(GOLDEN / 'llava/config.json', tmp_path)
  change(pathlib.Path(path), **changes)
  with pytest.raises(ConfigError, match=f'config.json: {message}'):
    checkpoint.read_small_files(tmp_path)


PREPARES = {
  'clip': clip_lib.Model.make_preprocessor,
  'siglip2': siglip2.Model.make_preprocessor,
  'qwen2_vl': qwen2_vl.FAMILY.model_class.make_preprocessor,
  'whisper': preprocess_audio.AudioPreprocessor.from_config,
  'audio_spectrogram_transformer': (
    preprocess_audio.FbankPreprocessor.from_config
  ),
  'encodec': functools.partial(
    preprocess_audio.SamplePreprocessor.from_config, sample_rate=600
  ),
}


@pytest.mark.parametrize('name', PREPARES)
def test_a_key_that_nothing_reads_is_named(name):
  path = GOLDEN / name / 'preprocessor_config.json'
  given = json.loads(path.read_text())
  PREPARES[name](given)
  message = (
    'preprocessor_config.json: mmjax does not know a_crop, new_trick; if'
  )
  with pytest.raises(ValueError, match=message):
    PREPARES[name]({**given, 'new_trick': 1, 'a_crop': None})


@pytest.mark.parametrize(
  ('name', 'key', 'value'),
  [
    ('clip', 'do_flip_channel_order', True),
    ('clip', 'do_reduce_labels', True),
    ('whisper', 'padding_side', 'left'),
    ('whisper', 'dither', 0.1),
    ('audio_spectrogram_transformer', 'feature_size', 2),
    ('encodec', 'chunk_length_s', 1.0),
  ],
)
def test_what_no_input_is_prepared_by_is_refused(name, key, value):
  path = GOLDEN / name / 'preprocessor_config.json'
  given = json.loads(path.read_text())
  message = f'preprocessor_config.json: {key} is {value!r}; mmjax reads only'
  with pytest.raises(ValueError, match=message):
    PREPARES[name]({**given, key: value})


SIZE = {'height': 6, 'width': 8}
DEFAULTS = {'size': SIZE, 'image_mean': (0.5,) * 3, 'image_std': (0.5,) * 3}


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'image_mean': [0.5, 0.5]}, 'image_mean is .*; mmjax reads one number or'),
    ({'image_mean': 'half'}, "image_mean is 'half'; mmjax reads one number or"),
    ({'image_std': [0.5, 0, 0.5]}, 'image_std is .*, by which images are div'),
    ({'resample': 9}, "resample is 9, and Pillow's filters are 0 to"),
  ],
)
def test_values_that_prepare_no_image_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    preprocess.ImagePreprocessor.from_config(settings, DEFAULTS)


def test_one_number_is_that_of_all_channels():
  make = preprocess.ImagePreprocessor.from_config
  one = make({'image_mean': 0.5, 'image_std': 0.25}, DEFAULTS)
  three = make({'image_std': [0.25] * 3}, DEFAULTS)
  np.testing.assert_array_equal(one(IMAGE), three(IMAGE))


@pytest.mark.parametrize(
  'settings',
  [
    {'pad_size': {'height': 8, 'width': 8}},
    {'size': {'shortest_edge': 6}},
    {'do_resize': False},
    {'image_processor_type': 'LlavaImageProcessor'},
  ],
)
def test_padding_is_refused(settings):
  settings = {'do_pad': True, **settings}
  with pytest.raises(ValueError, match='do_pad is True; mmjax pads no images'):
    preprocess.ImagePreprocessor.from_config(settings, DEFAULTS)
  settings['do_pad'] = False
  preprocess.ImagePreprocessor.from_config(settings, DEFAULTS)


@pytest.mark.parametrize(
  'settings',
  [
    {'size_divisor': 32},  # BLIP says so; it is not read there, either.
    {'pad_size': SIZE},
    {'size': {'shortest_edge': 9}, 'do_center_crop': True, 'crop_size': SIZE},
  ],
)
def test_padding_to_the_size_that_all_have_is_none(settings):
  make = preprocess.ImagePreprocessor.from_config
  padded = make({'do_pad': True, **settings}, DEFAULTS)
  assert padded == make(settings, DEFAULTS)
  assert padded(IMAGE).shape == (6, 8, 3)


def model(name, **files):
  """A golden model without its weights, with other small files."""
  config, own = checkpoint.read_small_files(GOLDEN / name)
  named = {key: json.dumps(value).encode() for key, value in files.items()}
  return families.find(config).model_class(None, {}, config, {**own, **named})


@pytest.mark.parametrize(
  ('name', 'part', 'given', 'prepares'),
  [
    ('clip', 'image_processor', {'image_mean': [0.1] * 3}, 'preprocessor'),
    ('siglip2', 'image_processor', {'image_mean': [0.1] * 3}, 'preprocessor'),
    ('whisper', 'feature_extractor', {'hop_length': 99}, 'preprocessor'),
    ('whisper', 'audio_processor', {'hop_length': 99}, 'preprocessor'),
    ('qwen2_vl', 'image_processor', {'min_pixels': 99}, 'preprocessor'),
    ('qwen2_vl', 'video_processor', {'min_pixels': 99}, 'video_preprocessor'),
  ],
)
def test_parts_of_the_newer_file_come_first(name, part, given, prepares):
  own = json.loads(model(name).files[preprocess.FILE])
  new = model(name, **{processors.FILE: {part: {**own, **given}}})
  old = model(name, **{preprocess.FILE: {**own, **given}})
  want = getattr(old, prepares)
  assert getattr(new, prepares) == want != getattr(model(name), prepares)
  none = model(name, **{processors.FILE: {part: None}})
  assert getattr(none, prepares) == getattr(model(name), prepares)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'new_trick': 1}, 'does not know new_trick'),
    ({'image_processor': {'new_trick': 1}}, 'does not know new_trick'),
    ({'audio_tokenizer': {'a': 1}}, 'audio_tokenizer is .*; mmjax reads only'),
    ({'image_processor': 3}, 'image_processor is 3, not an object'),
  ],
)
def test_the_newer_file_is_named_where_it_is_refused(given, message):
  with pytest.raises(ConfigError, match=f'^processor_config.json: .*{message}'):
    model('clip', **{processors.FILE: given}).preprocessor  # noqa: B018


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'crop_size': {'height': 28, 'width': 28}},
      'preprocessor_config.json makes images of 28x28 pixels, but config.json '
      'describes a model for 21x21',
    ),
    (
      {'do_center_crop': False, 'size': {'height': 14, 'width': 21}},
      'makes images of 14x21 pixels',
    ),
  ],
)
def test_images_of_another_size_than_the_models(clip, changes, message):
  change(clip / 'preprocessor_config.json', **changes)
  with pytest.raises(ValueError, match=message):
    mmjax.load(clip)


def test_images_whose_sizes_differ(clip):
  wide = np.zeros((21, 28, 3), np.uint8)
  change(
    clip / 'preprocessor_config.json',
    do_center_crop=False,
    size={'shortest_edge': 21},
  )
  model = mmjax.load(clip)
  message = r'has 21x28 pixels after .*\.json, but the model reads 21x21'
  with pytest.raises(ValueError, match=message):
    model.preprocess([wide[:, :21], wide])
  anywhere = dataclasses.replace(model, image_size=None)
  with pytest.raises(ValueError, match='json: 21x21 and 21x28 pixels; pass on'):
    anywhere.preprocess([wide[:, :21], wide])
