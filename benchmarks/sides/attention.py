"""Causal attention alone with its gradients, by mmjax and by PyTorch.

PyTorch's `scaled_dot_product_attention` computes in tiles, also on a CPU.
"""

import numpy as np

from benchmarks.sides.work import Work

_SHAPE = (1, 1024, 12, 64)  # [B, T, H, K]
# Of each array, what is compared.
_SHOWN = 50


def make_mmjax(form: str, length: int, tiny: bool) -> Work:
  """mmjax's attention.

  Args:
    form: 'plain' or 'tiled'.
    length: number of tokens.
    tiny: whether there are few.
  """
  import jax
  import jax.numpy as jnp

  from mmjax import ops
  from mmjax.parallel import tiled_attention
  from mmjax.training import allocator

  allocator.keep_memory()  # As a training run does.

  def attend(query, key, value):
    if form == 'tiled':
      return tiled_attention.tiled_attention(query, key, value, causal=True)
    mask = ops.causal_mask(query.shape[1])
    return ops.dot_product_attention(query, key, value, mask)[0]

  loss = lambda *inputs: jnp.sum(jnp.sin(attend(*inputs)))
  inputs = [jnp.asarray(array) for array in _draw(length, tiny)]
  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
  run = lambda: jax.block_until_ready(step(*inputs))
  value, grads = run()
  return Work(run, {'output': _show(value, grads)})


def make_torch(length: int, tiny: bool) -> Work:
  """PyTorch's attention."""
  import torch

  query, key, value = (
    torch.tensor(array).transpose(1, 2).requires_grad_()  # [B, H, T, K]
    for array in _draw(length, tiny)
  )

  def run():
    out = torch.nn.functional.scaled_dot_product_attention(
      query, key, value, is_causal=True
    )
    loss = out.sin().sum()
    return loss.detach(), torch.autograd.grad(loss, (query, key, value))

  loss, grads = run()
  grads = [grad.transpose(1, 2) for grad in grads]
  return Work(run, {'output': _show(loss, grads)})


def _draw(length: int, tiny: bool) -> np.ndarray:
  """Queries, keys and values [3, B, T, H, K]."""
  batch, _, heads, size = _SHAPE
  shape = (3, batch, 16 if tiny else length, heads, size)
  drawn = np.random.default_rng(0).normal(size=shape)
  return drawn.astype(np.float32)


def _show(loss, grads) -> list[float]:
  """The mean of the sines, and some numbers of the gradients."""
  shown = [np.ravel(np.asarray(grad))[:_SHOWN] for grad in grads]
  mean = float(loss) / np.asarray(grads[0]).size
  return [mean, *np.concatenate(shown).tolist()]
