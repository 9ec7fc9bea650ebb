"""What every fusion keeps to, those of `every_fusion.ROWS`."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import fusion
from mmjax import nn as mnn
from mmjax.parallel import rules
from mmjax.types import TokenVectors
from tests.fusion.every_fusion import (
  JOINING,
  QUERYING,
  ROWS,
  SUMMING,
  SYMMETRIC,
  WIDTH,
  make_tokens,
  spoil,
)

every_fusion = pytest.mark.parametrize('name', ROWS)
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def run(draw):
  """What each fusion gives, and a gradient: (name, tokens) -> both."""

  @functools.cache
  def prepare(name):
    module = ROWS[name]()
    variables = draw(module, make_tokens(name), train=False)

    @jax.jit
    def compute(params, tokens):
      def loss(params):
        out = module.apply({'params': params}, tokens, train=False)
        kept = jnp.where(out.mask[:, :, None], out.values, 0.0)
        there = out.mask.any(axis=1)[:, None]
        pooled = jnp.where(there, out.pooled, 0.0)
        return jnp.sum(kept**3) + jnp.sum(pooled**3), (kept, pooled, out)

      return jax.grad(loss, has_aux=True)(params)

    return compute, variables.get('params', {})

  def run(name, tokens, params=None):
    compute, drawn = prepare(name)
    return compute(drawn if params is None else params, tokens)

  run.params = lambda name: prepare(name)[1]
  return run


def test_every_fusion_has_a_row():
  tested = {type(make()) for make in ROWS.values()}
  assert set(fusion.FUSIONS.values()) <= tested
  assert len(set(fusion.FUSIONS.values())) == len(fusion.FUSIONS)
  for table, level in (
    (fusion.FEATURE_FUSIONS, 'feature'),
    (fusion.TOKEN_FUSIONS, 'token'),
    (fusion.DECISION_FUSIONS, 'decision'),
  ):
    assert {cls.level for cls in table.values()} == {level}
    assert all(fusion.FUSIONS[name] is cls for name, cls in table.items())


@every_fusion
def test_shapes_and_masks(name, run):
  given = make_tokens(name)
  _, (_, _, out) = run(name, given)
  image, text = given['image'].mask, given['text'].mask
  if name in QUERYING:
    expected = text
  elif name in JOINING:
    expected = np.concatenate([image, text], axis=1)
  elif name == 'soft_prefix':
    expected = np.concatenate([image[:, :1], image[:, :1], text], axis=1)
  else:
    expected = (image.any(axis=1) | text.any(axis=1))[:, None]
    expected = np.repeat(expected, 2 if name in SUMMING else 1, axis=1)
  width = 5 if ROWS[name]().level == 'decision' else WIDTH
  np.testing.assert_array_equal(out.mask, expected)
  assert out.mask.dtype == bool
  assert out.values.shape == (*out.mask.shape, width)
  assert out.pooled.shape == (3, width)
  assert np.all(np.isfinite(out.values)) and np.all(np.isfinite(out.pooled))


@every_fusion
def test_what_is_absent_changes_neither_value_nor_gradient(name, run):
  gradient, (values, pooled, _) = run(name, make_tokens(name))
  for garbage in (1e4, np.nan):
    spoilt = spoil(make_tokens(name), garbage)
    other_gradient, (other_values, other_pooled, _) = run(name, spoilt)
    np.testing.assert_array_equal(values, other_values)
    np.testing.assert_array_equal(pooled, other_pooled)
    jax.tree.map(np.testing.assert_array_equal, gradient, other_gradient)


@every_fusion
def test_an_example_with_nothing_is_finite_and_changes_no_other(name, run):
  tokens = make_tokens(name)
  nothing = {
    key: t.replace(mask=t.mask & (jnp.arange(3) != 0)[:, None])
    for key, t in spoil(tokens, np.nan).items()
  }
  _, (values, pooled, _) = run(name, tokens)
  gradient, (others, other_pooled, out) = run(name, nothing)
  np.testing.assert_array_equal(others[1:], values[1:])
  np.testing.assert_array_equal(other_pooled[1:], pooled[1:])
  assert not np.any(out.mask[0])
  for leaf in jax.tree.leaves((out, gradient)):
    assert np.all(np.isfinite(leaf))


@every_fusion
def test_the_order_of_names_changes_nothing(name, run):
  _, (values, pooled, _) = run(name, make_tokens(name))
  backwards = dict(reversed(make_tokens(name).items()))
  assert list(backwards) == ['text', 'image']
  _, (other_values, other_pooled, _) = run(name, backwards)
  np.testing.assert_array_equal(values, other_values)
  np.testing.assert_array_equal(pooled, other_pooled)


@pytest.mark.parametrize('name', SYMMETRIC)
def test_modalities_are_treated_alike(name, run):
  """Tokens, widths and parameters change their modalities' names."""
  tokens, params = make_tokens(name), run.params(name)
  other = {'image': 'text', 'text': 'image'}

  def rename(tree):
    if not isinstance(tree, dict):
      return tree
    renamed = {}
    for key, child in tree.items():
      words = [other.get(word, word) for word in key.split('_')]
      renamed['_'.join(words)] = rename(child)
    return renamed

  _, (_, pooled, _) = run(name, tokens)
  _, (_, swapped, _) = run(name, rename(tokens), rename(params))
  close(swapped, pooled)


@every_fusion
def test_a_gradient_reaches_every_parameter(name, run):
  gradient, _ = run(name, make_tokens(name))
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    # Softmax takes away what is added to all keys alike.
    if "['key']['bias']" not in where:
      assert np.any(leaf != 0), where


@every_fusion
def test_the_other_modality_matters_where_it_is_there(name, run):
  changed = make_tokens(name)
  image = changed['image']
  changed['image'] = TokenVectors(
    image.values[:, :, ::-1], image.mask, image.pooled[:, ::-1]
  )
  _, (_, pooled, _) = run(name, make_tokens(name))
  _, (_, now, _) = run(name, changed)
  same = np.all(np.isclose(pooled, now), axis=1)
  # The second example has no image; where the text queries, the third has
  # nothing that the image could change.
  expected = [False, True, name in QUERYING]
  np.testing.assert_array_equal(same, expected)


@every_fusion
def test_bfloat16_computes_with_float32_parameters_that_name_their_axes(name):
  module = ROWS[name](dtype=jnp.bfloat16)
  out, boxed = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0), make_tokens(name), train=False
    )
  )
  decides = module.level == 'decision'
  expected = jnp.float32 if decides else jnp.bfloat16
  assert out.values.dtype == out.pooled.dtype == expected
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  leaves = jax.tree.leaves_with_path(boxed, is_leaf=is_box)
  for path, leaf in leaves:
    where = jax.tree_util.keystr(path)
    if not is_box(leaf):
      # The gate's axes are modalities and features.
      assert "['gate']" in where, where
      continue
    assert leaf.value.dtype == jnp.float32
    assert len(leaf.names) == len(leaf.value.shape), where
    rules.spec(leaf.names)  # Refuses unknown names.


@every_fusion
def test_three_modalities_are_fused(name):
  tokens = make_tokens(name)
  tokens['sound'] = tokens['image']
  out = jax.eval_shape(
    lambda: ROWS[name]().init_with_output(
      jax.random.key(0), tokens, train=False
    )[0]
  )
  two = jax.eval_shape(
    lambda: ROWS[name]().init_with_output(
      jax.random.key(0), make_tokens(name), train=False
    )[0]
  )
  more = 4 if name in JOINING else 2 if name == 'soft_prefix' else 0
  assert out.mask.shape == (3, two.mask.shape[1] + more)
  assert out.pooled.shape == two.pooled.shape


@every_fusion
def test_too_few_modalities_are_refused(name):
  module = ROWS[name]()

  def start(tokens):
    jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, train=False))

  with pytest.raises(ValueError, match=r'pass|needs .text.'):
    start({})
  needs_two = hasattr(module, 'query') or getattr(module, 'minimum', 1) == 2
  text = {'text': make_tokens(name)['text']}
  if needs_two:
    with pytest.raises(ValueError, match=r"needs .*got \['text'\]; "):
      start(text)
  else:
    start(text)


@pytest.mark.parametrize(
  'name', [n for n in ROWS if hasattr(ROWS[n](), 'scan')]
)
def test_unrolled_equals_scanned(name, run):
  params = run.params(name)
  _, (values, _, _) = run(name, make_tokens(name))
  out = ROWS[name](scan=False).apply(
    {'params': mnn.unstack_layers(params)}, make_tokens(name), train=False
  )
  close(jnp.where(out.mask[:, :, None], out.values, 0.0), values)


@pytest.mark.parametrize(
  'module, message',
  [
    (fusion.Gated(6, 'tanh'), "gates 'tanh' is unknown"),
    (fusion.BlockFusion(6, size=7, chunks=2), 'size 7 is not divisible by'),
    (fusion.FactorizedHighOrder(7), 'width 7 is not divisible by order 2'),
    (fusion.TensorFusion(6, size=1024), 'makes 1050625 products of 2'),
    (fusion.MeanDecision(), 'outputs of different sizes'),
    (fusion.MaxDecision(space='logits'), "space 'logits' is unknown"),
    (fusion.Bottleneck(6, 1), 'depth 1 is too small'),
    (fusion.FiLM('sound', 6), "FiLM needs 'sound' and another"),
    (fusion.CrossAttention('sound', 6), "cross-attention needs 'sound' and"),
  ],
)
def test_impossible_settings_are_refused(module, message):
  same = isinstance(module, fusion.MaxDecision)
  given = make_tokens('max_decision' if same else 'sum')
  with pytest.raises(ValueError, match=message):
    module.init(jax.random.key(0), given, train=False)


@pytest.mark.slow
def test_eight_devices_compute_what_one_computes(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')
