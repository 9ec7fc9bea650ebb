"""Measures memory of long sequences, with attention in tiles or not.

Compiles the loss and gradients of a part of a model for one device, without
running them, and prints XLA's temporaries by the number of tokens. The rows
`attention` of `benchmarks.run` have the time of attention alone.

  python -m benchmarks.attention_memory
"""

import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags

from mmjax import decoders, encoders
from mmjax.parallel import attention_forms
from mmjax.types import FactoredLogits

_DEPTH = flags.DEFINE_integer('depth', 4, 'number of blocks', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 4, 'examples', lower_bound=1)
_DECODED = flags.DEFINE_multi_integer(
  'decoded', [1024, 2048, 4096], 'tokens of the decoder'
)
_SIDES = flags.DEFINE_multi_integer('side', [224, 448], 'pixels of an image')
_PATCH = 14


def main(argv):
  """Prints a row for each model and length."""
  del argv
  print('| blocks | tokens | plain, MB | chosen by size, MB |')
  print('|---|---|---|---|', flush=True)
  rows = [('decoder of 2B', n, decoder(n)) for n in _DECODED.value]
  for side in _SIDES.value:
    rows.append(('ViT-L', (side // _PATCH) ** 2, vit(side)))
  for name, tokens, (module, inputs) in rows:
    sizes = []
    for form in (attention_forms.only_plain, contextlib.nullcontext):
      with form():
        sizes.append(temporaries(module, inputs) / 1e6)
    cells = ' | '.join(f'{size:,.0f}' for size in sizes)
    print(f'| {name} | {tokens:,} | {cells} |', flush=True)


def decoder(length: int) -> tuple[nn.Module, jax.ShapeDtypeStruct]:
  """A decoder with layers as those of Gemma 2B, and its inputs."""
  module = decoders.TextDecoder(
    1024,
    2048,
    _DEPTH.value,
    8,
    16_384,
    length,
    cross_attention=False,
    positions='none',
    block={
      'norm': 'rmsnorm',
      'num_kv_heads': 1,
      'head_dim': 256,
      'rope_theta': 1e4,
      'activation': 'gelu_tanh',
      'gated': True,
    },
    remat='full',
  )
  return module, jax.ShapeDtypeStruct((_BATCH.value, length), jnp.int32)


def vit(side: int) -> tuple[nn.Module, jax.ShapeDtypeStruct]:
  """A ViT with layers as those of ViT-L, and its inputs."""
  module = encoders.ViT(
    patch_size=_PATCH,
    width=1024,
    depth=_DEPTH.value,
    num_heads=16,
    mlp_dim=4096,
  )
  shape = _BATCH.value, side, side, 3
  return module, jax.ShapeDtypeStruct(shape, jnp.float32)


def temporaries(module: nn.Module, inputs: jax.ShapeDtypeStruct) -> int:
  """Bytes of temporaries of a loss on what a module returns."""
  init = functools.partial(module.init, jax.random.key(0), train=False)
  variables = nn.meta.unbox(jax.eval_shape(init, inputs))

  def loss(variables, inputs):
    found = module.apply(variables, inputs, train=True)
    # A decoder returns factored logits, an encoder tokens.
    is_decoder = isinstance(found, FactoredLogits)
    return jnp.sum(jnp.sin(found.vectors if is_decoder else found.values))

  compiled = jax.jit(jax.grad(loss)).lower(variables, inputs).compile()
  return compiled.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  app.run(main)
