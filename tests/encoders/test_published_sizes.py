"""Full-size encoders have as many parameters as their papers say."""

import jax
import jax.numpy as jnp
import pytest

from mmjax import encoders, presets

# He et al. 2016 without the last layer, as torchvision counts: 23,508,032
# weights, norm scales and biases. Frozen statistics are as many as scales and
# biases: 2 * 26,560.
RESNET_50 = 23_508_032
RESNET_50_NORMS = 53_120
# Of torchvision's and timm's models, without the last layers of 1,000 outputs.
OTHER_PRESETS = {
  'resnet34': 21_797_672 - 513_000,
  'resnet101': 44_549_160 - 2_049_000,
  'resnet152': 60_192_808 - 2_049_000,
  'vit-s16': 22_050_664 - 385_000,
  'vit-b32': 88_224_232 - 769_000,
  'vit-l16': 304_326_632 - 1_025_000,
  'vit-l14': 304_203_752 - 1_025_000,
  'vit-h14': 632_045_800 - 1_281_000,
}
# Keras' counts of the published weights without their dense layers.
VGG_16, VGG_19 = 14_714_688, 20_024_384
# The published Caffe weights have 6,998,552, of which the classifier 1,025,000.
GOOGLENET = 5_973_552
# Bias-free 3x3 convolutions: 3 -> 64, then two a stage.
PLAIN = 9 * (3 * 64 + 64 * 64 * 2 + 64 * 128 + 128 * 128)


def count(module, side=224):
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  init = lambda key, images: module.init(key, images, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), images)
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _preset(name):
  settings = dict(presets.PRESETS[name])
  return encoders.ENCODERS['image'][settings.pop('name')](**settings)


@pytest.mark.parametrize(
  'module, expected',
  [
    (_preset('resnet50'), RESNET_50),
    (encoders.ResNet(norm='frozen_batch'), RESNET_50 + RESNET_50_NORMS),
    (_preset('resnet18'), 11_176_512),
    (_preset('vit-b16'), 85_798_656),
    (
      encoders.ResNet((1, 1), block='plain', stem='small', norm='none'),
      PLAIN,
    ),
    (encoders.VGG(norm='none'), VGG_16),
    (encoders.VGG((2, 2, 4, 4, 4), norm='none'), VGG_19),
    (encoders.Inception(norm='none'), GOOGLENET),
  ],
  ids=[
    'resnet50',
    'resnet50_frozen',
    'resnet18',
    'vit_b16',
    'plain',
    'vgg16',
    'vgg19',
    'googlenet',
  ],
)
def test_published_sizes(module, expected):
  assert count(module) == expected


@pytest.mark.parametrize('name', OTHER_PRESETS)
def test_presets_have_their_published_sizes(name):
  assert count(_preset(name)) == OTHER_PRESETS[name]


def test_there_are_sizes_of_all_presets():
  assert {*presets.PRESETS} == {
    *OTHER_PRESETS,
    *('resnet18', 'resnet50', 'vit-b16'),
  }


def test_resnet_50_halves_five_times():
  images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  out, _ = jax.eval_shape(
    lambda images: encoders.ResNet().init_with_output(
      jax.random.key(0), images, train=False
    ),
    images,
  )
  assert out.values.shape == (1, 7 * 7, 2048)


def test_cnn14_has_its_published_size():
  module = encoders.AudioConvNet(norm='none')
  sound = jax.ShapeDtypeStruct((1, 1001, 64), jnp.float32)
  out, variables = jax.eval_shape(
    lambda x: module.init_with_output(jax.random.key(0), x, train=False), sound
  )
  assert out.values.shape == (1, 32, 2048)
  size = sum(leaf.size for leaf in jax.tree.leaves(variables))
  norms = 2 * 2 * sum(module.widths)
  # Of 80,753,615 (Kong et al. 2020), without two dense layers and the norm of
  # the 64 bands.
  dense = 2048 * 2048 + 2048 + 2048 * 527 + 527
  assert size + norms == 80_753_615 - dense - 2 * 64
