"""What every comparison with transformers does."""

import copy
import functools
import tempfile

import jax
import numpy as np
import torch

from mmjax import pretrained

close = functools.partial(
  np.testing.assert_allclose, rtol=0, atol=1e-4, equal_nan=False
)

# Differences of `check_close`; the summary of a run shows the largest ones.
SEEN: list[float] = []


def randomise(model, noise=0.1):
  """A model of transformers whose norms and biases, too, are not 1 and 0."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.add_(drawn * noise)
  return model.eval()


def load_saved(model, folder):
  """The same model here, by way of `save_pretrained`."""
  model.save_pretrained(folder)
  return pretrained.load(folder)


def check_close(got, want, name=''):
  """Asserts that numbers agree to 1e-4, of their size where that is above 1."""
  got, want = np.asarray(got), np.asarray(want)
  size = max(1.0, float(np.abs(want).max(initial=0.0)))
  close(got / size, want / size, err_msg=name)
  SEEN.append(float(np.abs(got - want).max(initial=0.0)) / size)


def check_gradients(model, loaded, their_loss, our_loss):
  """Asserts that gradients of the same scalar agree, for every parameter.

  Their gradients come here as weights do, so that names and forms fit. A
  parameter that the loss does not reach has none there, and 0 here.

  Args:
    model: of transformers.
    loaded: the same here.
    their_loss: scalar of `model`.
    our_loss: the same scalar of parameters.
  """
  model.zero_grad()
  their_loss(model).backward()
  gradients = copy.deepcopy(model)
  with torch.no_grad():
    for theirs, parameter in zip(
      gradients.parameters(), model.parameters(), strict=True
    ):
      theirs.zero_()
      if parameter.grad is not None:
        theirs.copy_(parameter.grad)
    for buffer in gradients.buffers():
      buffer.zero_()
  with tempfile.TemporaryDirectory() as folder:
    want = load_saved(gradients, folder).params
  got = jax.jit(jax.grad(our_loss))(loaded.params)
  for path, gradient in jax.tree.leaves_with_path(got):
    name = jax.tree_util.keystr(path)
    check_close(gradient, _leaf(want, path), name)


def _leaf(tree, path):
  for key in path:
    tree = tree[key.key]
  return tree


def check_saved(model, loaded, folder, **settings):
  """Asserts that what `save` writes loads there and is equal to the bit.

  Args:
    model: of transformers.
    loaded: the same here.
    folder: to write to.
    **settings: what the model's class takes besides its config.
  """
  pretrained.save(loaded, folder, shard_bytes=20_000)
  again, info = type(model).from_pretrained(
    folder, output_loading_info=True, **settings
  )
  assert not any(info.values()), info
  want = model.state_dict()
  for name, value in again.state_dict().items():
    np.testing.assert_array_equal(value.numpy(), want[name].numpy())
