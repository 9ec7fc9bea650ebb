"""Token-level fusions against plain loops over blocks, without masks."""

import functools

import jax.numpy as jnp
import numpy as np

from mmjax import fusion
from mmjax import nn as mnn
from mmjax.types import TokenVectors

WIDTH = 6
BLOCKS = {'num_heads': 2, 'mlp_dim': 7}
# The same sums in another program, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def make_tokens():
  rng = np.random.default_rng(1)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'a': TokenVectors.of(draw(2, 3, 5)),
    'b': TokenVectors.of(draw(2, 4, 7)),
  }


def mark(params, name, x):
  projection = params[f'{name}_projection']
  x = x @ projection['kernel'] + projection['bias'][None, None]
  return x + params[f'{name}_mark'][None, None]


def normalise(params, x):
  return mnn.make_norm('layernorm', 1e-6, jnp.float32, None).apply(
    {'params': params['last_norm']}, x
  )


def apply_block(params, x, context=None, **settings):
  block = mnn.Block(
    WIDTH, **BLOCKS, cross_attention=context is not None, **settings
  )
  context = None if context is None else mnn.Context(context)
  return block.apply({'params': params}, x, context, train=False)[0]


def test_bottleneck_tokens_carry_all_that_modalities_exchange(draw):
  tokens = make_tokens()
  module = fusion.Bottleneck(WIDTH, 2, number=3, **BLOCKS)
  variables = draw(module, tokens, train=False)
  params = variables['params']
  x = {n: mark(params, n, t.values) for n, t in tokens.items()}
  shared = jnp.broadcast_to(params['bottlenecks'][None], (2, 3, WIDTH))
  for i in range(2):
    both = {
      n: apply_block(
        params[f'{n}_layers_{i}'], jnp.concatenate([v, shared], axis=1)
      )
      for n, v in x.items()
    }
    x = {n: v[:, :-3] for n, v in both.items()}
    shared = (both['a'][:, -3:] + both['b'][:, -3:]) / 2
  expected = jnp.concatenate([normalise(params, x[n]) for n in 'ab'], axis=1)
  out = module.apply(variables, tokens, train=False)
  close(out.values, expected)
  a, b = expected[:, :3].mean(axis=1), expected[:, 3:].mean(axis=1)
  close(out.pooled, (a + b) / 2)


def test_co_attention_exchanges_what_was_before_each_block(draw):
  tokens = make_tokens()
  module = fusion.CoAttention(WIDTH, 2, **BLOCKS)
  variables = draw(module, tokens, train=False)
  params = variables['params']
  a, b = (mark(params, n, tokens[n].values) for n in 'ab')
  for i in range(2):
    new = apply_block(params[f'a_layers_{i}'], a, b)
    b = apply_block(params[f'b_layers_{i}'], b, a)
    a = new
  out = module.apply(variables, tokens, train=False)
  expected = [normalise(params, x) for x in (a, b)]
  close(out.values, jnp.concatenate(expected, axis=1))


def test_crossmodal_stacks_attend_to_the_source_as_it_was(draw):
  tokens = make_tokens()
  module = fusion.CrossmodalTransformer(WIDTH, 2, self_depth=1, **BLOCKS)
  variables = draw(module, tokens, train=False)
  params = variables['params']
  start = {n: mark(params, n, tokens[n].values) for n in 'ab'}
  expected = []
  for target, source in ('ab', 'ba'):
    x = start[target]
    for i in range(2):
      x = apply_block(
        params[f'{target}_from_{source}_{i}'],
        x,
        start[source],
        self_attention=False,
      )
    merge = params[f'{target}_merge']
    x = x @ merge['kernel'] + merge['bias'][None, None]
    x = apply_block(params[f'{target}_self_0'], x)
    expected.append(normalise(params, x))
  out = module.apply(variables, tokens, train=False)
  close(out.values, jnp.concatenate(expected, axis=1))


def test_closed_gates_leave_the_querying_modality_alone(draw):
  tokens = make_tokens()
  module = fusion.GatedCrossAttention('a', WIDTH, 1, **BLOCKS)
  variables = draw(module, tokens, train=False)
  gates = {
    name: jnp.zeros(()) for name in variables['params'] if 'gate' in name
  }
  assert set(gates) == {'cross_gate_0', 'cross_mlp_gate_0'}
  params = {**variables['params'], **gates}
  projection = params['query_projection']
  x = tokens['a'].values @ projection['kernel']
  x = x + projection['bias'][None, None]
  x = normalise(params, apply_block(params['layers_0'], x))
  closed = module.apply({'params': params}, tokens, train=False)
  close(closed.values, x)
  opened = module.apply(variables, tokens, train=False)
  assert not np.allclose(opened.values, x, atol=1e-3)


def test_a_soft_prefix_is_in_front(draw):
  tokens = make_tokens()
  module = fusion.SoftPrefix('b', WIDTH, number=2)
  variables = draw(module, tokens, train=False)
  params = variables['params']
  prefix = tokens['a'].pooled @ params['a_prefix']['kernel']
  prefix = prefix + params['a_prefix']['bias'][None]
  out = module.apply(variables, tokens, train=False)
  close(out.values[:, :2], prefix.reshape(2, 2, WIDTH))
  start = module.locate({'a': 3, 'b': 4}, 'b')
  projection = params['query_projection']
  close(
    out.values[:, start:],
    tokens['b'].values @ projection['kernel'] + projection['bias'][None, None],
  )
  assert start == 2 and module.locate({'a': 3, 'b': 4}, 'a') is None
