"""Layers with quantised kernels compute what those with plain ones do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.nn import quantized
from mmjax.ops import tree_paths
from mmjax.parallel import rules
from tests.nn import quantizing


@pytest.mark.parametrize(
  ('kind', 'double', 'scan'), [('nf4', True, True), ('int8', False, False)]
)
def test_outputs_and_gradients_are_those_of_the_kernels(kind, double, scan):
  module = mnn.Stack(2, 32, 2, 48, block={'gated': True}, scan=scan)
  x = jax.random.normal(jax.random.key(1), (2, 3, 32))
  params, boxes = quantizing.quantize(module, x, kind, double=double)
  plain = quantized.dequantize(params)
  assert not any(map(quantized.is_packed, tree_paths.flatten(plain)))
  for path, leaf in tree_paths.flatten(quantized.as_plain(params)).items():
    assert leaf.shape == tree_paths.flatten(plain)[path].shape

  def loss(x, params):
    y, _ = module.apply({'params': params}, x, train=False)
    return jnp.sum(jnp.sin(y))

  for got, want in zip(
    jax.value_and_grad(loss)(x, params),
    jax.value_and_grad(loss)(x, plain),
    strict=True,
  ):
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)
  # Blocks that the mesh does not divide are on all devices.
  mesh = jax.sharding.AbstractMesh(
    (1, 4, 2, 1), ('data', 'fsdp', 'tensor', 'sequence')
  )
  shardings = tree_paths.flatten(rules.shardings(boxes, mesh))
  layer, front = ('layers', (None,)) if scan else ('layers_0', ())
  out = shardings[f'{layer}/attention/out/kernel_codes'].spec
  assert out == jax.P(*front, 'tensor', None, None, 'fsdp')
  up = shardings[f'{layer}/mlp/up/kernel_codes'].spec
  assert up == jax.P(*front, None, None, 'tensor')


def test_a_kernel_of_another_shape_is_refused():
  module, x = mnn.Dense(5), jnp.ones((2, 32))
  kernel = jnp.ones((48, 5))
  like = nn.meta.unbox(
    quantized.make_shapes(
      jax.ShapeDtypeStruct((48, 5), jnp.float32), 1, 1, 'nf4', double=False
    )
  )
  leaves = quantized.to_leaves('x', quantized.quantize_like(kernel, like))
  params = tree_paths.unflatten(leaves)['x']
  params['bias'] = jnp.zeros(5)
  with pytest.raises(ConfigError, match=r'\(48, 5\), and the layer needs \(32'):
    module.apply({'params': params}, x)
