"""Which parameters a run with adapters trains, and what a step then holds."""

import math
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, models
from mmjax import nn as mnn
from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.nn import adapters, quantized
from mmjax.ops import tree_paths
from mmjax.parallel import mesh, vocabulary
from mmjax.training import adapting, optimizer, step
from mmjax.training import state as state_lib

PARAMS = {
  'image': {
    'up': {
      'kernel': jnp.zeros((3, 5)),
      'bias': jnp.zeros(5),
      'lora_a': jnp.zeros((3, 2)),
      'lora_b': jnp.zeros((2, 5)),
      'lora_scale': jnp.zeros(()),
    },
    'norm': {'scale': jnp.zeros(3)},
  },
  'head': {'kernel': jnp.zeros((5, 7))},
}


def _config(**fields):
  config = settings.default_config()
  config.init_from = 'FOLDER'
  config.adapter.update({'layers': ('up',)} | fields)
  return config


def _trained(config):
  leaves = jax.tree.leaves_with_path(adapting.find_trained(config, PARAMS))
  return {path[-2].key + '/' + path[-1].key for path, kept in leaves if kept}


@pytest.mark.parametrize(
  ('adapter', 'freeze', 'want'),
  [
    ({}, (), {'up/lora_a', 'up/lora_b'}),
    # Neither a pattern that names the whole nor one that names the adapter
    # makes its scale a parameter.
    ({'train': ('norm', 'up/(bias|lora)')}, (), {
      'up/lora_a', 'up/lora_b', 'up/bias', 'norm/scale',
    }),
    ({'train': ('',)}, ('head', 'lora_a'), {
      'up/lora_b', 'up/kernel', 'up/bias', 'norm/scale',
    }),
    ({'layers': ()}, ('lora', 'up'), {'norm/scale', 'head/kernel'}),
  ],
)  # fmt: skip
def test_adapters_and_what_is_named_are_trained(adapter, freeze, want):
  config = _config(**adapter)
  config.optimizer.freeze = freeze
  assert _trained(config) == want


def test_frozen_parameters_without_values_are_refused():
  read = dict.fromkeys(('image/up/kernel', 'image/up/bias', 'head/kernel'))
  with pytest.raises(ConfigError, match='no values of image/norm/scale: they'):
    adapting.check_read(_config(), PARAMS, read)
  adapting.check_read(_config(train=('norm',)), PARAMS, read)


def test_random_parameters_that_stay_are_named_or_refused(capsys):
  config = _config(layers=())
  config.optimizer.freeze = ('image/norm',)
  adapting.check_read(config, PARAMS, ['image/norm/scale'])
  assert not capsys.readouterr().out
  adapting.check_read(config, PARAMS, [])
  assert '1 of the frozen parameters stay random' in capsys.readouterr().out
  read = ['image/norm/scale', 'head/kernel']
  adapting.check_read(config, PARAMS, read, ['head'])
  with pytest.raises(ConfigError, match=r'random image makes .*=image=FOL'):
    adapting.check_read(config, PARAMS, read, ['image'])


def test_magnitudes_follow_the_kernels():
  up = {'kernel': 2 * jnp.eye(3, 5), **PARAMS['image']['up']}
  up |= {'kernel': 2 * jnp.eye(3, 5), 'lora_magnitude': jnp.ones(5)}
  found = adapters.find_magnitudes({'image': {'up': up}})
  np.testing.assert_array_equal(
    found['image/up/lora_magnitude'], [2, 2, 2, 0, 0]
  )


class _Next:
  """Cross-entropy of the next token."""

  compared_outputs = ()

  def count(self, batch):
    return batch['text_mask'].sum().astype(jnp.float32)

  def __call__(self, outputs, batch, *, apply, rng, axis_name=None):
    loss, *_ = vocabulary.mean_cross_entropy(
      outputs['text_logits'], batch['text'], batch['text_mask']
    )
    return loss, {}


@pytest.mark.parametrize('quantize', ['', 'nf4'])
def test_no_gradient_and_no_copy_of_two_billion_frozen_weights(quantize):
  decoder = decoders.TextDecoder(
    49157,
    2048,
    depth=24,
    num_heads=16,
    mlp_dim=8192,
    max_length=512,
    cross_attention=False,
    positions='none',
    block={'gated': True, 'mlp_bias': False, 'attention_bias': False},
    dtype=jnp.bfloat16,
  )
  model = models.LanguageModel(decoder)
  batch = {
    'text': np.zeros((1, 67), np.int32),
    'text_mask': np.ones((1, 67), bool),
  }
  config = _config(
    layers=('attention/(query|value)', 'mlp/down'),
    dora=True,
    quantize=quantize,
    double_quantize=bool(quantize),
  )
  boxed = state_lib.shapes(model, batch)
  experiment = types.SimpleNamespace(model=model, init_batch=batch)
  boxed, adapt = adapting.extend(config, experiment, boxed)
  params = nn.meta.unbox(boxed)
  tx = optimizer.build(config.optimizer, params, steps=1)
  trained = adapting.find_trained(config, params)
  plan = state_lib.plan(
    model,
    batch,
    tx,
    boxed=boxed,
    mesh=jax.sharding.AbstractMesh((1,) * 4, mesh.AXES),
    ema=True,
    trained=trained,
    adapt=adapt,
  )
  update = step.make_update(
    model,
    {'next': (1.0, _Next())},
    tx,
    lr=lambda _: 0.1,
    trained=trained,
    accumulate=1,
    ema_decay=0.9,
  )
  shapes = lambda tree: jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree
  )
  text = jax.jit(update).lower(shapes(plan.abstract), shapes(batch)).as_text()
  whole = quantized.as_plain(params)
  number = sum(math.prod(x.shape) for x in jax.tree.leaves(whole))
  assert number > 1.7e9
  # The largest arrays by type: of a layer at most in float32, and where kernels
  # are quantised, of a layer and of the words in bfloat16.
  largest = {'bf16': 0, 'f32': 0}
  for sizes, dtype in re.findall(r'tensor<((?:\d+x)+)(bf16|f32)>', text):
    size = math.prod(map(int, sizes[:-1].split('x')))
    largest[dtype] = max(largest[dtype], size)
  words = 49157 * 2048
  assert largest['bf16'] == (words if quantize else 24 * 2048 * 8192)
  assert largest['f32'] <= 2048 * 8192
  if quantize:
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    assert held < 2 * words + 0.53 * (number - words) + 4 * 0.02 * number
  # Neither are frozen kernels or their gradients stacked.
  made = re.findall(r'stablehlo\.(?:dynamic_update_slice|pad).*', text)
  stacks = '24x2048x8192', '24x32x32x8192'
  assert made and not any(shape in line for line in made for shape in stacks)
  held = sum(
    x.size * x.dtype.itemsize
    for x in jax.tree.leaves((plan.abstract.opt_state, plan.abstract.ema))
  )
  assert held < 0.01 * 4 * number


def test_a_compiled_gradient_never_holds_all_quantised_kernels():
  """Neither does the backward pass keep what the forward pass computed."""
  module = mnn.Stack(8, 128, 2, 512, block={'mlp_bias': False}, remat='full')
  x = jnp.ones((1, 2, 128))
  with adapters.record_layers() as layers:
    boxed = jax.eval_shape(
      lambda key: module.init(key, x, train=False)['params'], jax.random.key(0)
    )
  boxes, packed = adapters.flatten_boxed(boxed), {}
  for path, axes in layers.items():
    shapes = quantized.make_shapes(
      boxes.pop(f'{path}/kernel'), *axes, 'nf4', double=False
    )
    packed |= quantized.to_leaves(path, shapes)
  params = nn.meta.unbox(tree_paths.unflatten(boxes | packed))

  def loss(x, params):
    return module.apply({'params': params}, x, train=False)[0].sum()

  compiled = jax.jit(jax.grad(loss)).lower(x, params).compile()
  of_layer = 4 * 128 * (4 * 128 + 2 * 512)  # Bytes in float32.
  assert compiled.memory_analysis().temp_size_in_bytes < 3 * of_layer
