"""What every fusion keeps to, and what each does."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import fusion
from mmjax.parallel import rules
from mmjax.types import Tokens

SMALL = {'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
FUSIONS = {
  'concat': fusion.Concat(6, **SMALL),
  'concat_only': fusion.Concat(6),
  'cross_attention': fusion.CrossAttention('text', 6, **SMALL),
  'gated': fusion.Gated(6),
}
every_fusion = pytest.mark.parametrize('name', FUSIONS)
# Sums in another order, in float32.
TOLERANCE = {'rtol': 1e-5, 'atol': 1e-5}


def tokens():
  """Three examples; the second has no image, the third no text."""
  rng = np.random.default_rng(0)

  def one(length, width, absent):
    values = jnp.asarray(rng.normal(size=(3, length, width)), jnp.float32)
    mask = jnp.arange(length)[None] < jnp.asarray([[length], [2], [1]])
    mask = mask & (jnp.arange(3) != absent)[:, None]
    return Tokens(values, mask, values.mean(axis=1))

  return {'image': one(4, 5, absent=1), 'text': one(3, 7, absent=2)}


def spoilt(tokens, garbage):
  def one(t):
    there = t.mask.any(axis=1)[:, None]
    return Tokens(
      jnp.where(t.mask[:, :, None], t.values, garbage),
      t.mask,
      jnp.where(there, t.pooled, garbage),
    )

  return {name: one(t) for name, t in tokens.items()}


@pytest.fixture(scope='module')
def run(draw):
  """What each fusion gives, and a gradient: (name, tokens) -> both."""

  @functools.cache
  def prepared(name):
    module = FUSIONS[name]
    variables = draw(module, tokens(), train=False)

    @jax.jit
    def compute(tokens):
      def loss(params):
        out = module.apply({'params': params}, tokens, train=False)
        kept = jnp.where(out.mask[:, :, None], out.values, 0.0)
        there = out.mask.any(axis=1)[:, None]
        pooled = jnp.where(there, out.pooled, 0.0)
        return jnp.sum(kept**2) + jnp.sum(pooled**2), (kept, pooled, out)

      return jax.grad(loss, has_aux=True)(variables['params'])

    return compute

  return lambda name, tokens: prepared(name)(tokens)


@every_fusion
def test_shapes_and_masks(name, run):
  _, (_, _, out) = run(name, tokens())
  length = 3 if name == 'cross_attention' else 7
  assert out.values.shape == (3, length, 6)
  assert out.mask.shape == (3, length)
  assert out.mask.dtype == bool
  assert out.pooled.shape == (3, 6)
  masks = [tokens()[m].mask for m in ('image', 'text')]
  expected = masks[1:] if name == 'cross_attention' else masks
  np.testing.assert_array_equal(out.mask, np.concatenate(expected, axis=1))
  assert np.all(np.isfinite(out.values))


@every_fusion
@pytest.mark.parametrize('garbage', [1e4, np.nan])
def test_what_is_absent_changes_neither_value_nor_gradient(name, garbage, run):
  gradient, (values, pooled, _) = run(name, tokens())
  given, (values_given, pooled_given, _) = run(name, spoilt(tokens(), garbage))
  np.testing.assert_array_equal(values, values_given)
  np.testing.assert_array_equal(pooled, pooled_given)
  jax.tree.map(np.testing.assert_array_equal, gradient, given)


@every_fusion
def test_the_order_of_names_changes_nothing(name, run):
  _, (values, pooled, _) = run(name, tokens())
  backwards = dict(reversed(tokens().items()))
  assert list(backwards) == ['text', 'image']
  _, (values_of, pooled_of, _) = run(name, backwards)
  np.testing.assert_array_equal(values, values_of)
  np.testing.assert_array_equal(pooled, pooled_of)


@every_fusion
def test_a_gradient_reaches_every_parameter(name, run):
  gradient, _ = run(name, tokens())
  for path, leaf in jax.tree.leaves_with_path(gradient):
    name = jax.tree_util.keystr(path)
    # Softmax takes away what is added to all keys alike.
    if "['key']['bias']" not in name:
      assert np.any(leaf != 0), name


@every_fusion
def test_the_other_modality_matters_where_it_is_there(name, run):
  changed = tokens()
  image = changed['image']
  changed['image'] = Tokens(image.values + 1, image.mask, image.pooled + 1)
  _, (_, pooled, _) = run(name, tokens())
  _, (_, now, _) = run(name, changed)
  same = np.all(np.isclose(pooled, now), axis=1)
  # The second example has no image; cross-attention writes nothing without
  # text.
  expected = [False, True, name == 'cross_attention']
  np.testing.assert_array_equal(same, expected)


@every_fusion
def test_kernels_name_their_axes(name):
  boxed = jax.eval_shape(
    lambda: FUSIONS[name].init(jax.random.key(0), tokens(), train=False)
  )
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    if is_box(leaf):
      assert len(leaf.names) == len(leaf.value.shape)
      rules.spec(leaf.names)  # Refuses unknown names.
    else:
      assert name == 'gated'  # The gate's axes are modalities and features.


@every_fusion
def test_no_modality_is_refused(name):
  with pytest.raises(ValueError, match='pass'):
    FUSIONS[name].init(jax.random.key(0), {}, train=False)


def test_cross_attention_needs_someone_to_ask():
  text = {'text': tokens()['text']}
  with pytest.raises(ValueError, match=r"'text' and another.*got \['text'\]"):
    FUSIONS['cross_attention'].init(jax.random.key(0), text, train=False)


def test_gates_sum_to_one_over_what_is_there(draw):
  module = FUSIONS['gated']
  _, sown = module.apply(
    draw(module, tokens(), train=False),
    tokens(),
    train=False,
    mutable='intermediates',
  )
  (gates,) = sown['intermediates']['gates']
  assert gates.shape == (3, 2, 6)
  np.testing.assert_allclose(gates.sum(axis=1), np.ones((3, 6)), **TOLERANCE)
  assert np.all(gates[0] > 0)
  np.testing.assert_array_equal(gates[1, 0], np.zeros(6))
  np.testing.assert_array_equal(gates[2, 1], np.zeros(6))


def test_concatenation_without_blocks_by_hand():
  module = fusion.Concat(2)
  given = {
    'a': Tokens(jnp.ones((1, 1, 1)), jnp.ones((1, 1), bool), jnp.ones((1, 1)))
  }
  params = {
    'a_projection': {
      'kernel': jnp.asarray([[3.0, 1.0]]),
      'bias': jnp.asarray([0.0, -1.0]),
    },
    'a_mark': jnp.asarray([1.0, 0.0]),
    'last_norm': {'scale': jnp.ones(2), 'bias': jnp.asarray([0.0, 5.0])},
  }
  out = module.apply({'params': params}, given, train=False)
  # (4, 0) is normalised to (1, -1); epsilon is 1e-6 beside a variance of 4.
  np.testing.assert_allclose(out.pooled, [[1, 4]], rtol=1e-6)
