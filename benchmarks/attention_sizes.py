r"""CPU time of attention with its gradients by size, beside PyTorch's.

  pip install -e '.[bench]'
  python -m benchmarks.attention_sizes

prints the table of docs/performance.md: heads of 64 in float32, milliseconds of
one thread on one core, medians, each size's sides one after the other. CPU time
depends less on other work than wall time does.
"""

import os
import statistics
import time
from collections.abc import Callable

from absl import app, flags

_ROUNDS = flags.DEFINE_integer(
  'rounds', 9, 'times of each median', lower_bound=1
)
_HEAD = 64
# [B, T, H], and whether queries attend to earlier keys alone.
_SIZES = (
  ((64, 32, 3), False),
  ((64, 50, 3), False),
  ((8, 197, 12), False),
  ((8, 197, 12), True),
  ((2, 577, 12), True),
  ((1, 1024, 12), True),
  ((1, 1024, 12), False),
)


def main(_):
  # Before JAX and PyTorch make their threads.
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  from mmjax.training import allocator

  allocator.keep_memory()  # As a training run does.
  print('| [B, T, H] | plain | in tiles | torch |\n|---|---|---|---|')
  for size, causal in _SIZES:
    runs = [
      _make_mmjax(size, causal, tiled=False),
      _make_mmjax(size, causal, tiled=True),
      _make_torch(size, causal),
    ]
    name = f'{list(size)}{", causal" if causal else ""}'
    cells = [f'{1000 * _measure(run):.1f}' for run in runs]
    print(f'| {name} | {" | ".join(cells)} |', flush=True)


def _draw(size: tuple[int, int, int]):
  """Queries, keys and values [3, B, T, H, K]."""
  import numpy as np

  drawn = np.random.default_rng(0).normal(size=(3, *size, _HEAD))
  return drawn.astype(np.float32)


def _make_mmjax(
  size: tuple[int, int, int], causal: bool, *, tiled: bool
) -> Callable[[], object]:
  import jax
  import jax.numpy as jnp

  from mmjax import ops
  from mmjax.parallel import tiled_attention

  def attend(query, key, value):
    if tiled:
      return tiled_attention.tiled_attention(query, key, value, causal=causal)
    mask = ops.causal_mask(query.shape[1]) if causal else None
    return ops.dot_product_attention(query, key, value, mask)[0]

  loss = lambda *inputs: jnp.sum(jnp.sin(attend(*inputs)))
  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
  inputs = [jnp.asarray(array) for array in _draw(size)]
  return lambda: jax.block_until_ready(step(*inputs))


def _make_torch(
  size: tuple[int, int, int], causal: bool
) -> Callable[[], object]:
  import torch

  torch.set_num_threads(1)
  inputs = [
    torch.tensor(array).transpose(1, 2).requires_grad_()  # [B, H, T, K]
    for array in _draw(size)
  ]
  attend = torch.nn.functional.scaled_dot_product_attention

  def run():
    loss = attend(*inputs, is_causal=causal).sin().sum()
    return torch.autograd.grad(loss, inputs)

  return run


def _measure(run: Callable[[], object]) -> float:
  """The median of the seconds of CPU of a run."""
  run()
  times = []
  for _ in range(_ROUNDS.value):
    began = time.process_time()
    run()
    times.append(time.process_time() - began)
  return statistics.median(times)


if __name__ == '__main__':
  app.run(main)
