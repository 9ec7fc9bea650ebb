"""Transformers of spectrograms, step by step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

make = functools.partial(
  encoders.AudioTransformer,
  width=8,
  depth=2,
  num_heads=2,
  mlp_dim=7,
  max_length=9,
  positions='learned',
)
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
LENGTHS = (13, 8, 0)
MASK = jnp.arange(13)[None] < jnp.asarray(LENGTHS)[:, None]
SOUND = jnp.asarray(
  np.random.default_rng(0).normal(size=(3, 13, 5)), jnp.float32
)


@pytest.fixture(scope='module')
def variables(draw):
  return draw(make(), SOUND, MASK, train=False)


@functools.cache
def apply(**settings):
  return jax.jit(functools.partial(make(**settings).apply, train=False))


def test_strides_shorten(variables):
  settings = {'strides': (2, 3), 'positions': 'none'}
  out = apply(**settings)(variables, SOUND, MASK)
  assert out.values.shape == (3, 3, 8)
  np.testing.assert_array_equal(out.mask.sum(1), [3, 2, 0])


def test_a_stem_by_hand(variables):
  module = encoders.audio.FrameEmbedding(8, 9, positions='learned')
  params = variables['params']['frames']
  got, _ = module.apply({'params': params}, SOUND[:1], MASK[:1])
  x = np.asarray(SOUND[0])
  for name, stride in (('conv1', 1), ('conv2', 2)):
    kernel, bias = params[name]['kernel'], params[name]['bias']
    padded = np.pad(x, ((1, 1), (0, 0)))
    x = np.stack(
      [
        sum(padded[t + i] @ kernel[i] for i in range(3)) + bias
        for t in range(0, len(x), stride)
      ]
    )
    x = np.asarray(jax.nn.gelu(x, approximate=False))
  close(got[0], x + params['position_table'][:7])


@pytest.mark.parametrize('positions', ['learned', 'fixed'])
def test_only_learned_positions_get_a_gradient(positions, variables):
  def loss(params):
    out = make(positions=positions).apply(
      {'params': params}, SOUND, MASK, train=False
    )
    return jnp.sum(out.pooled[:2] ** 3)

  gradient = jax.jit(jax.grad(loss))(variables['params'])
  reached = jax.tree.map(lambda leaf: bool(jnp.any(leaf != 0)), gradient)
  table = reached['frames'].pop('position_table')
  assert table == (positions == 'learned')
  for path, one in jax.tree.leaves_with_path(reached):
    # Softmax takes away what is added to all keys alike.
    where = jax.tree_util.keystr(path)
    assert one or "['key']['bias']" in where, where


def test_fixed_positions_start_as_sines_and_cosines():
  module = make(positions='fixed', depth=0)
  params = module.init(jax.random.key(0), SOUND, train=False)['params']
  plain = make(positions='sincos', depth=0)
  rest = nn.meta.unbox(params)
  got = module.apply({'params': rest}, SOUND, train=False)
  rest['frames'].pop('position_table')
  close(got.values, plain.apply({'params': rest}, SOUND, train=False).values)


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'max_length': 6}, 'makes 7 tokens, more than max_length 6'),
    ({'positions': 'x'}, r"positions 'x' is unknown; use one of \['learned'"),
    ({'pooling': 'max'}, "pool 'max' is unknown"),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  module = make(**settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: module.init(jax.random.key(0), SOUND, train=False))


patched = functools.partial(
  encoders.SpectrogramTransformer,
  width=8,
  depth=2,
  num_heads=2,
  mlp_dim=7,
  patch_size=3,
  strides=(2, 4),
  num_bands=5,
)


def test_patches_overlap_and_lie_by_band(draw):
  variables = draw(patched(), SOUND, train=False)
  apply = jax.jit(functools.partial(patched().apply, train=False))
  mask = jnp.asarray([True, True, False])
  out = apply(variables, SOUND, mask)
  # (5 - 3) // 2 + 1 bands by (13 - 3) // 4 + 1 frames, and two learned tokens.
  assert out.values.shape == (3, 8, 8)
  np.testing.assert_array_equal(out.mask, np.repeat(mask[:, None], 8, axis=1))
  close(out.pooled[:2], out.values[:2, :2].mean(axis=1))
  spoilt = apply(variables, jnp.where(mask[:, None, None], SOUND, 1e4), mask)
  close(out.values[:2], spoilt.values[:2])
  params = variables['params']['patches']
  x = patched(depth=0, final_norm=False).apply(variables, SOUND, train=False)
  patch = SOUND[0, 4:7, 2:5].T  # The second band's second frame.
  kernel = params['projection']['kernel'][:, :, 0]
  want = jnp.einsum('mf,mfd->d', patch, kernel) + params['projection']['bias']
  close(x.values[0, 6], want + params['position_table'][6])
  start = params['class_token'][0] + params['position_table'][0]
  close(x.values[0, 0], start)


def test_without_learned_tokens_patches_are_averaged(draw):
  module = patched(tokens=())
  out = module.apply(draw(module, SOUND, train=False), SOUND, train=False)
  close(out.pooled, out.values.mean(axis=1))


def test_a_patch_fits_in():
  with pytest.raises(ValueError, match=r'patch of 6 is larger than .*13, 5'):
    jax.eval_shape(
      lambda: patched(patch_size=6).init(jax.random.key(0), SOUND, train=False)
    )


def test_padding_is_silence_or_a_value():
  module = encoders.FromSamples(patched(), fills_silence=True, padding=0.0)
  samples = jnp.zeros((1, 800))
  with pytest.raises(ValueError, match=r'padding=0.0 both say what padding is'):
    jax.eval_shape(lambda: module.init(jax.random.key(0), samples, train=False))
