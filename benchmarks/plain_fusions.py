"""The formula of each fusion for two modalities, written without masks.

What `benchmarks.fusion_speed` compares the fusions with: `FORMULAS[name](p, a,
b)` gets the parameters of the fusion of `benchmarks.fusion_costs.make`, and the
tokens [B, N, D] of the modalities `audio` and `image`, of which `image` is the
query. It returns the fused tokens and their summary [B, D].
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import fusion
from mmjax.types import Array

Params = Mapping[str, Any]


def dense(p: Params, x: Array) -> Array:
  """A dense layer on the last axis."""
  return x @ p['kernel'] + p['bias']


def normalise(p: Params, x: Array) -> Array:
  """A layer norm."""
  mean = x.mean(axis=-1, keepdims=True)
  variance = jnp.square(x - mean).mean(axis=-1, keepdims=True)
  return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * p['scale'] + p['bias']


def attend(p: Params, x: Array, context: Array) -> Array:
  """Multi-head attention from [B, T, D] to [B, S, D]."""
  q, k, v = (
    jnp.einsum('bnd,dhk->bnhk', source, p[name]['kernel']) + p[name]['bias']
    for name, source in (('query', x), ('key', context), ('value', context))
  )
  scores = jnp.einsum('bthk,bshk->bhts', q, k) * q.shape[-1] ** -0.5
  mixed = jnp.einsum('bhts,bshk->bthk', jax.nn.softmax(scores, axis=-1), v)
  out = p['out']
  return jnp.einsum('bthk,hkd->btd', mixed, out['kernel']) + out['bias']


def feed_forward(p: Params, x: Array) -> Array:
  """Two dense layers around a GELU."""
  return dense(p['down'], jax.nn.gelu(dense(p['up'], x), approximate=False))


def transform(p: Params, x: Array, context: Array | None = None) -> Array:
  """A block: self-attention, cross-attention to a context, and an MLP."""
  if 'attention' in p:
    y = normalise(p['attention_norm'], x)
    x = x + attend(p['attention'], y, y)
  if context is not None:
    y = normalise(p['cross_attention_norm'], x)
    x = x + attend(p['cross_attention'], y, context)
  return x + feed_forward(p['mlp'], normalise(p['mlp_norm'], x))


def pool(x: Array) -> Array:
  """The mean over tokens."""
  return x.mean(axis=1)


def _project_both(p: Params, a: Array, b: Array) -> tuple[Array, Array]:
  """A projection of each summary."""
  names = ('audio_projection', 'image_projection')
  return tuple(
    dense(p[name], pool(x)) for name, x in zip(names, (a, b), strict=True)
  )


def _mark(p: Params, name: str, x: Array) -> Array:
  return dense(p[f'{name}_projection'], x) + p[f'{name}_mark']


def _join(p: Params, a: Array, b: Array) -> Array:
  return jnp.concatenate([_mark(p, 'audio', a), _mark(p, 'image', b)], axis=1)


def _make_feature(mix: Callable[[Params, Array, Array], Array]) -> Any:
  """A formula whose result is one vector."""

  def formula(p, a, b):
    vector = mix(p, a, b)
    return vector[:, None], vector

  return formula


def _weigh(p, a, b):
  x, y = _project_both(p, a, b)
  weights = jax.nn.softmax(p['weights'])
  return weights[0] * x + weights[1] * y


def _multiply(p, a, b):
  x, y = _project_both(p, a, b)
  return jnp.tanh(x) * jnp.tanh(y)


def _gate(p, a, b):
  x, y = pool(a), pool(b)
  kernel, bias = p['gate']['kernel'], p['gate']['bias']
  logits = jnp.einsum('be,emd->bmd', jnp.concatenate([x, y], 1), kernel) + bias
  gates = jax.nn.softmax(logits, axis=1)
  first, second = gates[:, 0], gates[:, 1]
  values = jnp.concatenate(
    [
      _mark(p, 'audio', a) * first[:, None],
      _mark(p, 'image', b) * second[:, None],
    ],
    axis=1,
  )
  x, y = (
    jnp.tanh(dense(p['audio_pooled'], x)),
    jnp.tanh(dense(p['image_pooled'], y)),
  )
  return values, first * x + second * y


def _modulate(p, a, b):
  gamma, beta = jnp.split(dense(p['audio_film'], pool(a))[:, None], 2, axis=-1)
  x = (1 + gamma) * dense(p['query_projection'], b) + beta
  return x, pool(x)


def _multiply_all(p, a, b):
  x, y = (
    jnp.pad(jax.nn.relu(v), ((0, 0), (1, 0)), constant_values=1)
    for v in _project_both(p, a, b)
  )
  outer = jnp.einsum('bp,bq->bpq', x, y).reshape(len(x), -1)
  return dense(p['output'], outer)


def _multiply_low_rank(p, a, b):
  x, y = dense(p['audio_factor'], pool(a)), dense(p['image_factor'], pool(b))
  width = len(p['bias'])
  return (x * y).reshape(len(x), -1, width).sum(axis=1) + p['bias']


def take_root(x: Array) -> Array:
  """A signed square root, and the length 1."""
  x = x * (jnp.abs(x) + 1e-6) ** -0.5
  return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def _sketch(name: str, x: Array, size: int) -> Array:
  """A count sketch, whose hashes are those of `CompactBilinear`."""
  rng = np.random.default_rng([0, zlib.crc32(name.encode())])
  index = rng.integers(size, size=x.shape[1])
  sign = rng.choice(np.asarray([-1.0, 1.0], np.float32), size=x.shape[1])
  return jnp.zeros((len(x), size)).at[:, index].add(x * sign)


def _convolve(p, a, b):
  size = len(p['output']['kernel'])
  x, y = (
    jnp.fft.rfft(_sketch(name, pool(v), size))
    for name, v in (('audio', a), ('image', b))
  )
  return dense(p['output'], take_root(jnp.fft.irfft(x * y, n=size)))


def _sum_products(p, a, b):
  x, y = pool(a), pool(b)
  factors = fusion.FactorizedBilinear.factors
  product, parts, i = 1.0, [], 0
  while f'audio_factor_{i}' in p:
    first, second = (
      dense(p[f'audio_factor_{i}'], x),
      dense(p[f'image_factor_{i}'], y),
    )
    product = product * first * second
    parts.append(product.reshape(len(x), -1, factors).sum(axis=2))
    i += 1
  return jnp.concatenate([take_root(part) for part in parts], axis=1)


def _decompose(p, a, b):
  x, y = (jnp.tanh(v) for v in _project_both(p, a, b))
  product = (x @ p['audio_core']['kernel']) * (y @ p['image_core']['kernel'])
  total = product.reshape(len(x), -1, x.shape[1]).sum(axis=1)
  return dense(p['output'], total)


def _decompose_blocks(p, a, b):
  x, y = (
    jnp.einsum('bcs,csrt->bcrt', v.reshape(len(v), core.shape[0], -1), core)
    for v, core in zip(
      _project_both(p, a, b), (p['audio_core'], p['image_core']), strict=True
    )
  )
  total = (x * y).sum(axis=2)
  return dense(p['output'], take_root(total).reshape(len(total), -1))


def _attend_once(p, a, b):
  p, joint = p['pool'], _join(p, a, b)
  query = jnp.broadcast_to(p['probe'], (len(joint), *p['probe'].shape))
  x = attend(p['attention'], query, joint)
  return (x + feed_forward(p['mlp'], normalise(p['norm'], x)))[:, 0]


def _layers(p: Params, name: str = 'layers') -> list[Params]:
  """The parameters of a row of blocks."""
  found = []
  while f'{name}_{len(found)}' in p:
    found.append(p[f'{name}_{len(found)}'])
  return found


def _concat(p, a, b):
  x = _join(p, a, b)
  for layer in _layers(p['blocks']):
    x = transform(layer, x)
  x = normalise(p['last_norm'], x)
  return x, pool(x)


def _cross(p, a, b):
  x, context = dense(p['query_projection'], b), _mark(p, 'audio', a)
  for layer in _layers(p['blocks']):
    x = transform(layer, x, context)
  x = normalise(p['last_norm'], x)
  return x, pool(x)


def _end_streams(p: Params, x: Array, y: Array) -> tuple[Array, Array]:
  x, y = normalise(p['last_norm'], x), normalise(p['last_norm'], y)
  return jnp.concatenate([x, y], axis=1), (pool(x) + pool(y)) / 2


def _co_attend(p, a, b):
  x, y = _mark(p, 'audio', a), _mark(p, 'image', b)
  pairs = zip(
    _layers(p, 'audio_layers'), _layers(p, 'image_layers'), strict=True
  )
  for first, second in pairs:
    x, y = transform(first, x, y), transform(second, y, x)
  return _end_streams(p, x, y)


def _cross_both_ways(p, a, b):
  x, y = _mark(p, 'audio', a), _mark(p, 'image', b)
  out = []
  for target, source, name, other in (
    (x, y, 'audio', 'image'),
    (y, x, 'image', 'audio'),
  ):
    for layer in _layers(p, f'{name}_from_{other}'):
      target = transform(layer, target, source)
    target = dense(p[f'{name}_merge'], target)
    for layer in _layers(p, f'{name}_self'):
      target = transform(layer, target)
    out.append(target)
  return _end_streams(p, *out)


def _exchange(p, a, b):
  x, y = _mark(p, 'audio', a), _mark(p, 'image', b)
  shared = jnp.broadcast_to(p['bottlenecks'], (len(x), *p['bottlenecks'].shape))
  pairs = zip(
    _layers(p, 'audio_layers'), _layers(p, 'image_layers'), strict=True
  )
  for first, second in pairs:
    v = transform(first, jnp.concatenate([x, shared], axis=1))
    w = transform(second, jnp.concatenate([y, shared], axis=1))
    x, y = v[:, : x.shape[1]], w[:, : y.shape[1]]
    shared = (v[:, x.shape[1] :] + w[:, y.shape[1] :]) / 2
  return _end_streams(p, x, y)


def _resample(p, a, b):
  joint, p = _join(p, a, b), p['resampler']
  context = normalise(p['first_norm'], dense(p['projection']['dense'], joint))
  x = jnp.broadcast_to(p['queries'], (len(a), *p['queries'].shape))
  for layer in _layers(p):
    x = transform(layer, x, jnp.concatenate([context, x], axis=1))
  x = normalise(p['last_norm'], x)
  return x, pool(x)


def _query(p, a, b):
  joint, p = _join(p, a, b), next(v for k, v in p.items() if 'quer' in k)
  x = jnp.broadcast_to(p['queries'], (len(a), *p['queries'].shape))
  x = normalise(p['initial_norm'], x)
  for i, layer in enumerate(_layers(p)):
    x = transform(layer, x, joint if i % 2 == 0 else None)
  x = dense(p['projection'], x)
  return x, pool(x)


def _cross_gated(p, a, b):
  x, context = dense(p['query_projection'], b), _mark(p, 'audio', a)
  for i, layer in enumerate(_layers(p)):
    y = normalise(p[f'cross_norm_{i}'], x)
    y = attend(p[f'cross_attention_{i}'], y, context)
    x = x + jnp.tanh(p[f'cross_gate_{i}']) * y
    y = normalise(p[f'cross_mlp_norm_{i}'], x)
    y = feed_forward(p[f'cross_mlp_{i}'], y)
    x = x + jnp.tanh(p[f'cross_mlp_gate_{i}']) * y
    x = transform(layer, x)
  x = normalise(p['last_norm'], x)
  return x, pool(x)


def _prefix(p, a, b):
  x = dense(p['query_projection'], b)
  prefix = dense(p['audio_prefix'], pool(a)).reshape(len(x), -1, x.shape[2])
  x = jnp.concatenate([prefix, x], axis=1)
  return x, pool(x)


def _make_decision(decide: Callable[[Params, Array, Array], Array]) -> Any:
  """A formula of logits, which are the tokens [B, 1, C]."""
  return _make_feature(lambda p, a, b: decide(p, a[:, 0], b[:, 0]))


def _average(p, a, b):
  del p
  return jnp.log((jax.nn.softmax(a) + jax.nn.softmax(b)) / 2)


def _weigh_decisions(p, a, b):
  weights = jax.nn.softmax(p['weights'])
  return jnp.log(
    weights[0] * jax.nn.softmax(a) + weights[1] * jax.nn.softmax(b)
  )


def _stack(p, a, b):
  present = jnp.ones((len(a), 2))
  return dense(p['output'], jnp.concatenate([a, b, present], axis=1))


def _vote(p, a, b):
  t = jnp.exp(-p['log_temperature'])
  return _average(p, a * t[0], b * t[1])


FORMULAS = {
  'pooled_concat': _make_feature(
    lambda p, a, b: dense(
      p['output'], jnp.concatenate([pool(a), pool(b)], axis=1)
    )
  ),
  'sum': _make_feature(lambda p, a, b: sum(_project_both(p, a, b))),
  'weighted_sum': _make_feature(_weigh),
  'mean': _make_feature(lambda p, a, b: sum(_project_both(p, a, b)) / 2),
  'max': _make_feature(lambda p, a, b: jnp.maximum(*_project_both(p, a, b))),
  'product': _make_feature(_multiply),
  'gated': _gate,
  'film': _modulate,
  'tensor': _make_feature(_multiply_all),
  'low_rank': _make_feature(_multiply_low_rank),
  'mcb': _make_feature(_convolve),
  'mfb': _make_feature(_sum_products),
  'mfh': _make_feature(_sum_products),
  'mutan': _make_feature(_decompose),
  'block_fusion': _make_feature(_decompose_blocks),
  'attention_pool': _make_feature(_attend_once),
  'concat': _concat,
  'cross_attention': _cross,
  'co_attention': _co_attend,
  'crossmodal_transformer': _cross_both_ways,
  'bottleneck': _exchange,
  'perceiver_resampler': _resample,
  'q_former': _query,
  'gated_cross_attention': _cross_gated,
  'soft_prefix': _prefix,
  'mean_decision': _make_decision(_average),
  'max_decision': _make_decision(
    lambda p, a, b: jnp.log(jnp.maximum(jax.nn.softmax(a), jax.nn.softmax(b)))
  ),
  'weighted_decision': _make_decision(_weigh_decisions),
  'stacking': _make_decision(_stack),
  'product_of_experts': _make_decision(
    lambda p, a, b: jax.nn.log_softmax(
      jax.nn.log_softmax(a) + jax.nn.log_softmax(b)
    )
  ),
  'voting': _make_decision(_vote),
}
