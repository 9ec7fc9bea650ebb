"""Step time of every fusion, next to its plain formula for two modalities.

  python -m benchmarks.fusion_speed

Forward and backward, compiled, of 32 examples of two modalities that are
always there, with 16 tokens of width 64 each (10 classes of decisions), and
gradients of the parameters and the tokens. The formula is
`benchmarks.plain_fusions`, which has no masks; both have the same parameters
and must return the same values. They run in turn, and the table has the median
CPU time of a step of each, which on a machine that others use as well varies
less than the time on the clock.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks import fusion_costs, plain_fusions
from mmjax import fusion
from mmjax.types import Array, Params, TokenVectors

BATCH, NAMES = 32, ('audio', 'image')
# How often each one is measured, and the CPU time of one measurement.
ROUNDS, SECONDS = 15, 0.02
Forward = Callable[[Params, dict[str, Array]], tuple[Array, Array]]


def main() -> None:
  """Prints a line for each fusion, in Markdown."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    'names', nargs='*', help='names of the fusions; by default all'
  )
  args = parser.parse_args()
  unknown = sorted(set(args.names) - set(fusion.FUSIONS))
  if unknown:
    parser.error(f'{", ".join(unknown)}: use {", ".join(fusion.FUSIONS)}')
  print('| fusion | formula, ms | fusion, ms | ratio |\n|---|---|---|---|')
  for name in args.names or fusion.FUSIONS:
    plain, own = measure(make_sides(name), ROUNDS, SECONDS)
    cells = f'{1e3 * plain:.3g} | {1e3 * own:.3g} | {own / plain:.2f}'
    print(f'| `{name}` | {cells} |', flush=True)


def make_sides(
  name: str, batch: int = BATCH
) -> tuple[Callable[[], object], Callable[[], object]]:
  """Compiled steps of the plain formula and of the fusion.

  Args:
    name: name of the fusion.
    batch: number of examples B.

  Raises:
    ValueError: if they don't return the same values.
  """
  module = fusion_costs.make(name, fusion_costs.WIDTH, 2)
  values = make_values(name, batch)
  variables = module.init(jax.random.key(0), _make_tokens(values), train=False)
  params = draw(nn.meta.unbox(variables).get('params', {}))

  def apply(params, values):
    out = module.apply({'params': params}, _make_tokens(values), train=True)
    return out.values, out.pooled

  def compute(params, values):
    return plain_fusions.FORMULAS[name](params, *values.values())

  sides = tuple(
    functools.partial(_make_step(f), params, values) for f in (compute, apply)
  )
  (_, expected), (_, found) = (side() for side in sides)
  for x, y in zip(expected, found, strict=True):
    # The same sums in another order, in float32.
    if not np.allclose(x, y, rtol=1e-3, atol=1e-4):
      raise ValueError(f'the formula of {name} does not return what it returns')
  return sides


def make_values(name: str, batch: int) -> dict[str, Array]:
  """Tokens [B, N, D] of two modalities, or one token of logits each."""
  decides = name in fusion.DECISION_FUSIONS
  shape = (fusion_costs.TOKENS, fusion_costs.WIDTH)
  shape = (1, fusion_costs.CLASSES) if decides else shape
  keys = jax.random.split(jax.random.key(1), len(NAMES))
  return {
    key: jax.random.normal(rng, (batch, *shape))
    for key, rng in zip(NAMES, keys, strict=True)
  }


def draw(params: Params) -> Params:
  """Random numbers instead of the parameters that start as zeros or ones."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), max(len(leaves), 1))
  return tree.unflatten(
    x + 0.1 * jax.random.normal(key, x.shape)
    for key, x in zip(keys, leaves, strict=False)
  )


def _make_tokens(values: dict[str, Array]) -> dict[str, TokenVectors]:
  return {name: TokenVectors.of(x) for name, x in values.items()}


def _make_step(forward: Forward) -> Callable[..., object]:
  """A compiled function that returns gradients, and what `forward` returns.

  The gradients are those of the mean squares of all that `forward` returns, by
  parameters and tokens.
  """

  def loss(params, values):
    tokens, pooled = forward(params, values)
    return jnp.mean(tokens**2) + jnp.mean(pooled**2), (tokens, pooled)

  return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def measure(
  steps: Sequence[Callable[[], object]], rounds: int, seconds: float
) -> list[float]:
  """Median CPU seconds of a call of each function, called in turn."""
  numbers, found = [], [[] for _ in steps]
  for step in steps:
    jax.block_until_ready(step())
    once = _measure_once(step, 3)
    numbers.append(max(1, round(seconds / max(once, 1e-6))))
  for _ in range(rounds):
    for step, number, times in zip(steps, numbers, found, strict=True):
      times.append(_measure_once(step, number))
  return [statistics.median(times) for times in found]


def _measure_once(step: Callable[[], object], number: int) -> float:
  """CPU seconds of a call, of several in a row."""
  start = time.process_time()
  for _ in range(number):
    out = step()
  jax.block_until_ready(out)
  return (time.process_time() - start) / number


if __name__ == '__main__':
  main()
