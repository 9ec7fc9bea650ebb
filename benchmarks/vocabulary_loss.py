"""Measures a language model's loss with whole logits, and in chunks.

Compiles a training step's gradients for a large vocabulary, without running
them, and prints XLA's temporaries; then runs the loss with its gradients alone
and prints the median time of five.

  python -m benchmarks.vocabulary_loss
"""

import functools
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags

from mmjax import decoders, objectives
from mmjax.parallel import vocabulary
from mmjax.types import FactoredLogits

_VOCAB = flags.DEFINE_integer('vocab_size', 50_257, 'V')
_WIDTH = flags.DEFINE_integer('width', 768, 'D; heads have 64')
_DEPTH = flags.DEFINE_integer('depth', 4, 'number of blocks')
_BATCH = flags.DEFINE_integer('batch', 8, 'texts')
_LENGTH = flags.DEFINE_integer('length', 512, 'tokens of a text')
_TIMED = flags.DEFINE_integer('timed_texts', 2, 'texts of the loss alone')


def main(argv):
  """Prints a row for each way."""
  del argv
  ways = {'whole': 2**62, 'in chunks': vocabulary.CHUNK}
  print('| logits | temporaries of a step, MB | loss and gradients, ms |')
  print('|---|---|---|', flush=True)
  for name, chunk in ways.items():
    vocabulary.CHUNK = chunk
    size, seconds = temporaries() / 1e6, time_loss()
    print(f'| {name} | {size:,.0f} | {1e3 * seconds:,.0f} |', flush=True)


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


def time_loss() -> float:
  """Median seconds of five runs of the loss and its gradients."""
  keys = jax.random.split(jax.random.key(0), 3)
  shape = _TIMED.value, _LENGTH.value
  vectors = jax.random.normal(keys[0], (*shape, _WIDTH.value))
  table = 0.02 * jax.random.normal(keys[1], (_VOCAB.value, _WIDTH.value))
  tokens = jax.random.randint(keys[2], shape, 0, _VOCAB.value)

  def loss(vectors, table):
    logits = FactoredLogits(vectors[:, :-1], table.T)
    mask = jnp.ones(shape, bool)
    return objectives.next_token_loss(logits, tokens, mask)[0]

  step = jax.jit(jax.grad(loss, argnums=(0, 1)))
  times = []
  for _ in range(6):  # The first one compiles.
    start = time.perf_counter()
    jax.block_until_ready(step(vectors, table))
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:])


if __name__ == '__main__':
  app.run(main)
