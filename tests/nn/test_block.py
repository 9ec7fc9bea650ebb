"""One block: its published settings, its arithmetic and its masks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.parallel import rules

# The table of Block's docstring.
LLAMA = {
  'norm': 'rmsnorm',
  'activation': 'silu',
  'gated': True,
  'rope_theta': 1e4,
  'attention_bias': False,
  'mlp_bias': False,
}
PUBLISHED = {
  'vit': {},
  'gpt2': {'activation': 'gelu_tanh'},
  'clip': {'activation': 'quick_gelu'},
  'bert': {'norm_position': 'post', 'norm_epsilon': 1e-12},
  'siglip': {'activation': 'gelu_tanh'},
  'whisper': {'attention_bias': ('query', 'value', 'out')},
  'llama': LLAMA,
  'qwen2': {**LLAMA, 'attention_bias': ('query', 'key', 'value')},
  'qwen3': {**LLAMA, 'qk_norm': 'rmsnorm'},
}
EVERYTHING = {
  'cross_attention': True,
  'num_kv_heads': 2,
  'head_dim': 6,
  'qk_norm': 'layernorm',
  'rope_theta': 1e4,
  'layer_scale': 0.1,
  'gated': True,
}
# Sums in another order, in float32.
TOLERANCE = {'rtol': 1e-5, 'atol': 1e-5}


def block(**settings):
  return mnn.Block(8, 4, 11, **settings)


def tokens(length=5, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(2, length, 8)), jnp.float32)


CONTEXT = mnn.Context(tokens(3))


def run(module, variables, *inputs, **settings):
  apply = functools.partial(module.apply, train=False, **settings)
  return jax.jit(apply)(variables, *inputs)


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_settings_have_their_parameters(name):
  shapes = jax.eval_shape(
    lambda: block(**PUBLISHED[name]).init(
      jax.random.key(0), tokens(), train=False
    )
  )
  params = nn.meta.unbox(shapes)['params']
  attention, mlp = params['attention'], params['mlp']
  biased = {
    part for part in mnn.attention.PROJECTIONS if 'bias' in attention[part]
  }
  expected = {
    'whisper': {'query', 'value', 'out'},
    'llama': set(),
    'qwen2': {'query', 'key', 'value'},
    'qwen3': set(),
  }
  assert biased == expected.get(name, set(mnn.attention.PROJECTIONS))
  modern = name in ('llama', 'qwen2', 'qwen3')
  assert ('gate' in mlp) == modern
  assert ('bias' in mlp['up']) != modern
  assert ('bias' in params['mlp_norm']) != modern
  assert ('query_norm' in attention) == (name == 'qwen3')


@pytest.mark.parametrize('name', ['bert', 'qwen3'])
def test_published_settings_run(name, draw):
  module, x = block(**PUBLISHED[name]), tokens()
  y, cache = run(module, draw(module, x, train=False), x)
  assert y.shape == (2, 5, 8)
  assert cache is None
  assert np.all(np.isfinite(y))


def silent(params):
  """Only biases of the branches: attention adds 0.25, the MLP 0.5."""
  params = jax.tree.map(jnp.zeros_like, params)
  for name in ('attention_norm', 'mlp_norm'):
    params[name]['scale'] = jnp.ones(8)
  params['attention']['out']['bias'] = jnp.full(8, 0.25)
  params['mlp']['down']['bias'] = jnp.arange(8.0)
  return params


def normalised(x):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(
    x.var(-1, keepdims=True) + 1e-6
  )


def test_pre_norm_leaves_the_residual_alone(draw):
  module, x = block(), tokens()
  params = silent(draw(module, x, train=False)['params'])
  y, _ = run(module, {'params': params}, x)
  np.testing.assert_allclose(
    y, np.asarray(x) + 0.25 + np.arange(8.0), **TOLERANCE
  )


def test_post_norm_normalises_the_sums(draw):
  module, x = block(norm_position='post'), tokens()
  params = silent(draw(module, x, train=False)['params'])
  y, _ = run(module, {'params': params}, x)
  after_attention = normalised(np.asarray(x) + 0.25)
  expected = normalised(after_attention + np.arange(8.0))
  np.testing.assert_allclose(y, expected, **TOLERANCE)


def test_layer_scale_shrinks_branches(draw):
  module, x = block(layer_scale=0.5), tokens()
  params = draw(module, x, train=False)['params']
  scales = {name: jnp.full(8, 0.5) for name in params if 'scale' in name}
  assert sorted(scales) == ['attention_scale', 'mlp_scale']
  params = {**silent(params), **scales}
  y, _ = run(module, {'params': params}, x)
  np.testing.assert_allclose(
    y, np.asarray(x) + 0.125 + np.arange(8.0) / 2, **TOLERANCE
  )


def test_padding_changes_nothing_and_order_neither(draw):
  module, x = block(), tokens()
  params = draw(module, x, train=False)
  mask = jnp.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
  apply = jax.jit(
    lambda x, mask: module.apply(
      params, x, visible=mnn.Visible(mask[:, None]), train=False
    )[0]
  )
  y = apply(x, mask)
  garbage = jnp.where(mask[:, :, None], x, 1e4)
  np.testing.assert_array_equal(
    jnp.where(mask[:, :, None], apply(garbage, mask), 0),
    jnp.where(mask[:, :, None], y, 0),
  )
  short, _ = run(module, params, x[:1, :3])
  np.testing.assert_allclose(y[:1, :3], short, **TOLERANCE)
  order = np.asarray([3, 0, 4, 1, 2])
  np.testing.assert_allclose(
    apply(x[:, order], mask[:, order]), y[:, order], **TOLERANCE
  )


def test_cross_attention_ignores_a_masked_context(draw):
  module, x = block(cross_attention=True), tokens()
  context, mask = tokens(3, seed=1), jnp.asarray([[True, False, True]])
  params = draw(module, x, mnn.Context(context), train=False)
  apply = jax.jit(
    lambda c: module.apply(params, x, mnn.Context(c, mask), train=False)[0]
  )
  spoilt = context.at[:, 1].set(jnp.nan)
  np.testing.assert_array_equal(apply(context), apply(spoilt))
  assert not np.allclose(apply(context), apply(context.at[:, 0].set(0.0)))


def test_without_self_attention_tokens_do_not_depend_on_each_other(draw):
  module, x = block(self_attention=False, cross_attention=True), tokens()
  context = mnn.Context(tokens(3, seed=1))
  params = draw(module, x, context, train=False)
  apply = lambda x: module.apply(params, x, context, train=False)[0]
  changed = np.asarray(apply(x) != apply(x.at[:, 1, 0].add(1.0)))
  assert changed.any(axis=(0, 2)).nonzero()[0].tolist() == [1]


def test_an_optional_context_is_done_without(draw):
  crossing = {'cross_attention': True, 'norm_position': 'post'}
  x, context = tokens(), mnn.Context(tokens(3, seed=1))
  module = block(**crossing, context_optional=True)
  params = draw(module, x, context, train=False)
  parts = {k: v for k, v in params['params'].items() if 'cross' not in k}
  want, _ = block(norm_position='post').apply({'params': parts}, x, train=False)
  got, _ = module.apply(params, x, train=False)
  np.testing.assert_array_equal(got, want)
  strict = block(**crossing)
  with pytest.raises(ValueError, match='neither a context nor a cache'):
    strict.apply(params, x, train=False)


def test_a_context_without_cross_attention_is_refused():
  with pytest.raises(ValueError, match='cross_attention is False'):
    block().init(jax.random.key(0), tokens(), CONTEXT, train=False)


def test_drop_path_skips_whole_branches_and_keeps_the_mean(draw):
  module = block()
  x = jnp.zeros((1000, 1, 8))
  params = silent(draw(module, x, train=False)['params'])
  apply = jax.jit(
    lambda train, rate: module.apply(
      {'params': params},
      x,
      drop_path=rate,
      train=train,
      rngs={'dropout': jax.random.key(1)},
    )[0],
    static_argnums=0,
  )
  np.testing.assert_allclose(
    apply(False, 0.2)[0, 0], 0.25 + np.arange(8.0), **TOLERANCE
  )
  y = np.asarray(apply(True, 0.2))[:, 0]
  # Feature 0 tells of attention alone: 0, or 0.25 / 0.8.
  assert set(np.round(y[:, 0], 4).tolist()) == {0.0, 0.3125}
  # Five standard deviations of a mean of 1000: 5 * 0.4 / sqrt(1000).
  assert abs(np.mean(y[:, 0] > 0) - 0.8) < 0.064
  # Both branches are skipped on their own.
  shares = [np.mean((y[:, 0] > 0) == a) for a in (True, False)]
  assert min(shares) > 0


def test_dropout_is_off_outside_training(draw):
  module, x = block(dropout=0.5, attention_dropout=0.5), tokens()
  params = draw(module, x, train=False)
  apply = jax.jit(
    lambda key, train: module.apply(
      params, x, train=train, rngs={'dropout': key}
    )[0],
    static_argnums=1,
  )
  keys = jax.random.split(jax.random.key(0))
  np.testing.assert_array_equal(apply(keys[0], False), apply(keys[1], False))
  assert not np.allclose(apply(keys[0], True), apply(keys[1], True))


@pytest.fixture(scope='module')
def everything():
  module = block(**EVERYTHING)
  init = functools.partial(module.init, train=False)
  boxed = jax.eval_shape(init, jax.random.key(0), tokens(), CONTEXT)
  return module, boxed['params']


def test_every_parameter_names_its_axes(everything):
  _, boxed = everything
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  leaves = jax.tree.leaves(boxed, is_leaf=is_box)
  assert all(map(is_box, leaves))
  for leaf in leaves:
    assert len(leaf.names) == len(leaf.value.shape)
    rules.spec(leaf.names)  # Refuses unknown names.


def test_a_gradient_reaches_every_parameter(everything, draw):
  module, _ = everything
  params = draw(module, tokens(), CONTEXT, train=False)['params']

  @jax.jit
  def gradient(params):
    def loss(params):
      y, _ = module.apply({'params': params}, tokens(), CONTEXT, train=False)
      return jnp.sum(y**2)

    return jax.grad(loss)(params)

  for path, leaf in jax.tree.leaves_with_path(gradient(params)):
    name = jax.tree_util.keystr(path)
    # What is added to all keys alike, softmax takes away.
    if 'key_norm' in name and 'bias' in name:
      continue
    assert np.any(leaf != 0), name


def test_query_and_key_norm_make_logits_blind_to_scale(draw):
  module, x = block(qk_norm='rmsnorm', attention_bias=False), tokens()
  params = draw(module, x, train=False)

  def weights(params):
    _, sown = run(module, params, x, mutable='intermediates')
    return sown['intermediates']['attention']['weights'][0]

  scaled = jax.tree.map(lambda leaf: leaf, params)
  kernel = scaled['params']['attention']['query']['kernel']
  scaled['params']['attention']['query']['kernel'] = 7 * kernel
  # Epsilon weighs less beside larger squares.
  np.testing.assert_allclose(weights(params), weights(scaled), atol=1e-4)


def test_bfloat16_keeps_parameters_in_float32(draw):
  module, x = block(dtype=jnp.bfloat16), tokens()
  params = draw(module, x, train=False)
  y, _ = run(module, params, x)
  assert y.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
    jnp.dtype('float32')
  }


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'norm_position': 'mid'}, "norm_position 'mid' is unknown; use one of"),
    ({'norm': 'batch'}, "norm 'batch' is unknown; use one of"),
    ({'activation': 'gelo'}, "activation 'gelo' is unknown; use one of"),
    ({'attention_bias': ('keys',)}, r"\['keys'\] is unknown; use names out"),
    ({'num_kv_heads': 3}, '4 query heads are not divisible by 3'),
    ({'self_attention': False}, 'leaves a block without attention'),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: block(**settings).init(jax.random.key(0), tokens(), train=False)
    )


def test_a_width_that_heads_do_not_divide_is_refused():
  with pytest.raises(ValueError, match='width 8 is not divisible by num_heads'):
    mnn.Block(8, 3, 11).init(jax.random.key(0), tokens(), train=False)


@pytest.mark.parametrize(
  'settings, condition, message',
  [
    ({'modulated': True}, False, 'modulated=True needs a condition'),
    ({}, True, 'got a condition, but its modulated is False'),
    (
      {'modulated': True, 'norm_position': 'post'},
      True,
      "use norm_position='p",
    ),
  ],
)
def test_a_condition_needs_modulation(settings, condition, message):
  block = mnn.Block(8, 2, 11, **settings)
  inputs = {'condition': jnp.zeros((2, 5))} if condition else {}
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(
      lambda: block.init(
        jax.random.key(0), jnp.zeros((2, 3, 8)), train=False, **inputs
      )
    )
