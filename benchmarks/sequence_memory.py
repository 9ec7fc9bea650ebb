"""Measures the memory of a causal decoder with tokens split between devices.

Compiles the loss of a language model and its gradients for one text on eight
fake devices, without running them, and prints a table of XLA's temporaries on
each device, by the length of the text and the size of the mesh axis `sequence`.

  python benchmarks/sequence_memory.py
"""

import os

from absl import app, flags

_DEPTH = flags.DEFINE_integer('depth', 4, 'number of blocks', lower_bound=1)
_WIDTH = flags.DEFINE_integer('width', 512, 'D; heads have 64', lower_bound=1)
_LENGTHS = flags.DEFINE_multi_integer(
  'length', [2**n for n in range(11, 17)], 'tokens'
)
_DEVICES = 8
_SPLITS = (1, 2, 4, 8)
_MB = 1e6


def main(argv):
  """Prints a row for each length."""
  del argv
  os.environ['JAX_NUM_CPU_DEVICES'] = str(_DEVICES)
  print(f'MB a device, depth {_DEPTH.value}, width {_WIDTH.value}\n')
  print(f'| tokens | {" | ".join(f"sequence={n}" for n in _SPLITS)} |')
  print('|' + '---|' * (len(_SPLITS) + 1), flush=True)
  for length in _LENGTHS.value:
    cells = [f'{temporaries(length, n) / _MB:,.0f}' for n in _SPLITS]
    print(f'| {length:,} | {" | ".join(cells)} |', flush=True)


def temporaries(length: int, shards: int) -> int:
  """Temporaries of the loss and its gradients, in bytes per device."""
  import flax.linen as nn
  import jax
  import jax.numpy as jnp

  from mmjax import decoders, objectives
  from mmjax.parallel import mesh as mesh_lib
  from mmjax.parallel import rules

  model = decoders.TextDecoder(
    1024,
    _WIDTH.value,
    _DEPTH.value,
    _WIDTH.value // 64,
    4 * _WIDTH.value,
    length,
    cross_attention=False,
    positions='none',
    block={'rope_theta': 1e4},
    remat='full',
  )
  tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
  init = lambda x: model.init(jax.random.key(0), x, train=False)
  variables = nn.meta.unbox(jax.eval_shape(init, tokens))

  def loss(variables, tokens):
    logits = model.apply(variables, tokens[:, :-1], train=True)
    mask = jnp.ones(tokens.shape, bool)
    return objectives.next_token_loss(logits, tokens, mask)[0]

  mesh = mesh_lib.build({'data': -1, 'sequence': shards})
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules.RULES):
    compiled = jax.jit(jax.grad(loss)).lower(variables, tokens).compile()
  return compiled.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  app.run(main)
