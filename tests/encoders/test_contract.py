"""What every encoder keeps to: a row of `ROWS` each."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders
from mmjax.parallel import rules

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
}
# Kinds of which an example may be longer than its content.
SEQUENCES = ('text', 'sound')
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
      encoders.PackedViT, out_width=5, patch_size=3, merge=1, **SMALL
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
      encoders.SpectrogramTransformer, patch_size=3, strides=(2, 4), **SMALL
    ),
    (8, 8),
  ),
  # Tubelets of 2 frames and 3 x 3 pixels.
  'videomae': (
    'video',
    functools.partial(encoders.VideoTransformer, 3, 2, 4, **SMALL),
    (12, 8),
  ),
}
every_encoder = pytest.mark.parametrize('name', ROWS)
# Parameters without a gradient: what is added to all keys alike (the softmax
# takes it away), fixed statistics, a token of patches that are masked.
UNREACHED = ("['key']['bias']", "['mean']", "['var']", 'mask_token')
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def spoil(values, mask):
  """Values with NaN, or the last id, where `mask` is False."""
  if isinstance(values, dict):
    return {key: spoil(part, mask[key]) for key, part in values.items()}
  garbage = jnp.nan if values.dtype == jnp.float32 else 10
  mask = mask.reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim))
  return jnp.where(mask, values, jnp.asarray(garbage, values.dtype))


def holds(mask):
  """Which examples hold anything, [B]."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mask)]
  return np.any([leaf.reshape(len(leaf), -1).any(1) for leaf in leaves], axis=0)


def test_every_encoder_has_a_row():
  classes = {
    name: cls
    for kind in encoders.ENCODERS.values()
    for name, cls in kind.items()
  }
  tested = {type(make()) for _, make, _ in ROWS.values()}
  assert set(classes.values()) <= tested
  assert len(set(classes)) == len(set(classes.values()))
  for kind in encoders.ENCODERS.values():
    assert all(classes[name] is cls for name, cls in kind.items())


@pytest.mark.slow
@every_encoder
def test_masked_inputs_change_neither_tokens_nor_gradients(name, draw):
  kind, make, (length, width) = ROWS[name]
  module, (inputs, mask) = make(), INPUTS[kind]
  params = draw(module, inputs, mask, train=False)['params']

  @jax.jit
  def run(inputs):
    def loss(params):
      out = module.apply({'params': params}, inputs, mask, train=False)
      kept = jnp.where(out.mask[:, :, None], out.values, 0.0)
      return jnp.sum(kept**3) + jnp.sum(out.pooled[:2] ** 3), out

    return jax.grad(loss, has_aux=True)(params)

  gradient, out = run(inputs)
  assert out.values.shape == (3, length, width)
  assert out.mask.shape == (3, length) and out.mask.dtype == bool
  assert out.pooled.shape == (3, width)
  np.testing.assert_array_equal(np.any(out.mask, axis=1), holds(mask))
  assert np.all(out.mask[0])
  # Also where there is nothing: gradients go through it.
  for leaf in jax.tree.leaves((out, gradient)):
    assert np.all(np.isfinite(leaf))
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    if not any(part in where for part in UNREACHED):
      assert np.any(leaf != 0), where

  spoilt_gradient, spoilt = run(spoil(inputs, mask))
  np.testing.assert_array_equal(spoilt.mask, out.mask)
  real = np.asarray(out.mask)
  close(np.asarray(spoilt.values)[real], np.asarray(out.values)[real])
  close(spoilt.pooled[:2], out.pooled[:2])
  for leaf in jax.tree.leaves(spoilt):
    assert np.all(np.isfinite(leaf))
  jax.tree.map(close, spoilt_gradient, gradient)


@pytest.mark.slow
@pytest.mark.parametrize('name', [n for n in ROWS if ROWS[n][0] in SEQUENCES])
def test_more_padding_changes_nothing(name, draw):
  kind, make, _ = ROWS[name]
  module, (inputs, mask) = make(), INPUTS[kind]
  variables = draw(module, inputs, mask, train=False)
  out = module.apply(variables, inputs, mask, train=False)
  pads = ((0, 0), (0, 2), *((0, 0) for _ in inputs.shape[2:]))
  longer = module.apply(
    variables,
    jnp.pad(inputs, pads, constant_values=10),
    jnp.pad(mask, pads[:2]),
    train=False,
  )
  close(longer.pooled[:2], out.pooled[:2])
  for values, mask, more, longer_mask in zip(
    out.values, out.mask, longer.values, longer.mask, strict=True
  ):
    close(more[longer_mask], values[mask])


@every_encoder
def test_bfloat16_computes_with_float32_parameters_that_name_their_axes(name):
  kind, make, _ = ROWS[name]
  module = make(dtype=jnp.bfloat16)
  out, boxed = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0), *INPUTS[kind], train=False
    )
  )
  assert out.values.dtype == out.pooled.dtype == jnp.bfloat16
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  for path, leaf in jax.tree.leaves_with_path(boxed['params'], is_leaf=is_box):
    assert is_box(leaf), jax.tree_util.keystr(path)
    assert leaf.value.dtype == jnp.float32
    assert len(leaf.names) == len(leaf.value.shape)
    rules.spec(leaf.names)  # Refuses unknown names.


@every_encoder
def test_intermediates_are_named(name):
  kind, make, _ = ROWS[name]
  _, collected = jax.eval_shape(
    lambda: make().init_with_output(
      jax.random.key(0),
      *INPUTS[kind],
      train=False,
      mutable=['params', 'intermediates'],
    )
  )
  names = {
    path[-2].key
    for path, _ in jax.tree.leaves_with_path(collected['intermediates'])
  }
  assert 'pooled' in names
  # An encoder of no depth has no blocks.
  assert 'output' in names or getattr(make(), 'depth', 1) == 0
