"""Measures a language model's memory with whole logits, and in chunks.

Compiles a training step's gradients for a large vocabulary, without running
them, and prints XLA's temporaries. The rows `vocabulary` of `benchmarks.run`
have the time of the loss.

  python -m benchmarks.vocabulary_loss
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags

from mmjax import decoders, objectives
from mmjax.parallel import vocabulary

_VOCAB = flags.DEFINE_integer('vocab_size', 50_257, 'V', lower_bound=1)
_WIDTH = flags.DEFINE_integer('width', 768, 'D; heads have 64', lower_bound=1)
_DEPTH = flags.DEFINE_integer('depth', 4, 'number of blocks', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 8, 'texts', lower_bound=1)
_LENGTH = flags.DEFINE_integer('length', 512, 'tokens of a text', lower_bound=1)


def main(argv):
  """Prints a row for each way."""
  del argv
  ways = {'whole': 2**62, 'in chunks': vocabulary.CHUNK}
  print('| logits | temporaries of a step, MB |\n|---|---|', flush=True)
  for name, chunk in ways.items():
    vocabulary.CHUNK = chunk
    print(f'| {name} | {temporaries() / 1e6:,.0f} |', flush=True)


def temporaries() -> int:
  """Bytes of temporaries of a step's loss and gradients."""
  model = decoders.TextDecoder(
    _VOCAB.value,
    _WIDTH.value,
    _DEPTH.value,
    _WIDTH.value // 64,
    4 * _WIDTH.value,
    _LENGTH.value,
    cross_attention=False,
    remat='full',
  )
  tokens = jax.ShapeDtypeStruct((_BATCH.value, _LENGTH.value), jnp.int32)
  init = functools.partial(model.init, jax.random.key(0), train=False)
  variables = nn.meta.unbox(jax.eval_shape(init, tokens))

  def loss(variables, tokens):
    logits = model.apply(variables, tokens[:, :-1], train=True)
    mask = jnp.ones(tokens.shape, bool)
    return objectives.next_token_loss(logits, tokens, mask)[0]

  compiled = jax.jit(jax.grad(loss)).lower(variables, tokens).compile()
  return compiled.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  app.run(main)
