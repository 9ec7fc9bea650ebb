"""The transformer of frames, step by step."""

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
    ({'chunk': 5}, 'chunk is 5, but should be 0 or a multiple of the 2'),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  module = make(**settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: module.init(jax.random.key(0), SOUND, train=False))


def test_chunks_are_encoded_by_themselves(draw):
  """Each as if it were a whole sound, the last one with its padding."""
  settings = {'chunk': 4, 'max_length': 2}
  variables = draw(make(**settings), SOUND, MASK, train=False)
  got = apply(**settings)(variables, SOUND, MASK)
  assert got.values.shape == (3, 7, 8)
  np.testing.assert_array_equal(got.mask.sum(1), [7, 4, 0])
  alone = apply(max_length=2)
  for first in range(0, 13, 4):
    at = slice(first, first + 4)
    want = alone(variables, SOUND[:, at], MASK[:, at]).values
    real = MASK[:, at][:, ::2]
    tokens = got.values[:, first // 2 : first // 2 + want.shape[1]]
    close(tokens[real], want[real])
  merged = apply(**settings, merged=2, final_norm=False)(variables, SOUND, MASK)
  plain = apply(**settings, final_norm=False)(variables, SOUND, MASK)
  close(merged.values[0, 1], plain.values[0, 2:4].mean(axis=0))
  assert merged.values.shape == (3, 3, 8)
