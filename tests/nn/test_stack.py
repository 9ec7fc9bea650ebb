"""Stacks: scanned equals unrolled, rematerialised equals stored."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.nn import remat as remat_lib
from mmjax.parallel import attention_forms, rules, tiled_attention
from mmjax.training import flops

# Fused in another way, in float32.
TOLERANCE = {'rtol': 1e-4, 'atol': 1e-5}
BLOCK = {'cross_attention': True, 'num_kv_heads': 2, 'rope_theta': 1e4}
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
CONTEXT = mnn.Context(X[:, 1:4] * 2)


def stack(**settings):
  return mnn.Stack(3, 8, 4, 11, **{'block': BLOCK, **settings})


def gradient(module, params):
  @jax.jit
  def compute(params):
    def loss(params):
      y, _ = module.apply({'params': params}, X, CONTEXT, train=False)
      return jnp.mean(y**2), y

    return jax.grad(loss, has_aux=True)(params)

  return compute(params)


@pytest.fixture(scope='module')
def boxed():
  init = functools.partial(stack().init, train=False)
  return jax.eval_shape(init, jax.random.key(0), X, CONTEXT)['params']


@pytest.fixture(scope='module')
def params(draw):
  return draw(stack(), X, CONTEXT, train=False)['params']


@pytest.fixture(scope='module')
def scanned(params):
  return gradient(stack(), params)


def close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), a, b)


def test_layers_start_from_different_parameters():
  module = mnn.Stack(3, 8, 4, 11)
  init = jax.jit(functools.partial(module.init, train=False))
  params = nn.meta.unbox(init(jax.random.key(0), X))['params']
  kernel = params['layers']['mlp']['up']['kernel']
  assert kernel.shape == (3, 8, 11)
  assert not np.allclose(kernel[0], kernel[1])


def test_every_parameter_names_its_axes(boxed):
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
    assert leaf.names[0] == 'layers'
    assert len(leaf.names) == len(leaf.value.shape)
    rules.spec(leaf.names)  # Refuses unknown names.


@pytest.mark.slow
def test_scanned_equals_unrolled(params, scanned):
  unstacked = mnn.unstack_layers(params)
  assert sorted(unstacked) == ['layers_0', 'layers_1', 'layers_2']
  gradients, y = gradient(stack(scan=False), unstacked)
  close(scanned[1], y)
  close(scanned[0], mnn.stack_layers(gradients))


def test_stacking_undoes_unstacking_at_any_depth(params):
  tree = {'decoder': {'blocks': params, 'norm': {'scale': jnp.ones(3)}}}
  back = mnn.stack_layers(mnn.unstack_layers(tree))
  jax.tree.map(np.testing.assert_array_equal, tree, back)


@pytest.mark.slow
@pytest.mark.parametrize('remat', remat_lib.POLICIES)
def test_rematerialisation_changes_nothing(remat, params, scanned):
  close(scanned, gradient(stack(remat=remat), params))


def _measure(remat, form):
  """Temporaries (of plain attention alone) and FLOPs of a step."""
  module = mnn.Stack(5, 32, 2, 96, remat=remat)
  x = jax.ShapeDtypeStruct((3, 64, 32), jnp.float32)
  init = functools.partial(module.init, train=False)
  boxed = jax.eval_shape(init, jax.random.key(0), x)

  def loss(variables, x):
    return jnp.sum(jnp.sin(module.apply(variables, x, train=True)[0]))

  with pytest.MonkeyPatch.context() as patch:
    if form == 'tiled':
      patch.setattr(attention_forms, 'WHOLE', 1)
      patch.setattr(tiled_attention, 'TILE', 32)
    traced = jax.jit(jax.grad(loss)).trace(nn.meta.unbox(boxed), x)
  work = flops.count(traced.jaxpr)
  if form == 'tiled':
    return 0, work
  memory = traced.lower().compile().memory_analysis()
  return memory.temp_size_in_bytes, work


@pytest.mark.slow
@pytest.mark.parametrize('form', ['plain', 'tiled'])
def test_policies_trade_memory_for_time(form):
  order = ('none', 'dots', 'projections', 'attention', 'full')
  memory, work = zip(*(_measure(name, form) for name in order), strict=True)
  if form == 'plain':
    assert sorted(set(memory), reverse=True) == list(memory)
  assert sorted(work) == list(work)
  tokens, width, layers = 3 * 64, 32, 5
  product = 2 * tokens * width * width * layers
  attention = 2 * 2 * 3 * 64 * 64 * width * layers  # Logits, and mixing.
  none, dots, projections, kept, full = work
  # Plain attention's weights are not kept, but for 'none'.
  again = attention / 2 if form == 'plain' else 0
  assert dots - none == again
  assert projections - dots == 3 * product  # The MLP's hidden layer.
  assert kept - projections == 4 * product
  assert full - kept == attention - again


def test_an_unknown_policy_is_refused():
  with pytest.raises(ValueError, match=r"remat 'some' is unknown; .*'dots'"):
    jax.eval_shape(
      lambda: stack(remat='some').init(
        jax.random.key(0), X, CONTEXT, train=False
      )
    )


def test_intermediates_are_the_same_with_the_scan_and_without(params):
  show = functools.partial(stack().apply, train=False, mutable='intermediates')
  y, sown = show({'params': params}, X, CONTEXT)
  layers = sown['intermediates']['layers']
  (own,), (cross,) = (
    layers[name]['weights'] for name in ('attention', 'cross_attention')
  )
  assert own.shape == (3, 2, 4, 5, 5)
  assert cross.shape == (3, 2, 4, 5, 3)
  np.testing.assert_allclose(own.sum(-1), np.ones((3, 2, 4, 5)), **TOLERANCE)
  inputs, outputs = layers['input'][0], layers['output'][0]
  branches = ('attention_output', 'cross_attention_output', 'mlp_output')
  added = sum(layers[name][0] for name in branches)
  np.testing.assert_allclose(inputs + added, outputs, **TOLERANCE)
  np.testing.assert_array_equal(inputs[0], X)
  np.testing.assert_array_equal(inputs[1:], outputs[:-1])
  np.testing.assert_array_equal(outputs[-1], y[0])
  show = functools.partial(
    stack(scan=False).apply, train=False, mutable='intermediates'
  )
  _, unrolled = show({'params': mnn.unstack_layers(params)}, X, CONTEXT)
  close(mnn.stack_layers(unrolled['intermediates']), sown['intermediates'])


def test_depth_0_gives_the_input_back():
  module = mnn.Stack(0, 8, 4, 11)
  variables = module.init(jax.random.key(0), X, train=False)
  assert not variables
  y, cache = module.apply(variables, X, train=False)
  np.testing.assert_array_equal(y, X)
  assert cache is None


def test_stochastic_depth_grows_with_the_layer(draw):
  # Branches add exactly 1 to feature `layer`, or 1 / keep, or nothing.
  module = mnn.Stack(3, 8, 4, 11, drop_path=0.4)
  x = jnp.zeros((500, 1, 8))
  params = draw(module, x, train=False)['params']
  params = jax.tree.map(jnp.zeros_like, params)
  bias = params['layers']['mlp']['down']['bias']
  params['layers']['mlp']['down']['bias'] = bias.at[:, :3].set(jnp.eye(3))
  apply = jax.jit(functools.partial(module.apply, train=True))
  y, _ = apply({'params': params}, x, rngs={'dropout': jax.random.key(1)})
  kept = np.mean(np.asarray(y)[:, 0, :3] > 0, axis=0)
  assert kept[0] == 1
  # Five standard deviations of a mean of 500: 5 * 0.5 / sqrt(500).
  np.testing.assert_allclose(kept[1:], [0.8, 0.6], atol=0.11)
  resting = jax.jit(functools.partial(module.apply, train=False))
  y, _ = resting({'params': params}, x)
  np.testing.assert_array_equal(y[:, 0, :3], np.ones((500, 3)))


@pytest.mark.parametrize('scan', [True, False])
def test_a_cache_filled_step_by_step_equals_one_pass(scan, draw):
  module = mnn.Stack(2, 8, 4, 11, block={'num_kv_heads': 2}, scan=scan)
  variables = draw(module, X, train=False)
  causal = jnp.tril(jnp.ones((1, 5, 5), bool))
  once = jax.jit(functools.partial(module.apply, train=False))
  whole, _ = once(variables, X, visible=mnn.Visible(causal))
  cache = mnn.empty_cache(
    depth=2, batch=2, num_slots=5, num_heads=2, head_dim=2
  )

  @jax.jit
  def step(x, cache, t):
    allowed = (jnp.arange(5) <= t)[None, None]
    visible, decoding = mnn.Visible(allowed), mnn.Decoding(cache, t)
    return module.apply(variables, x, None, visible, decoding, train=False)

  for t in range(5):
    y, cache = step(X[:, t : t + 1], cache, jnp.asarray(t))
    np.testing.assert_allclose(y, whole[:, t : t + 1], **TOLERANCE)


@pytest.mark.parametrize('scan', [True, False])
def test_blocks_after_the_last_that_counts_change_nothing(scan, draw):
  module = mnn.Stack(3, 8, 4, 11, scan=scan)
  params = draw(module, X, train=False)['params']
  got, _ = module.apply({'params': params}, X, stop=2, train=False)
  if scan:
    first = jax.tree.map(lambda leaf: leaf[:2], params)
  else:
    first = {name: params[name] for name in ('layers_0', 'layers_1')}
  short = mnn.Stack(2, 8, 4, 11, scan=scan)
  want, _ = short.apply({'params': first}, X, train=False)
  np.testing.assert_allclose(got, want, **TOLERANCE)
  none, _ = module.apply({'params': params}, X, stop=0, train=False)
  np.testing.assert_array_equal(none, X)
  with pytest.raises(ValueError, match='stop must be from 0 to 3'):
    module.apply({'params': params}, X, stop=4, train=False)


@pytest.mark.parametrize('scan', [True, False])
def test_levels_are_added_after_the_first_blocks(scan, draw):
  module = mnn.Stack(2, 8, 4, 11, scan=scan)
  params = draw(module, X, train=False)['params']
  level = jnp.roll(X, 1, axis=1)
  got, _ = module.apply({'params': params}, X, added=level[None], train=False)
  first, _ = module.apply({'params': params}, X, stop=1, train=False)
  alone = mnn.Stack(1, 8, 4, 11, scan=False)
  layers = params if not scan else mnn.unstack_layers(params)
  second = {'layers_0': layers['layers_1']}
  want, _ = alone.apply({'params': second}, first + level, train=False)
  np.testing.assert_allclose(got, want, **TOLERANCE)
  with pytest.raises(ValueError, match=r'3 levels are added .* there are 2'):
    module.apply(
      {'params': params}, X, added=jnp.stack([level] * 3), train=False
    )


@pytest.mark.parametrize('scan', [True, False])
def test_local_layers_see_a_window(scan, draw):
  module = mnn.Stack(3, 8, 4, 11, local_layers=(0, 2), scan=scan)
  everything, window = jnp.ones((1, 5), int), jnp.asarray([[1, 1, 2, 2, 3]])
  settings = {'visible': mnn.Visible(segments=everything), 'train': False}
  params = draw(module, X, local_segments=window, **settings)
  got, _ = module.apply(params, X, local_segments=window, **settings)
  want = X
  layers = mnn.unstack_layers(params['params']) if scan else params['params']
  for i, segments in enumerate((window, everything, window)):
    block = mnn.Block(8, 4, 11)
    layer = {'params': layers[f'layers_{i}']}
    mask = segments[:, :, None] == segments[:, None]
    want, _ = block.apply(layer, want, visible=mnn.Visible(mask), train=False)
  np.testing.assert_allclose(got, want, **TOLERANCE)
  with pytest.raises(ValueError, match=r'\(0, 2\) need segments and local_'):
    module.apply(params, X, **settings)


def test_local_layers_attend_to_recent_tokens_by_other_positions(draw):
  rope = {'rope_theta': 1e4, 'local_rope': {'theta': 7.0}}
  settings = {'visible': mnn.Visible(causal=True), 'train': False}
  module = stack(block=rope, local_layers=(0, 2), window=2)
  params = draw(module, X, **settings)
  want, layers = X, mnn.unstack_layers(params['params'])
  for i, theta in enumerate((7.0, 1e4, 7.0)):
    block = mnn.Block(8, 4, 11, rope_theta=theta)
    window = 2 if i != 1 else None
    visible = mnn.Visible(causal=True, window=window)
    layer = {'params': layers[f'layers_{i}']}
    want, _ = block.apply(layer, want, visible=visible, train=False)
  got, _ = module.apply(params, X, **settings)
  np.testing.assert_allclose(got, want, **TOLERANCE)
  # The last token of the first layer alone attends to one before it.
  alone = stack(block=rope, local_layers=(0, 1, 2), window=1)
  got, _ = alone.apply(params, X, **settings)
  moved, _ = alone.apply(params, X.at[:, 0].add(1.0), **settings)
  np.testing.assert_array_equal(got[:, 1:], moved[:, 1:])
  for wrong, message in (
    ({'window': 2, 'block': None}, 'set local_layers or leave it out'),
    ({}, 'local_rope .* is for the local layers'),
  ):
    with pytest.raises(ValueError, match=message):
      stack(**{'block': rope, **wrong}).apply(params, X, **settings)
