"""Image encoders: as transformers computed them, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import checkpoint, families, tensors

GOLDEN = Path(__file__).parent / 'golden'
NAMES = ('vit', 'dinov2', 'dinov2_with_registers', 'resnet')
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module', params=NAMES)
def golden(request):
  return GOLDEN / request.param


@pytest.fixture(scope='module')
def loaded(golden):
  return pretrained.load(golden)


def test_outputs_are_those_of_transformers(golden, loaded):
  expected = np.load(golden / 'expected.npz')
  pixels = expected['pixels']
  images = [pixels, pixels[:, ::-1]]
  if 'tokens' in expected:
    tokens = loaded.encode_image(images)
    close(tokens.values, expected['tokens'])
    close(tokens.pooled, expected['pooled'])
    with pytest.raises(ValueError, match='checkpoint has no classifier'):
      loaded.classify(images)
    return
  logits = expected['logits']
  close(loaded.class_logits(images), logits)
  found = loaded.classify(images, top=3)
  names = ['tench', 'goldfish', 'great white shark']
  assert [one[0][0] for one in found] == [names[i] for i in logits.argmax(1)]
  for row, pairs in zip(logits, found, strict=True):
    chances = np.sort(np.exp(row) / np.exp(row).sum())[::-1]
    close([chance for _, chance in pairs], chances)


def test_what_is_saved_is_what_was_loaded(golden, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(golden), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def vit_config(width, mlp_dim, depth, heads, patch_size, **more):
  return {
    'model_type': 'vit',
    'hidden_size': width,
    'intermediate_size': mlp_dim,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
    'patch_size': patch_size,
    **more,
  }


def dinov2_config(width, depth, heads, **more):
  return {
    'model_type': 'dinov2',
    'hidden_size': width,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
    'image_size': 518,
    'patch_size': 14,
    **more,
  }


def resnet_config(depths, **more):
  return {
    'model_type': 'resnet',
    'architectures': ['ResNetForImageClassification'],
    'id2label': _CLASSES,
    'depths': depths,
    **more,
  }


_CLASSES = {str(i): str(i) for i in range(1000)}
_SORTS = {'architectures': ['ViTForImageClassification'], 'id2label': _CLASSES}
_REGISTERS = {'model_type': 'dinov2_with_registers'}
_BASE, _LARGE = (768, 3072, 12, 12, 16), (1024, 4096, 24, 16, 16)
# Parameters of the published checkpoints.
SIZES = {
  'vit B/16-224': (vit_config(*_BASE, **_SORTS), 86_567_656),
  'vit B/16-384': (vit_config(*_BASE, image_size=384, **_SORTS), 86_859_496),
  'vit L/16-224': (vit_config(*_LARGE, **_SORTS), 304_326_632),
  'vit L/16-384': (vit_config(*_LARGE, image_size=384, **_SORTS), 304_715_752),
  'vit B/16-224 in21k': (vit_config(*_BASE), 86_389_248),
  'vit H/14-224 in21k': (vit_config(1280, 5120, 32, 16, 14), 632_404_480),
  'dinov2 S': (dinov2_config(384, 12, 6), 22_056_576),
  'dinov2 B': (dinov2_config(768, 12, 12), 86_580_480),
  'dinov2 L': (dinov2_config(1024, 24, 16), 304_368_640),
  'dinov2 g': (dinov2_config(1536, 40, 24, use_swiglu_ffn=True), 1_136_480_768),
  'dinov2 B classes': (
    dinov2_config(
      768,
      12,
      12,
      architectures=['Dinov2ForImageClassification'],
      id2label=_CLASSES,
    ),
    88_117_480,
  ),
  'registers S': (dinov2_config(384, 12, 6, **_REGISTERS), 22_058_112),
  'registers B': (dinov2_config(768, 12, 12, **_REGISTERS), 86_583_552),
  'registers L': (dinov2_config(1024, 24, 16, **_REGISTERS), 304_372_736),
  'registers g': (
    dinov2_config(1536, 40, 24, use_swiglu_ffn=True, **_REGISTERS),
    1_136_486_912,
  ),
}


# Their statistics are parameters here, and buffers there: 4,800 channels in
# ResNet-18, 26,560 in ResNet-50 and 52,672 in ResNet-101.
_BASIC = {'layer_type': 'basic', 'hidden_sizes': [64, 128, 256, 512]}
SIZES |= {
  'resnet 18': (
    resnet_config([2, 2, 2, 2], **_BASIC),
    11_689_512 + 2 * 4_800,
  ),
  'resnet 50': (resnet_config([3, 4, 6, 3]), 25_557_032 + 2 * 26_560),
  'resnet 101': (resnet_config([3, 4, 23, 3]), 44_549_160 + 2 * 52_672),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  config, number = SIZES[name]
  family = families.find(config)
  shapes = checkpoint.shapes(family.build_module(config), family.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


@pytest.mark.parametrize(
  ('name', 'values', 'message'),
  [
    (
      'vit',
      {'architectures': ['ViTMSNModel']},
      r"architectures is \['ViTMSNModel'\]",
    ),
    ('vit', {'pooler_output_size': 5}, 'pooler_output_size is 5; mmjax reads'),
    ('vit', {'image_size': [21, 21]}, r'image_size is \[21, 21\]'),
    ('vit', {'id2label': {'0': 'cat'}}, r'classifier.weight is \[3, 12\]'),
    ('dinov2', {'architectures': ['Dinov2Backbone']}, "'Dinov2Backbone'"),
    ('dinov2', {'use_mask_token': False}, 'mask_token is left over'),
    ('dinov2', {'use_swiglu_ffn': False}, r'mlp.fc1.weight .* is missing'),
    ('resnet', {'hidden_sizes': [16, 40]}, r'hidden_sizes is \[16, 40\]; mmj'),
    ('resnet', {'layer_type': 'wide'}, "layer_type is 'wide'; mmjax knows"),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, name, values, message):
  shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)
