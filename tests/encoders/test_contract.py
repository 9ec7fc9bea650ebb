"""What every encoder keeps to, those of `every_encoder.ROWS`."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders
from mmjax.errors import ConfigError
from mmjax.parallel import rules
from tests.encoders.every_encoder import INPUTS, ROWS, SEQUENCES

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


@pytest.mark.parametrize(
  'name', [n for n in ROWS if ROWS[n][0] in ('image', 'video')]
)
def test_pixels_of_files_are_refused(name):
  kind, make, _ = ROWS[name]
  inputs, mask = INPUTS[kind]
  pixels = inputs.astype(jnp.uint8)
  with pytest.raises(ConfigError, match=r'pixels are uint8, but .*normalise'):
    jax.eval_shape(
      lambda: make().init(jax.random.key(0), pixels, mask, train=False)
    )


@every_encoder
def test_a_mask_of_another_shape_is_refused(name):
  kind, make, _ = ROWS[name]
  inputs, mask = INPUTS[kind]
  mask = jax.tree.map(lambda leaf: leaf[..., None], mask)
  with pytest.raises(ConfigError, match=r'the mask of .* is \[B.*\], here \[3'):
    jax.eval_shape(
      lambda: make().init(jax.random.key(0), inputs, mask, train=False)
    )


@pytest.mark.parametrize(
  'name, settings, message',
  [
    (
      'vgg',
      {'stages': (1,) * 4},
      'of 12 x 9 pixels are too small for 4',
    ),
    ('vgg', {'norm': 'batch'}, "norm 'batch' is unknown"),
    (
      'vgg',
      {'norm': 'group', 'max_width': 8},
      'width 8 is not div',
    ),
    ('googlenet', {'stages': (((8, 8),),)}, r'\[8, 8\]; give it 6 numbers'),
    ('panns', {'widths': (16, 5)}, 'width 5 is not divisible by the 16'),
    ('panns', {'pooling': 'max'}, "pool 'max' is unknown"),
    ('patchtst', {'stride': 5}, 'stride 5 is more than patch_size 4'),
    ('patchtst', {'channels': 'x'}, "channels 'x' is unknown"),
    ('patchtst', {'max_length': 5}, 'makes 6 tokens, more than 5'),
    ('patchtst', {'positions': 'x'}, "positions 'x' is unknown"),
    ('timesformer', {'num_frames': 3}, 'has 4 frames, but num_frames is 3'),
    (
      'timesformer',
      {'position_grid': None},
      r'2 x 3 .* position_grid=\(2, 3\)',
    ),
    ('vivit', {'position_grid': None}, r'2 x 3 .* position_grid=\(2, 3\)'),
    ('clip_vit', {'position_grid': None}, r'4 x 3 .* position_grid=\(4, 3\)'),
    ('ast', {'num_bands': 4}, 'has 5 bands, but num_bands is 4; make'),
    ('pointnet', {'norm': 'batch'}, "norm 'batch' is unknown"),
    ('recurrent_series', {'cell': 'x'}, "cell 'x' is unknown"),
  ],
)
def test_impossible_settings_are_refused(name, settings, message):
  kind, make, _ = ROWS[name]
  module = make().clone(**settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), *INPUTS[kind], train=False)
    )


@pytest.mark.slow
def test_eight_devices_compute_what_one_computes(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')
