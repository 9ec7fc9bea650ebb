"""A small one of every encoder, and inputs of every kind."""

import functools

import jax.numpy as jnp
import numpy as np

from mmjax import encoders

SMALL = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
text = functools.partial(encoders.Transformer, 11, max_length=7)
vit = functools.partial(encoders.ViT, 3)


def _normal(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _lengths(longest, *lengths):
  return jnp.arange(longest)[None] < jnp.asarray(lengths)[:, None]


EXAMPLES = jnp.asarray([True, True, False])
# Kind -> inputs and mask: one example is all real, one partly, if its mask can
# say so, and one not at all.
INPUTS = {
  'text': (
    jnp.asarray([[1, 5, 7, 3, 9], [1, 4, 2, 0, 0], [0, 0, 0, 0, 0]]),
    _lengths(5, 5, 3, 0),
  ),
  'image': (_normal(3, 12, 9, 3), EXAMPLES),
  'sound': (_normal(3, 13, 5), _lengths(13, 13, 8, 0)),
  'whole_sound': (_normal(3, 13, 5), EXAMPLES),
  'video': (_normal(3, 4, 6, 9, 3), _lengths(4, 4, 2, 0)),
  # With a gap.
  'series': (_normal(3, 13, 2), _lengths(13, 13, 8, 0).at[1, 2:4].set(False)),
  'points': (_normal(3, 7, 5), _lengths(7, 7, 4, 0)),
  'table': (
    {
      'numbers': _normal(3, 2),
      'categories': jnp.asarray([[0, 4], [1, 2], [0, 0]]),
    },
    {'numbers': _lengths(2, 2, 1, 0), 'categories': _lengths(2, 2, 1, 0)},
  ),
}
# Kinds of which an example may be longer than its content.
SEQUENCES = ('text', 'sound', 'series', 'points')
# Name -> kind of input, encoder, number N and width D of its tokens.
ROWS = {
  'bert': (
    'text',
    functools.partial(text, pooling='attention', embed_norm=True, **SMALL),
    (5, 8),
  ),
  'clip': (
    'text',
    functools.partial(text, causal=True, positions='sincos', **SMALL),
    (5, 8),
  ),
  'bag': (
    'text',
    functools.partial(
      text, positions='none', pooling='mean', **{**SMALL, 'depth': 0}
    ),
    (5, 8),
  ),
  't5': (
    'text',
    functools.partial(
      text,
      positions='none',
      relative={'buckets': 8, 'max_distance': 6},
      pooling='mean',
      block={'norm': 'rmsnorm', 'attention_scale': 1.0},
      **SMALL,
    ),
    (5, 8),
  ),
  'gru': (
    'text',
    functools.partial(encoders.Recurrent, 11, 8, depth=2, bidirectional=True),
    (5, 8),
  ),
  'lstm': (
    'text',
    functools.partial(encoders.Recurrent, 11, 8, cell='lstm', pooling='mean'),
    (5, 8),
  ),
  # Patches of 3 x 3 pixels.
  'vit': (
    'image',
    functools.partial(vit, positions='sincos2d', **SMALL),
    (12, 8),
  ),
  'clip_vit': (
    'image',
    functools.partial(
      vit,
      position_grid=(4, 3),
      class_token=True,
      pooling='first',
      patch_bias=False,
      pre_norm=True,
      scan=False,
      **SMALL,
    ),
    (13, 8),
  ),
  'siglip': (
    'image',
    functools.partial(vit, pooling='attention', positions='none', **SMALL),
    (12, 8),
  ),
  'dinov2': (
    'image',
    functools.partial(
      vit,
      position_grid=(2, 2),
      class_token=True,
      registers=2,
      mask_token=True,
      pooling='first',
      pool_activation='tanh',
      block={'layer_scale': 1.0},
      **SMALL,
    ),
    (15, 8),
  ),
  'siglip2': (
    'image',
    functools.partial(
      encoders.FlexibleViT, position_grid=(2, 2), patch_size=3, **SMALL
    ),
    (12, 8),
  ),
  'qwen2_vl': (
    'image',
    functools.partial(
      encoders.PackedViT, out_width=5, patch_size=3, merge_size=1, **SMALL
    ),
    (12, 5),
  ),
  # Cells of the last feature map: halvings round up.
  'resnet': (
    'image',
    functools.partial(
      encoders.ResNet, (1, 1), 16, norm='frozen_batch', positions=True
    ),
    (4, 128),
  ),
  'efficientnet': (
    'image',
    functools.partial(
      encoders.EfficientNet,
      5,
      widths=(6, 7),
      repeats=(2, 1),
      kernel_sizes=(3, 5),
      strides=(1, 2),
      expansions=(1, 3),
      even_pads=(2,),
    ),
    (6, 7),
  ),
  'small_resnet': (
    'image',
    functools.partial(encoders.ResNet, (1, 1), 16, block='basic', stem='small'),
    (30, 32),
  ),
  'plain_resnet': (
    'image',
    functools.partial(
      encoders.ResNet,
      (1, 1),
      16,
      block='plain',
      stem='patch',
      patch_size=3,
      norm='none',
    ),
    (4, 32),
  ),
  'whisper': (
    'sound',
    functools.partial(
      encoders.AudioTransformer, max_length=9, positions='learned', **SMALL
    ),
    (7, 8),
  ),
  # 2 bands by 3 frames, and two learned tokens.
  'ast': (
    'whole_sound',
    functools.partial(
      encoders.SpectrogramTransformer,
      patch_size=3,
      strides=(2, 4),
      num_bands=5,
      **SMALL,
    ),
    (8, 8),
  ),
  # Tubelets of 2 frames and 3 x 3 pixels.
  'videomae': (
    'video',
    functools.partial(
      encoders.VideoTransformer, 3, 2, 4, pool_norm_epsilon=1e-5, **SMALL
    ),
    (12, 8),
  ),
  'vgg': (
    'image',
    functools.partial(
      encoders.VGG, (2, 1), 16, 16, norm='frozen_batch', positions=True
    ),
    (6, 16),
  ),
  'googlenet': (
    'image',
    functools.partial(
      encoders.Inception,
      (((8, 8, 8, 8, 8, 16),), ((16, 8, 8, 8, 8, 8),)),
      8,
    ),
    (1, 40),
  ),
  # 2 channels of 6 patches.
  'patchtst': (
    'series',
    functools.partial(encoders.PatchedSeries, 4, stride=2, **SMALL),
    (12, 8),
  ),
  'mixed_patches': (
    'series',
    functools.partial(
      encoders.PatchedSeries,
      4,
      stride=4,
      channels='mixed',
      instance_norm=False,
      **SMALL,
    ),
    (4, 8),
  ),
  'tcn': (
    'series',
    functools.partial(encoders.TemporalConvNet, 8, 2, 2),
    (13, 8),
  ),
  'recurrent_series': (
    'series',
    functools.partial(encoders.RecurrentSeries, 8, 2, bidirectional=True),
    (13, 8),
  ),
  'ft_transformer': (
    'table',
    functools.partial(
      encoders.TableTransformer, category_sizes=(3, 5), **SMALL
    ),
    (5, 8),
  ),
  'table_mlp': (
    'table',
    functools.partial(
      encoders.TableMlp, 8, depth=2, mlp_dim=7, category_sizes=(3, 5)
    ),
    (1, 8),
  ),
  'timesformer': (
    'video',
    functools.partial(
      encoders.DividedVideoTransformer, 3, 4, position_grid=(2, 3), **SMALL
    ),
    (24, 8),
  ),
  'mean_frames': (
    'video',
    functools.partial(
      encoders.FrameEncoder,
      encoders.ResNet((1,), 16, block='basic', stem='small'),
      16,
    ),
    (4, 16),
  ),
  # Tubelets of 2 frames.
  'vivit': (
    'video',
    functools.partial(
      encoders.FactorisedVideoTransformer,
      3,
      2,
      time_depth=1,
      position_grid=(2, 3),
      **SMALL,
    ),
    (2, 8),
  ),
  'set_transformer': (
    'points',
    functools.partial(encoders.SetTransformer, num_inducing=3, **SMALL),
    (7, 8),
  ),
  'pointnet': (
    'points',
    functools.partial(
      encoders.PointNet,
      (5,),
      (6, 8),
      input_transform=True,
      feature_transform=True,
      transform_widths=(7,),
      transform_hidden=(6,),
    ),
    (7, 8),
  ),
  'panns': (
    'sound',
    functools.partial(encoders.AudioConvNet, (16, 16, 16)),
    (4, 16),
  ),
}
