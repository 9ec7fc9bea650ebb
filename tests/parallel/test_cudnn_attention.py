"""cuDNN's attention is lowered for GPUs; around it, masks are exact."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from mmjax import ops
from mmjax.parallel import attention_forms, cudnn_attention
from mmjax.parallel import mesh as mesh_lib

LENGTH = 131
SEGMENTS = jnp.asarray([[1] * 30 + [2] * 101, [1] * 100 + [0] * 31])
REAL = jnp.stack([jnp.arange(LENGTH) > 3, jnp.zeros(LENGTH, bool)])[:, None]
PREFIX = jnp.arange(LENGTH)[None] < jnp.array([[7], [70]])
STEPS = jnp.arange(LENGTH)
RECENT = (STEPS[:, None] - STEPS[None] < 9)[None]
CASES = {
  'nothing': {},
  'causal': {'causal': True},
  'keys': {'causal': True, 'mask': REAL},
  'window': {'causal': True, 'window': 9},
  'all': {'causal': True, 'prefix_mask': PREFIX, 'segments': SEGMENTS},
}


@pytest.fixture
def cudnn(monkeypatch):
  """Behaves as if cuDNN 9.10 were installed."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: 91000
  )
  cudnn_attention.supports.cache_clear()
  yield
  cudnn_attention.supports.cache_clear()


def _shapes(dtype='bfloat16', length=LENGTH, size=16):
  heads = (4, 2, 2)
  return [jax.ShapeDtypeStruct((2, length, n, size), dtype) for n in heads]


@pytest.mark.parametrize('name', CASES)
def test_gradients_are_lowered_for_gpus(name, cudnn):
  def loss(*inputs):
    mixed = cudnn_attention.cudnn_attention(*inputs, **CASES[name])
    return jnp.sum(mixed.astype(jnp.float32))

  traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*_shapes())
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  kernel = 'Softmax' if name in ('nothing', 'causal') else 'ScaleBiasSoftmax'
  calls = re.findall(r'custom_call @__cudnn\$fmha(\w+)\(', text)
  assert calls == [kernel, f'{kernel}Backward']
  padding = 'PADDING_CAUSAL' if name == 'causal' else 'PADDING'
  wanted = padding if kernel == 'Softmax' else 'NO_MASK'
  masks = set(re.findall(r'mask_type\\22: \\22(\w+)\\22', text))
  assert masks == {wanted}


@pytest.mark.parametrize('name', CASES)
def test_around_the_kernel_masks_are_exact(name, monkeypatch):
  real = functools.partial(jax.nn.dot_product_attention, implementation='xla')
  monkeypatch.setattr(
    jax.nn,
    'dot_product_attention',
    lambda *args, implementation, **settings: real(*args, **settings),
  )
  rng = np.random.default_rng(0)
  query, key, value = (
    jnp.asarray(rng.normal(size=x.shape), jnp.float32) for x in _shapes()
  )
  structure = CASES[name]
  if 'mask' in structure:
    hidden = structure['mask'][:, 0, :, None, None]
    key, value = (jnp.where(hidden, x, jnp.nan) for x in (key, value))
  pair = lambda x: None if x is None else (x, x)
  allowed = ops.allowed_keys(
    structure.get('mask'),
    earlier=ops.causal_mask(LENGTH) if 'causal' in structure else None,
    segments=pair(structure.get('segments')),
    prefix_mask=pair(structure.get('prefix_mask')),
    recent=RECENT if 'window' in structure else None,
  )
  want = ops.dot_product_attention(query, key, value, allowed)[0]
  got = cudnn_attention.cudnn_attention(query, key, value, **structure)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_what_cudnn_has_no_kernel_for_is_not_chosen(cudnn, monkeypatch):
  monkeypatch.setattr(mesh_lib, 'platform', lambda: 'gpu')

  def choose(masked='queries', **settings):
    query, key, _ = (jnp.zeros(x.shape, x.dtype) for x in _shapes(**settings))
    return attention_forms.choose(
      query, key, own=True, needs_weights=False, masked=masked
    )

  assert choose() == 'cudnn'
  assert choose(dtype='float32') == choose(size=13) == 'plain'
  assert choose('nothing') == 'cudnn'
  assert choose(length=127) == 'plain'
