"""The text decoder: stepping with a cache equals teacher forcing."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders
from mmjax.errors import ConfigError
from mmjax.parallel import rules
from mmjax.types import TokenVectors

SETTINGS = {
  'plain': {'cross_attention': False},
  'context': {},
  'coca': {'depth': 2, 'unimodal_depth': 1, 'tied': False},
  'llama': {
    'cross_attention': False,
    'unimodal_depth': 1,
    'positions': 'none',
    'block': {
      'norm': 'rmsnorm',
      'num_kv_heads': 2,
      'rope_theta': 1e4,
      'head_dim': 6,
      'qk_norm': 'rmsnorm',
    },
  },
  'gemma': {
    'cross_attention': False,
    'positions': 'none',
    'depth': 2,
    'local_layers': (0,),
    'window': 2,
    'block': {
      'norm': 'offset_rmsnorm',
      'norm_position': 'sandwich',
      'rope_theta': 1e4,
      'local_rope': {'theta': 50.0},
    },
  },
  'bert': {
    'embed_norm': True,
    'final_norm': False,
    'head_activation': 'gelu',
    'head_bias': True,
    'block': {'norm_position': 'post', 'norm_epsilon': 1e-12},
  },
  't5': {
    'positions': 'none',
    'relative': {'buckets': 6, 'max_distance': 4},
    'head_scale': 0.5,
    'block': {
      'norm': 'rmsnorm',
      'attention_bias': False,
      'mlp_bias': False,
      'attention_scale': 1.0,
    },
  },
  'unrolled': {'scan': False, 'positions': 'sincos', 'unimodal_depth': 1},
}
decoding = pytest.mark.parametrize(
  'name', ['coca', 'llama', 'gemma', 'bert', 't5', 'unrolled']
)
# Products of other shapes, in float32.
TOLERANCE = {'rtol': 1e-4, 'atol': 1e-5}
IDS = jnp.asarray([[1, 5, 7, 3, 9], [1, 4, 2, 0, 0]])
MASK = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)


def context(width=6):
  rng = np.random.default_rng(1)
  values = jnp.asarray(rng.normal(size=(2, 3, width)), jnp.float32)
  mask = jnp.asarray([[True, True, True], [True, False, True]])
  return TokenVectors(values, mask, values[:, 0])


@pytest.fixture(scope='module')
def made(draw):
  """By name of a setting: the module, its variables, its context."""

  @functools.cache
  def make(name):
    settings = {'depth': 1, **SETTINGS[name]}
    module = decoders.TextDecoder(
      11, width=8, num_heads=4, mlp_dim=7, max_length=6, **settings
    )
    seen = context() if module.cross_attention else None
    variables = draw(module, IDS, MASK, seen, train=False)
    return module, variables, seen

  return make


def compute_logits_cached(module, variables):
  """Logits of all tokens of a prompt, and the cache."""

  def logits(module, *inputs, **settings):
    x, cache = module.compute_hidden_states_cached(*inputs, **settings)
    return module.compute_logits(x), cache

  return functools.partial(jax.jit(nn.apply(logits, module)), variables)


def forced(module, variables, ids, mask, seen):
  apply = jax.jit(functools.partial(module.apply, train=False))
  return apply(variables, ids, mask, seen)


@pytest.mark.slow
@decoding
def test_tokens_one_by_one_equal_teacher_forcing(name, made):
  module, variables, seen = made(name)
  expected = forced(module, variables, IDS, MASK, seen)
  assert expected.shape == (2, 5, 11)
  step = compute_logits_cached(module, variables)
  cache = module.init_cache(2, 5, None if seen is None else 3)
  one = jax.jit(functools.partial(module.apply, method='decode_step'))
  for t in range(5):
    now = (IDS[:, t : t + 1], cache, MASK[:, t : t + 1])
    logits, cache = step(*now, seen) if t == 0 else one(variables, *now)
    real = np.asarray(MASK[:, t])
    np.testing.assert_allclose(logits[real, 0], expected[real, t], **TOLERANCE)
  assert cache.next_position.tolist() == [5, 3]
  assert cache.index == 5
  with pytest.raises(ConfigError, match='of 5 slots, of which 5 are taken'):
    cache.check_capacity(jnp.zeros((2, 1, 8)))
  with pytest.raises(ConfigError, match=r'max_new_tokens=2, .* room for 0'):
    decoders.sample(None, logits[:, 0], cache, max_new_tokens=2)
  assert jnp.isnan(one(variables, IDS[:, :1], cache)[0]).all()


@pytest.mark.slow
@decoding
def test_padding_in_a_prompt_takes_no_position(name, made):
  # The first has a gap, the second padding on its left; then one step more.
  module, variables, seen = made(name)
  prompt = jnp.asarray([[1, 0, 5, 7], [0, 0, 1, 4]])
  prompt_mask = jnp.asarray([[1, 0, 1, 1], [0, 0, 1, 1]], bool)
  step = compute_logits_cached(module, variables)
  cache = module.init_cache(2, 6, None if seen is None else 3)
  first, cache = step(prompt, cache, prompt_mask, seen)
  second, cache = step(jnp.asarray([[3], [2]]), cache)
  expected = forced(module, variables, IDS, MASK, seen)
  np.testing.assert_allclose(first[0, [0, 2, 3]], expected[0, :3], **TOLERANCE)
  np.testing.assert_allclose(first[1, 2:], expected[1, :2], **TOLERANCE)
  np.testing.assert_allclose(second[0, 0], expected[0, 3], **TOLERANCE)
  np.testing.assert_allclose(second[1, 0], expected[1, 2], **TOLERANCE)


def test_a_cache_for_fewer_tokens_than_a_prompt_has_is_refused(made):
  module, variables, _ = made('plain')
  run = functools.partial(module.apply, method='compute_hidden_states_cached')
  for compiled in (run, jax.jit(run)):
    with pytest.raises(ConfigError, match=r'5 tokens .* cache of 3 slots'):
      compiled(variables, IDS, module.init_cache(2, 3), MASK)


def test_a_cache_for_more_tokens_than_positions_is_refused(made):
  with pytest.raises(ConfigError, match=r'of 8 slots .* max_length 6 .*raise'):
    made('plain')[0].init_cache(2, 8)
  made('llama')[0].init_cache(2, 8)  # Has no table of positions.


@pytest.mark.parametrize('name', ['t5', 'gemma'])
def test_counted_tokens_take_no_other_positions(name, made):
  module, variables, seen = made(name)
  cache = module.init_cache(2, 5, None if seen is None else 3)
  with pytest.raises(ValueError, match='pass no positions'):
    module.apply(
      variables,
      IDS,
      cache,
      MASK,
      seen,
      positions=IDS,
      method='compute_hidden_states_cached',
    )


@pytest.mark.parametrize('name', ['coca', 'llama'])
def test_nothing_sees_the_future_or_padding(name, made):
  module, variables, seen = made(name)
  logits = forced(module, variables, IDS, MASK, seen)
  changed = forced(module, variables, IDS.at[:, 3:].set(8), MASK, seen)
  np.testing.assert_array_equal(logits[:, :3], changed[:, :3])
  assert not np.allclose(logits[0, 3:], changed[0, 3:])


@pytest.mark.parametrize('name', ['plain', 'llama'])
def test_vectors_are_read_like_their_ids(name, made):
  module, variables, _ = made(name)
  vectors = module.apply(variables, IDS, method='embed')
  np.testing.assert_array_equal(
    forced(module, variables, vectors, MASK, None),
    forced(module, variables, IDS, MASK, None),
  )
  step = compute_logits_cached(module, variables)
  cache = module.init_cache(2, 5)
  got, _ = step(vectors, cache, MASK)
  want, _ = step(IDS, cache, MASK)
  real = np.asarray(MASK)
  np.testing.assert_array_equal(got[real], want[real])


def test_given_positions_go_on_from_the_largest(made):
  module, variables, _ = made('llama')
  step = compute_logits_cached(module, variables)
  cache = module.init_cache(2, 6)
  counted = jnp.broadcast_to(jnp.arange(5)[None], (2, 5))
  want, _ = step(IDS, cache, MASK)
  got, _ = step(IDS, cache, MASK, positions=counted)
  real = np.asarray(MASK)
  np.testing.assert_array_equal(got[real], want[real])
  moved = counted.at[0, 2].set(9)
  got, cache = step(IDS, cache, MASK, positions=moved)
  assert not np.allclose(got[0, 2:], want[0, 2:])
  np.testing.assert_array_equal(got[1, :3], want[1, :3])
  assert cache.next_position.tolist() == [10, 3]


def test_a_prefix_is_seen_in_both_directions(draw):
  module = decoders.TextDecoder(11, 8, 2, 4, 7, 6, cross_attention=False)
  variables = draw(module, IDS, MASK, train=False)
  prefix_mask = jnp.asarray([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], bool)

  @jax.jit
  def read(ids, prefix_mask):
    def features(module):
      text = module.encode_text(ids, MASK, train=False)
      return module.compute_hidden_states(
        text, prefix_mask=prefix_mask, train=False
      )

    return nn.apply(features, module)(variables)

  x = read(IDS, prefix_mask)
  changed = read(IDS.at[:, 2].set(8), prefix_mask)
  # The third token is in the first's prefix, and behind the second's.
  assert not np.isclose(x[0], changed[0]).all(axis=-1).any()
  np.testing.assert_array_equal(x[1, :2], changed[1, :2])
  behind = read(IDS.at[:, 3].set(8), prefix_mask)
  np.testing.assert_array_equal(x[0, :3], behind[0, :3])
  cache = module.init_cache(2, 6)
  cached, _ = module.apply(
    variables,
    IDS,
    cache,
    MASK,
    prefix_mask=prefix_mask,
    method='compute_hidden_states_cached',
  )
  real = np.asarray(MASK)
  np.testing.assert_allclose(cached[real], x[real], **TOLERANCE)


def test_a_masked_context_changes_nothing(made):
  module, variables, seen = made('coca')
  logits = forced(module, variables, IDS, MASK, seen)
  spoilt = seen.replace(values=seen.values.at[1, 1].set(jnp.nan))
  np.testing.assert_array_equal(
    forced(module, variables, IDS, MASK, spoilt), logits
  )


@pytest.mark.slow
@pytest.mark.parametrize('name', ['coca', 'llama'])
def test_gradients_reach_and_axes_name_every_parameter(name, made):
  module, variables, seen = made(name)

  @jax.jit
  def gradient(params):
    def loss(params):
      logits = module.apply({'params': params}, IDS, MASK, seen, train=False)
      encoded = module.apply(
        {'params': params}, IDS, MASK, method='encode_text', train=False
      )
      return jnp.sum(logits**2) + jnp.sum(encoded.pooled**3)

    return jax.grad(loss)(params)

  for path, leaf in jax.tree.leaves_with_path(gradient(variables['params'])):
    where = jax.tree_util.keystr(path)
    # Softmax takes away what is added to all keys alike.
    if "['key']['bias']" not in where:
      assert np.any(leaf != 0), where
  boxed = jax.eval_shape(
    lambda: module.init(jax.random.key(0), IDS, MASK, seen, train=False)
  )
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    assert len(leaf.names) == len(leaf.value.shape)
    rules.spec(leaf.names)  # Refuses unknown names.


def test_a_text_is_encoded_by_its_last_real_token(made):
  module, variables, _ = made('coca')
  encode = jax.jit(
    functools.partial(module.apply, method='encode_text', train=False)
  )
  whole = encode(variables, IDS, MASK)
  short = encode(variables, IDS[1:, :3])
  np.testing.assert_allclose(whole.pooled[1], short.pooled[0], **TOLERANCE)


def test_logits_are_float32_in_bfloat16():
  module = decoders.TextDecoder(
    11, 8, 1, 2, 7, 6, cross_attention=False, dtype=jnp.bfloat16
  )
  logits, variables = jax.eval_shape(
    lambda: module.init_with_output(jax.random.key(0), IDS, train=False)
  )
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  assert module.init_cache(2, 5).blocks.self_attention.key.dtype == jnp.bfloat16


def test_a_missing_context_and_a_needless_one_are_refused(made):
  module, variables, _ = made('context')
  with pytest.raises(ValueError, match='neither a context nor a cache'):
    module.apply(variables, IDS, train=False)
  module, variables, _ = made('plain')
  with pytest.raises(ValueError, match='cross_attention is False'):
    module.apply(variables, IDS, MASK, context(), train=False)


def test_a_text_that_is_too_long_is_refused(made):
  module, variables, seen = made('context')
  with pytest.raises(ValueError, match='length 10 is more than max_length 6'):
    module.apply(variables, jnp.tile(IDS, (1, 2)), None, seen, train=False)
