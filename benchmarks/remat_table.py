"""Measures what each rematerialisation policy costs and saves.

Compiles the loss and gradients of stacks of blocks for one device, without
running them, and prints XLA's temporaries and the FLOPs of products by policy.

  python -m benchmarks.remat_table
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags

from mmjax import nn as mnn
from mmjax.nn import remat
from mmjax.training import flops

_DEPTH = flags.DEFINE_integer('depth', 4, 'number of blocks', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 4, 'examples', lower_bound=1)

# Blocks as those of ViT-L, and of a decoder of two billion parameters (Gemma).
_STACKS = {
  'ViT-L': (1024, False, {'width': 1024, 'num_heads': 16, 'mlp_dim': 4096}),
  'decoder of 2B': (
    4096,
    True,
    {
      'width': 2048,
      'num_heads': 8,
      'mlp_dim': 16_384,
      'block': {
        'norm': 'rmsnorm',
        'num_kv_heads': 1,
        'head_dim': 256,
        'rope_theta': 1e4,
        'activation': 'gelu_tanh',
        'gated': True,
      },
    },
  ),
}


def main(argv):
  """Prints a row for each stack and policy."""
  del argv
  print('| blocks | tokens | policy | temporaries, MB | FLOPs |')
  print('|---|---|---|---|---|', flush=True)
  for name, (tokens, causal, settings) in _STACKS.items():
    least = None
    for policy in ('none', *remat.POLICIES):
      module = mnn.Stack(
        _DEPTH.value, remat=policy, dtype=jnp.bfloat16, **settings
      )
      memory, work = measure(module, tokens, causal)
      least = least or work
      print(
        f'| {name} | {tokens:,} | `{policy}` | {memory / 1e6:,.0f} '
        f'| {work / least:.2f} |',
        flush=True,
      )


def measure(module: nn.Module, tokens: int, causal: bool) -> tuple[int, float]:
  """Bytes of temporaries and FLOPs of the gradients of a stack's loss."""
  shape = _BATCH.value, tokens, module.width
  x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
  init = functools.partial(module.init, jax.random.key(0), train=False)
  variables = nn.meta.unbox(jax.eval_shape(init, x))
  visible = mnn.Visible(causal=causal)

  def loss(variables, x):
    out, _ = module.apply(variables, x, visible=visible, train=True)
    return jnp.sum(jnp.sin(out.astype(jnp.float32)))

  traced = jax.jit(jax.grad(loss)).trace(variables, x)
  memory = traced.lower().compile().memory_analysis()
  return memory.temp_size_in_bytes, flops.count(traced.jaxpr)


if __name__ == '__main__':
  app.run(main)
