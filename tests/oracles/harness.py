"""What every comparison with transformers does."""

import functools

import jax
import numpy as np
import torch

from mmjax import pretrained
from mmjax.pretrained import checkpoint, keys, tensors

close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-4)


def randomised(model, noise=0.1):
  """A model of transformers whose norms and biases, too, are not 1 and 0."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.add_(drawn * noise)
  return model.eval()


def loaded_from(model, folder):
  """The same model here, by way of `save_pretrained`."""
  model.save_pretrained(folder)
  return pretrained.load(folder)


def check_close(got, want, name=''):
  """Asserts that numbers agree to 1e-4, of their size where that is above 1."""
  want = np.asarray(want)
  size = max(1.0, float(np.abs(want).max(initial=0.0)))
  close(np.asarray(got) / size, want / size, err_msg=name)


def check_gradients(model, loaded, their_loss, our_loss):
  """Asserts that gradients of the same scalar agree, for every tensor.

  Args:
    model: of transformers.
    loaded: the same here.
    their_loss: scalar of `model`.
    our_loss: the same scalar of parameters.
  """
  model.zero_grad()
  their_loss(model).backward()
  family = checkpoint.family_of(loaded.config)
  aliases = getattr(family, 'ALIASES', ())
  want = {
    tensors.renamed(name, aliases): parameter.grad.numpy()
    for name, parameter in model.named_parameters()
    if parameter.grad is not None
  }
  gradient = jax.jit(jax.grad(our_loss))(loaded.params)
  got = dict(keys.save(family.rules(loaded.config), gradient))
  for name in sorted(got.keys() | want.keys()):
    # A parameter that the loss does not reach has no gradient there, 0 here.
    check_close(got[name], want.get(name, np.zeros_like(got[name])), name)


def check_saved(model, loaded, folder):
  """Asserts that what `save` writes loads there and is equal to the bit."""
  pretrained.save(loaded, folder, shard_bytes=20_000)
  again, told = type(model).from_pretrained(folder, output_loading_info=True)
  assert not any(told.values()), told
  want = model.state_dict()
  for name, value in again.state_dict().items():
    np.testing.assert_array_equal(value.numpy(), want[name].numpy())
