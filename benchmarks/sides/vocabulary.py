"""Cross-entropy over a large vocabulary with its gradients.

From vectors and the matrix of the vocabulary, by mmjax and by PyTorch.
"""

import numpy as np

from benchmarks.sides.work import Work

_TEXTS, _LENGTH, _WIDTH, _VOCABULARY = 2, 512, 768, 50_257
# Of each gradient, what is compared.
_SHOWN = 50


def make_mmjax(chunks: bool, tiny: bool) -> Work:
  """mmjax's loss.

  Args:
    chunks: whether logits are computed in chunks, or all at once.
    tiny: whether sizes are.
  """
  import jax
  import jax.numpy as jnp

  from mmjax import objectives
  from mmjax.parallel import vocabulary
  from mmjax.types import FactoredLogits

  vectors, table, tokens = map(jnp.asarray, _draw(tiny))
  if not chunks:
    vocabulary.CHUNK = 2**62
  elif tiny:
    vocabulary.CHUNK = tokens.size * len(table) // 2
  mask = jnp.ones(tokens.shape, bool)

  def compute(vectors, table):
    logits = FactoredLogits(vectors[:, :-1], table.T)
    return objectives.next_token_loss(logits, tokens, mask)[0]

  step = jax.jit(jax.value_and_grad(compute, argnums=(0, 1)))
  run = lambda: jax.block_until_ready(step(vectors, table))
  return Work(run, {'output': _show(*run())})


def make_torch(tiny: bool) -> Work:
  """PyTorch's product and `cross_entropy`."""
  import torch

  vectors, table, tokens = (torch.tensor(array) for array in _draw(tiny))
  vectors.requires_grad_()
  table.requires_grad_()
  labels = tokens[:, 1:].reshape(-1).long()

  def run():
    logits = vectors[:, :-1].flatten(0, 1) @ table.T
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return loss.detach(), torch.autograd.grad(loss, (vectors, table))

  return Work(run, {'output': _show(*run())})


def _draw(tiny: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Vectors [B, T, D], the matrix [V, D] and tokens [B, T]."""
  texts, length, width, classes = (
    (2, 5, 7, 11) if tiny else (_TEXTS, _LENGTH, _WIDTH, _VOCABULARY)
  )
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(texts, length, width))
  table = 0.02 * rng.normal(size=(classes, width))
  tokens = rng.integers(0, classes, (texts, length))
  return (
    vectors.astype(np.float32),
    table.astype(np.float32),
    tokens.astype(np.int32),
  )


def _show(loss, grads) -> list[float]:
  """The loss, and numbers of the gradients as fractions of their largest."""
  shown = [np.ravel(np.asarray(grad)) for grad in grads]
  shown = [grad[:_SHOWN] / np.abs(grad).max() for grad in shown]
  return [float(loss), *np.concatenate(shown).tolist()]
