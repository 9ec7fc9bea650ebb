"""The discriminator of patches equals the same layers in PyTorch."""

import jax
import numpy as np
import torch

from mmjax import nn as mnn
from tests.oracles import harness


def make_theirs():
  """PatchGAN of two strided layers, with group normalisation."""
  conv = lambda *sizes, stride: torch.nn.Conv2d(*sizes, 4, stride, padding=1)
  norm = lambda width: torch.nn.GroupNorm(2, width, eps=1e-6)
  leaky = torch.nn.LeakyReLU(0.2)
  torch.manual_seed(0)
  return harness.randomise(
    torch.nn.Sequential(
      *(conv(3, 4, stride=2), leaky),
      *(conv(4, 8, stride=2), norm(8), leaky),
      *(conv(8, 16, stride=1), norm(16), leaky),
      conv(16, 1, stride=1),
    )
  )


def test_logits_agree():
  theirs = make_theirs()
  layers = [x for x in theirs if not isinstance(x, torch.nn.LeakyReLU)]
  names = ('conv0', 'conv1', 'norm1', 'conv2', 'norm2', 'head')
  params = {}
  for name, layer in zip(names, layers, strict=True):
    weight, bias = (x.detach().numpy() for x in (layer.weight, layer.bias))
    kernel = {'kernel': weight.transpose(2, 3, 1, 0)} if weight.ndim > 1 else {}
    params[name] = {**(kernel or {'scale': weight}), 'bias': bias}
  module = mnn.PatchDiscriminator(4, num_layers=2, groups=2)
  images = np.random.default_rng(0).normal(size=(2, 13, 18, 3))
  images = images.astype(np.float32)
  got = jax.jit(module.apply)({'params': params}, images)
  with torch.no_grad():
    want = theirs(torch.tensor(images).movedim(-1, 1))[:, 0].numpy()
  assert got.shape == (2, 1, 2)
  harness.check_close(got, want)
