"""Language models that see: as transformers computed them, and out again."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from mmjax import models, pretrained
from mmjax.data import video_files
from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, families, tensors
from tests.data import video_encoding
from tests.pretrained import vision_language_sizes

GOLDEN = Path(__file__).parent / 'golden'
SEEN = '<|vision_start|><|image_pad|><|vision_end|>'
PROMPTS = {
  'gemma3': ['<|vision_start|> a small red', 'a <|vision_start|> cat is'],
  'idefics3': ['<image> a small red', 'a <image> cat is'],
  'internvl': ['<image> a small red', 'a <image> cat is'],
  'llava': ['<image> a small red', 'a <image> cat is'],
  'llava_onevision': ['<image> a small red', 'a <image> cat is'],
  'paligemma': ['a small red', 'a cat is'],
  'qwen2_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
  'qwen2_5_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
  'qwen3_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
}
NEW = 12


@pytest.fixture(scope='module', params=PROMPTS)
def name(request):
  return request.param


@pytest.fixture(scope='module')
def loaded(name):
  return pretrained.load(GOLDEN / name)


@pytest.mark.slow
def test_logits_and_texts_are_those_of_transformers(name, loaded, tmp_path):
  expected, prompts = np.load(GOLDEN / name / 'expected.npz'), PROMPTS[name]
  pixels = expected['pixels']
  logits = loaded.logits(pixels, prompts[0])[0, : len(expected['logits'])]
  size = np.abs(expected['logits']).max()
  # Images within 1e-6, and some blocks in float32.
  np.testing.assert_allclose(
    logits / size, expected['logits'] / size, rtol=0, atol=1e-5
  )
  path = tmp_path / 'lower.png'
  PIL.Image.fromarray(pixels[:19]).save(path)
  written = loaded.generate([pixels, path], prompts, max_new_tokens=NEW)
  assert [text.strip() for text in written] == expected['texts'].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [
    'idefics3',
    'llava',
    'llava_onevision',
    'paligemma',
    'qwen2_vl',
    'qwen2_5_vl',
    'qwen3_vl',
  ],
  scope='module',
)
def test_a_text_has_none_or_several_images(name, loaded):
  pixels = np.load(GOLDEN / name / 'expected.npz')['pixels']
  prompts = ['a cat', ' '.join(PROMPTS[name])]
  images = [[], [pixels, pixels[:25]]]
  together = loaded.generate(images, prompts, max_new_tokens=5)
  alone = loaded.generate([[]], prompts[0], max_new_tokens=5)
  assert alone == together[:1]
  alone = loaded.generate(images[1:], prompts[1], max_new_tokens=5)
  assert alone == together[1:]


def test_what_is_saved_is_what_was_loaded(name, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  there, here = tensors.Tensors(GOLDEN / name), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for tensor in there.names:
    np.testing.assert_array_equal(here.read(tensor), there.read(tensor))


@pytest.mark.parametrize(
  ('name', 'names'),
  [
    (
      'llava',
      [
        ('language_model.lm_head', 'lm_head'),
        ('language_model.model', 'model.language_model'),
        ('vision_tower', 'model.vision_tower.vision_model'),
        ('multi_modal_projector', 'model.multi_modal_projector'),
      ],
    ),
    (
      'qwen2_vl',
      [('model.', 'model.language_model.'), ('visual', 'model.visual')],
    ),
  ],
)
def test_other_releases_names_are_read(name, names, tmp_path):
  shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
  source = tensors.Tensors(GOLDEN / name)
  other = {}
  for key in source.names:
    for ours, theirs in names:
      if key.startswith(ours):
        other[theirs + key.removeprefix(ours)] = source.read(key)
        break
  tensors.write(tmp_path, other.items())
  want = pretrained.load(GOLDEN / name).params
  jax.tree.map(
    np.testing.assert_array_equal, pretrained.load(tmp_path).params, want
  )


@pytest.mark.slow
def test_a_video_is_read_too():
  frames = np.random.default_rng(0).integers(0, 256, (3, 9, 17, 3), np.uint8)
  for name in ('qwen2_vl', 'qwen2_5_vl'):
    model = pretrained.load(GOLDEN / name)
    prompt = f'{SEEN.replace("image", "video")} a cat'
    batch, _ = model.prepare_batch([frames], prompt)
    assert (batch['text'] == 7).sum() == 2 * batch['text_mask'][0].sum() // 4
    first, second = model.generate(
      [frames, frames[::-1]], [prompt, prompt], max_new_tokens=9
    )
    assert first != second


@pytest.mark.slow
def test_a_video_is_read_as_times_and_as_pooled_frames():
  """Of Qwen3-VL and of LLaVA-OneVision."""
  frames = np.random.default_rng(0).integers(0, 256, (3, 9, 17, 3), np.uint8)
  model = pretrained.load(GOLDEN / 'qwen3_vl')
  batch, _ = model.prepare_batch([frames], SEEN.replace('image', 'video'))
  text = np.asarray(batch['text'][0][batch['text_mask'][0]])
  starts = np.flatnonzero(text == 4)
  assert len(starts) == 2 == (text == 5).sum()  # Those of the steps alone.
  assert (text[starts + 1] == 7).all()
  assert len(set(batch['patches']['segments'][0].tolist())) == 3  # With 0.
  model = pretrained.load(GOLDEN / 'llava_onevision')
  first, second = model.generate(
    [frames, frames[::-1]], ['<|video_pad|> a cat'] * 2, max_new_tokens=9
  )
  assert first != second
  batch, _ = model.prepare_batch([frames], '<|video_pad|> a cat')
  assert (batch['text'] == 7).sum() == 3 * 2 * 2 + 1


def test_times_of_a_video_are_those_of_its_sampled_frames(monkeypatch):
  """Of Qwen3-VL, which repeats the last of an odd number of frames."""
  model, written = pretrained.load(GOLDEN / 'qwen3_vl'), []
  tokenize = type(model).tokenize_prompt
  monkeypatch.setattr(
    type(model),
    'tokenize_prompt',
    lambda self, text, number: (
      written.append(text) or tokenize(self, text, number)
    ),
  )
  frames = np.zeros((9, 8, 16, 3), np.uint8)
  make = lambda rate, number=9: video_files.VideoFile(
    video_encoding.encode(frames[:number], rate)
  )
  step = SEEN.replace('image', 'video')
  for video, times in (
    (frames[:3], (0.2, 1.0)),  # Two a second.
    (make(2), (0.2, 1.2, 2.2, 3.2, 4.0)),
    (make(9), (0.2, 0.7)),
  ):
    model.prepare_batch([video], f'a {step} cat')
    steps = ''.join(f'<{time} seconds>{step}' for time in times)
    assert written.pop() == f'a {steps} cat'
  with pytest.raises(ConfigError, match='1 frames is too short'):
    model.prepare_batch([make(3, number=1)], step)


def test_images_and_placeholders_must_agree(name, loaded):
  pixels = np.zeros((8, 8, 3), np.uint8)
  if name != 'paligemma':  # Whose prompts hold none.
    with pytest.raises(ValueError, match='its images need'):
      loaded.generate([pixels], ['a cat'])
  with pytest.raises(ValueError, match=r'2 entries of images .* 1 texts'):
    loaded.generate([pixels, pixels], PROMPTS[name][:1])


@pytest.mark.parametrize(
  ('name', 'section', 'values', 'message'),
  [
    ('gemma3', '', {'mm_tokens_per_image': 8}, 'image is 8, but the 6 x 6 pa'),
    ('gemma3', 'text_config', {'sliding_window': -1}, 'sliding_window is -1'),
    ('idefics3', '', {'scale_factor': 4}, 'factor is 4, which does not divi'),
    ('smolvlm', 'text_config', {'use_resampler': True}, 'resampler is True'),
    ('internvl', '', {'downsample_ratio': 0.0}, 'downsample_ratio is 0.0'),
    ('internvl', 'vision_config', {'use_qk_norm': True}, 'qk_norm is True'),
    (
      'internvl',
      'vision_config',
      {'image_size': [8, 9]},
      r'is \[8, 9\]; mmjax',
    ),
    ('llava', 'text_config', {'model_type': 'mistral'}, "is 'mistral'"),
    ('llava', '', {'vision_feature_layer': [1, 2]}, r'layer is \[1, 2\]'),
    ('llava', '', {'vision_feature_select_strategy': 'x'}, "strategy is 'x'"),
    ('llava_onevision', '', {'vision_aspect_ratio': 'x'}, "ratio is 'x'"),
    ('paligemma', 'text_config', {'model_type': 'gemma3'}, "is 'gemma3'"),
    ('paligemma', '', {'projection_dim': 8}, 'projection_dim is 8, but'),
    ('qwen2_vl', 'vision_config', {'in_channels': 1}, 'in_channels is 1'),
    (
      'qwen2_5_vl',
      'vision_config',
      {'rope_parameters': {'rope_type': 'x'}},
      "rope_type is 'x'",
    ),
    (
      'qwen3_vl',
      'vision_config',
      {'num_position_embeddings': 8},
      'embeddings is 8; mmjax reads squares',
    ),
    (
      'qwen3_vl',
      'vision_config',
      {'deepstack_visual_indexes': [1, 0]},
      r'indexes is \[1, 0\]; mmjax reads',
    ),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, name, section, values, message):
  shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(values)
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)


@pytest.mark.parametrize(
  ('name', 'values', 'message'),
  [
    ('idefics3', {'size': {'height': 3}}, 'size is .* longest_edge alone'),
    ('idefics3', {'max_image_size': {'longest_edge': 7}}, '7x7 pixels, but'),
    ('internvl', {'size': {'height': 24}}, 'size is .* reads height and width'),
    ('internvl', {'min_patches': 9}, 'min_patches is 9 and max_patches 4'),
    (
      'llava_onevision',
      {'image_grid_pinpoints': [[24, 25]]},
      r'pinpoints has \[24, 25\], which is not a multiple of the 24',
    ),
    (
      'llava_onevision',
      {'image_grid_pinpoints': [[24, 24]]},
      'have different image_grid_pinpoints',
    ),
  ],
)
def test_tiles_that_mmjax_does_not_cut(tmp_path, name, values, message):
  shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'preprocessor_config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path).preprocess(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('merge_size', 3, '3, but by config.json .* spatial_merge_size is 2'),
    ('temporal_patch_size', 5, '5, but by config.json'),
  ],
)
def test_patches_that_the_model_does_not_read(tmp_path, key, value, message):
  shutil.copytree(GOLDEN / 'qwen2_vl', tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'preprocessor_config.json'
  settings = json.loads(path.read_text())
  path.write_text(json.dumps({**settings, key: value}))
  with pytest.raises(ConfigError, match=f'{path.name}: {key} is {message}'):
    pretrained.load(tmp_path)


def test_images_that_attend_both_ways_are_not_put_first():
  config = json.loads((GOLDEN / 'gemma3/config.json').read_text())
  module = families.find(config).build_module(config)
  with pytest.raises(ConfigError, match='train it on conversations'):
    models.ImageFirstVisionLanguage.from_interleaved(module)


def test_images_are_encoded_alone():
  loaded = pretrained.load(GOLDEN / 'qwen2_5_vl')
  images = [np.zeros((28, 40, 3), np.uint8), np.zeros((40, 56, 3), np.uint8)]
  patches = loaded.preprocess(images)
  encoded = jax.eval_shape(
    lambda patches: loaded.module.apply(
      {'params': loaded.params}, {'patches': patches}, method='encode_images'
    ),
    patches,
  )
  assert encoded.mask.shape[0] == 2
  number = patches['patches'].shape[1] // loaded.module.vision.merge_size**2
  assert encoded.values.shape[1] == number


def test_images_of_another_size_are_refused(tmp_path):
  shutil.copytree(GOLDEN / 'llava', tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'preprocessor_config.json'
  config = json.loads(path.read_text())
  config['crop_size'] = {'height': 14, 'width': 14}
  path.write_text(json.dumps(config))
  with pytest.raises(
    ConfigError, match=r'images of 14x14 pixels, .* for 21x21'
  ):
    pretrained.load(tmp_path)


@pytest.mark.parametrize('name', vision_language_sizes.SIZES)
def test_published_sizes(name):
  config, number = vision_language_sizes.SIZES[name]
  family = families.find({'model_type': name.partition(' ')[0]})
  shapes = checkpoint.shapes(family.build_module(config), family.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number
