"""Models whose tokens are split between devices equal those on one.

Run by test_attention.py in a process of eight devices.
"""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, encoders
from mmjax import nn as mnn
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.parallel import attention_forms, rules, tiled_attention
from mmjax.parallel import mesh as mesh_lib
from mmjax.types import TokenVectors
from tests.nn import quantizing

BLOCK = {'num_kv_heads': 2, 'rope_theta': 1e4}
# Sums in another order, in float32, through two layers.
TOLERANCE = {'rtol': 1e-4, 'atol': 1e-5}
SPLIT = [{'data': 2, 'sequence': 4}, {'sequence': 4, 'tensor': 2}]


@contextlib.contextmanager
def over(sizes):
  mesh = mesh_lib.build(sizes)
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules.RULES):
    yield


def vit():
  """With a class token, 17 tokens; the second image is missing."""
  module = encoders.ViT(
    4, 16, 2, 4, 24, class_token=True, pooling='first', block=BLOCK
  )
  images = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
  inputs = jnp.asarray(images, jnp.float32), jnp.asarray([True, False])
  return module, inputs, lambda tokens: tokens.pooled[0]


def decoder():
  """Causal, 11 tokens of which the second text lacks some; with a context."""
  module = decoders.TextDecoder(13, 16, 2, 4, 24, 11, block=BLOCK, remat='full')
  rng = np.random.default_rng(0)
  mask = jnp.arange(11)[None] < jnp.asarray([11, 6])[:, None]
  values = jnp.asarray(rng.normal(size=(2, 3, 16)), jnp.float32)
  context = TokenVectors(values, jnp.ones((2, 3), bool), values[:, 0])
  tokens = jnp.asarray(rng.integers(0, 13, size=(2, 11)), jnp.int32)
  inputs = tokens, mask, context
  return module, inputs, lambda logits: logits * mask[:, :, None]


def gradient(module, inputs, read):
  def loss(params):
    out = read(module.apply({'params': params}, *inputs, train=False))
    return jnp.mean(out**2), out

  return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize(
  ('build', 'sizes'), zip([vit, decoder], SPLIT, strict=True)
)
def test_split_equals_whole(build, sizes, draw):
  module, inputs, read = build()
  params = draw(module, *inputs, train=False)['params']
  expected = gradient(module, inputs, read)(params)
  with over(sizes):
    step = gradient(module, inputs, read)
    assert 'ppermute' in str(step.trace(params).jaxpr)
    found = step(params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), found, expected
  )


def test_adapters_are_sharded_as_their_kernels():
  module, inputs, read = vit()
  init = lambda: module.init(jax.random.key(0), *inputs, train=False)
  with adapters.record_layers() as layers:
    boxed = jax.eval_shape(init)['params']
  lora = adapters.Lora(3, 5.0, dora=True)
  shapes = adapters.make_shapes(boxed, layers, lora)
  rng = np.random.default_rng(0)
  whole = tree_paths.overlay(nn.meta.unbox(boxed), nn.meta.unbox(shapes))
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.uniform(0.1, 0.5, x.shape), jnp.float32), whole
  )
  expected = gradient(module, inputs, read)(params)
  sizes = {'fsdp': 2, 'tensor': 4}
  places = rules.shardings(
    tree_paths.unflatten(
      adapters.flatten_boxed(boxed) | adapters.flatten_boxed(shapes)
    ),
    mesh_lib.build(sizes),
  )
  query = places['blocks']['layers']['attention']['query']
  assert query['lora_a'].spec == jax.P(None, 'fsdp', None)
  assert query['lora_b'].spec == jax.P(None, None, 'tensor', None)
  assert query['lora_magnitude'].spec == jax.P(None, 'tensor', None)
  with over(sizes):
    found = gradient(module, inputs, read)(jax.device_put(params, places))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), found, expected
  )


def test_quantised_kernels_are_split():
  module = mnn.Stack(2, 64, 4, 256, block={'gated': True})
  x = jax.random.normal(jax.random.key(1), (2, 3, 64))
  params, boxes = quantizing.quantize(module, x, 'nf4', double=True)

  def loss(x, params):
    return jnp.mean(module.apply({'params': params}, x, train=False)[0] ** 2)

  compute = jax.jit(jax.value_and_grad(loss))
  expected = compute(x, params)
  sizes = {'fsdp': 2, 'tensor': 4}
  places = rules.shardings(boxes, mesh_lib.build(sizes))
  down = places['layers']['mlp']['down']
  assert down['kernel_codes'].spec == jax.P(None, 'tensor', None, 'fsdp')
  # One block of inputs is on all devices.
  up = places['layers']['mlp']['up']
  assert up['kernel_codes'].spec == jax.P(None, None, None, 'tensor')
  with over(sizes):
    found = compute(x, jax.device_put(params, places))
  for got, want in zip(found, expected, strict=True):
    np.testing.assert_allclose(got, want, **TOLERANCE)


def test_weights_are_there_for_whoever_asks(draw):
  module, inputs, _ = vit()
  variables = draw(module, *inputs, train=False)
  show = lambda: module.apply(
    variables, *inputs, train=False, mutable='intermediates'
  )[1]
  expected = show()
  with over(SPLIT[0]):
    found = jax.jit(show)()
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, **TOLERANCE), found, expected
  )
  assert jax.tree.leaves(found)[0].shape == (2, 2, 4, 17, 17)


def test_decoding_does_not_go_around(draw):
  module, (tokens, mask, context), _ = decoder()
  variables = draw(module, tokens, mask, context, train=False)

  def step(variables):
    cache = module.init_cache(2, 12, 3)
    return module.apply(
      variables,
      tokens,
      cache,
      mask,
      context,
      method='compute_hidden_states_cached',
    )[0]

  expected = jax.jit(step)(variables)
  with over(SPLIT[0]):
    assert 'ppermute' not in str(jax.jit(step).trace(variables).jaxpr)
    found = jax.jit(step)(variables)
  np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_memory_of_a_causal_decoder_grows_with_the_tokens_a_device(monkeypatch):
  monkeypatch.setattr(tiled_attention, 'TILE', 64)

  def temporaries(sizes, length):
    module = decoders.TextDecoder(
      5, 8, 2, 2, 16, length, cross_attention=False, remat='full'
    )
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    init = lambda x: module.init(jax.random.key(0), x, train=False)
    variables = nn.meta.unbox(jax.eval_shape(init, tokens))

    def loss(variables, tokens):
      return jnp.mean(module.apply(variables, tokens, train=False) ** 2)

    with over(sizes):
      compiled = jax.jit(jax.grad(loss)).lower(variables, tokens).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  eight = temporaries({'sequence': 8}, 1024)
  assert temporaries({'sequence': 8}, 2048) < 2.1 * eight
  assert temporaries({'data': 4, 'sequence': 2}, 1024) > 3 * eight
  with attention_forms.only_plain():
    assert temporaries({'data': 8}, 1024) > 50 * eight
