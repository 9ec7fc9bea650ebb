"""What text and image encoders do beyond the contract of all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders
from mmjax.types import TokenVectors

SMALL = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
TEXTS = {
  'bert': functools.partial(
    encoders.Transformer,
    11,
    max_length=7,
    pooling='attention',
    embed_norm=True,
    dropout=0.3,
    **SMALL,
  ),
  'bag': functools.partial(
    encoders.Transformer,
    11,
    max_length=7,
    positions='none',
    pooling='mean',
    **{**SMALL, 'depth': 0},
  ),
  't5': functools.partial(
    encoders.Transformer,
    11,
    max_length=3,
    positions='none',
    relative={'buckets': 8, 'max_distance': 6},
    pooling='mean',
    block={'norm': 'rmsnorm', 'attention_scale': 1.0},
    **SMALL,
  ),
  'gru': functools.partial(
    encoders.Recurrent, 11, 8, depth=2, bidirectional=True, dropout=0.3
  ),
}
IMAGES = {
  'vit': functools.partial(
    encoders.ViT, 3, positions='sincos2d', dropout=0.3, **SMALL
  ),
  'dinov2': functools.partial(
    encoders.ViT,
    3,
    position_grid=(2, 2),
    class_token=True,
    registers=2,
    mask_token=True,
    pooling='first',
    pool_activation='tanh',
    block={'layer_scale': 1.0},
    **SMALL,
  ),
  'small': functools.partial(
    encoders.ResNet, (1, 1), 16, block='basic', stem='small'
  ),
}
EVERY = {**TEXTS, **IMAGES}
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
IDS = jnp.asarray([[1, 5, 7, 3, 9], [1, 4, 2, 0, 0], [0, 0, 0, 0, 0]])
TEXT_MASK = jnp.asarray(
  [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool
)


def inputs(name):
  if name in TEXTS:
    return IDS, TEXT_MASK
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(3, 12, 9, 3)), jnp.float32)
  return images, jnp.asarray([True, True, False])


@pytest.fixture(scope='module')
def made(draw):
  @functools.cache
  def make(name):
    module = EVERY[name]()
    apply = jax.jit(functools.partial(module.apply, train=False))
    return apply, draw(module, *inputs(name), train=False)

  return make


@pytest.mark.slow
def test_a_text_is_read_in_the_light_of_a_context(draw):
  module = EVERY['bert'](cross_attention=True, pooling='first', dropout=0.0)
  rng = np.random.default_rng(1)
  seen = TokenVectors(
    jnp.asarray(rng.normal(size=(3, 2, 5)), jnp.float32),
    jnp.asarray([[True, True], [True, False], [False, False]]),
    jnp.zeros((3, 5)),
  )
  variables = draw(module, IDS, TEXT_MASK, seen, train=False)
  apply = jax.jit(functools.partial(module.apply, train=False))
  out = apply(variables, IDS, TEXT_MASK, seen)
  spoilt = seen.replace(values=seen.values.at[1, 1].set(jnp.nan))
  close(apply(variables, IDS, TEXT_MASK, spoilt).values, out.values)
  alone = apply(variables, IDS, TEXT_MASK)
  assert alone.values.shape == out.values.shape
  assert not np.allclose(alone.pooled, out.pooled)


def test_vectors_are_read_like_their_ids(made):
  apply, variables = made('t5')
  words = variables['params']['words']['table']['embedding']
  got, want = (
    apply(variables, words[IDS], TEXT_MASK),
    apply(variables, IDS, TEXT_MASK),
  )
  np.testing.assert_array_equal(got.values, want.values)


def test_relative_positions_see_distances_alone(made):
  apply, variables = made('t5')
  ids = jnp.asarray([[0, 0, 4, 7, 2]])
  far = apply(variables, ids, ids > 0).values[:, 2:]
  close(far, apply(variables, ids[:, 2:]).values)
  turned = apply(variables, ids[:, 2:][:, ::-1]).values[:, ::-1]
  assert not np.allclose(far, turned, atol=1e-3)


def test_masked_patches_are_not_seen(made):
  module, (_, variables) = EVERY['dinov2'](), made('dinov2')
  images, _ = inputs('dinov2')
  masked = jnp.zeros((3, 12), bool).at[:, 4].set(True)  # Row 1, column 1.
  spoilt = images.at[:, 3:6, 3:6].add(7.0)

  @jax.jit
  def run(images):
    return module.apply(variables, images, masked=masked, train=False).values

  close(run(images), run(spoilt))
  seen = module.apply(variables, spoilt, train=False).values
  assert not np.allclose(run(spoilt), seen)


def test_patches_are_masked_by_a_token_alone():
  images, _ = inputs('vit')
  with pytest.raises(ValueError, match='set mask_token=True'):
    jax.eval_shape(
      lambda: EVERY['vit']().init(
        jax.random.key(0), images, masked=jnp.zeros((3, 12), bool), train=False
      )
    )


def test_positions_of_their_own_grid_stay_as_they_are(made, draw):
  images = inputs('dinov2')[0][:, :6, :6]
  settings = {'class_token': True, 'pooling': 'first', **SMALL}
  one = encoders.ViT(3, **settings)
  other = encoders.ViT(3, position_grid=(2, 2), **settings)
  variables = draw(one, images, train=False)
  np.testing.assert_array_equal(
    one.apply(variables, images, train=False).values,
    other.apply(variables, images, train=False).values,
  )


@pytest.mark.parametrize('name', ['bert', 'gru', 'vit'])
def test_train_switches_dropout(name, made):
  module, (_, variables) = EVERY[name](), made(name)

  @jax.jit
  def run(key):
    out = module.apply(
      variables, *inputs(name), train=True, rngs={'dropout': key}
    )
    return out.pooled

  one, other = jax.random.split(jax.random.key(0))
  np.testing.assert_array_equal(run(one), run(one))
  assert not np.allclose(run(one), run(other))


def test_word_dropout_leaves_words_out_in_training_alone():
  module = TEXTS['bag'](word_dropout=0.6, max_length=101)
  tokens, mask = jnp.ones((23, 101), int), jnp.ones((23, 101), bool)
  mask = mask.at[:, 90:].set(False)
  variables = module.init(jax.random.key(0), tokens, mask, train=False)
  key = {'dropout': jax.random.key(1)}
  there = module.apply(variables, tokens, mask, train=True, rngs=key).mask
  assert there[:, 0].all()
  assert not there[:, 90:].any()
  # Of 2047 words, within four standard deviations.
  assert abs(there[:, 1:90].mean() - 0.4) < 4 * (0.6 * 0.4 / 2047) ** 0.5
  there = module.apply(variables, tokens, mask, train=False).mask
  np.testing.assert_array_equal(there, mask)


@pytest.mark.parametrize(
  'name, settings, message',
  [
    ('vit', {'patch_size': 5}, 'size 12 is not divisible by patch size 5; use'),
    ('vit', {'positions': 'x'}, r"positions 'x' is unknown; use one of \['lea"),
    ('vit', {'pooling': 'max'}, r"pool 'max' is unknown; use one of \('mean'"),
    ('dinov2', {'position_resize': 'x'}, "position_resize 'x' is unknown"),
    ('vit', {'remat': 'x'}, "remat 'x' is unknown"),
    ('vit', {'drop_path': 1.0}, r'drop_path must be .* less than 1, got 1\.0'),
    ('bert', {'positions': 'x'}, "positions 'x' is unknown"),
    ('bert', {'pooling': 'max'}, "pool 'max' is unknown"),
    (
      'bert',
      {'word_dropout': 1.0},
      r'word_dropout must be .* less than 1, got 1\.0',
    ),
    ('bert', {'max_length': 3}, 'length 5 is more than max_length 3'),
    ('gru', {'cell': 'rnn'}, r"cell 'rnn' is unknown; use one of \['gru'"),
    ('gru', {'pooling': 'attention'}, "pool 'attention' is unknown"),
    ('small', {'stem': 'x'}, r"stem 'x' is unknown; use one of \['imagenet'"),
    ('small', {'block': 'x'}, "block 'x' is unknown"),
    ('small', {'norm': 'batch'}, "norm 'batch' is unknown"),
    ('small', {'stem': 'patch', 'patch_size': 5}, 'size 12 is not divisible'),
  ],
)
def test_impossible_settings_are_refused(name, settings, message):
  make = EVERY[name]
  if settings == {'patch_size': 5}:
    make = functools.partial(encoders.ViT, **SMALL)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: make(**settings).init(
        jax.random.key(0), *inputs(name), train=False
      )
    )


def test_groups_divide_the_width():
  module = encoders.ResNet((1,), 24, block='basic', stem='small')
  with pytest.raises(ValueError, match='width 24 is not divisible by the 16'):
    jax.eval_shape(
      lambda: module.init(
        jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False
      )
    )
