"""EnCodec here equals that of transformers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, encodec, keys
from tests.oracles import harness
from tests.pretrained import test_encodec

# Ids have 4 bits.
SIZES = {
  'num_filters': 4,
  'hidden_size': 5,
  'codebook_size': 16,
  'sampling_rate': 600,
}
ROWS = {
  # Of 24 kHz. Codebooks have 100 ids a second.
  'causal': {
    'upsampling_ratios': [3, 2],
    'target_bandwidths': [0.4, 1.2],
  },
  # Of 32 kHz. Codebooks have 25 ids a second.
  'centred': {
    'upsampling_ratios': [3, 4, 2],
    'target_bandwidths': [0.2],
    'use_causal_conv': False,
    'use_conv_shortcut': False,
  },
  'deep': {
    'upsampling_ratios': [2],
    'target_bandwidths': [2.5, 5.0],
    'num_residual_layers': 3,
    'dilation_growth_rate': 3,
    'num_lstm_layers': 1,
    'compress': 1,
    'kernel_size': 5,
    'last_kernel_size': 3,
    'residual_kernel_size': 5,
  },
}


@pytest.fixture(scope='module', params=ROWS)
def pair(request, tmp_path_factory):
  torch.manual_seed(0)
  config = transformers.EncodecConfig(**SIZES, **ROWS[request.param])
  model = harness.randomise(transformers.EncodecModel(config))
  for name, buffer in model.named_buffers():
    if 'codebook' in name:
      buffer.copy_(torch.randn(buffer.shape))
  folder = tmp_path_factory.mktemp('model')
  transformers.EncodecFeatureExtractor(
    sampling_rate=config.sampling_rate
  ).save_pretrained(folder)
  return model, harness.load_saved(model, folder)


def draw_sounds(*lengths):
  rng = np.random.default_rng(0)
  return [rng.normal(size=n).astype(np.float32) for n in lengths]


def test_tokens_agree_at_every_bandwidth(pair):
  model, loaded = pair
  # The second is shorter than what the first layer mirrors.
  sounds = draw_sounds(77, 3)
  prepare = transformers.EncodecFeatureExtractor(sampling_rate=600)
  for chosen in (sounds, sounds[1:]):
    inputs = prepare(chosen, return_tensors='pt', sampling_rate=600)
    for bandwidth in (None, *model.config.target_bandwidths):
      with torch.no_grad():
        want = model.encode(**inputs, bandwidth=bandwidth).audio_codes[0]
      got = loaded.encode_tokens(chosen, bandwidth)
      np.testing.assert_array_equal(got, want.numpy())
  assert len(np.unique(got)) > 1


def test_samples_of_tokens_agree(pair):
  model, loaded = pair
  rng = np.random.default_rng(1)
  for number in (1, loaded.module.codebook.depth):
    ids = rng.integers(0, 16, (2, number, 7))
    with torch.no_grad():
      want = model.decode(torch.tensor(ids)[None], [None]).audio_values[:, 0]
    harness.check_close(loaded.decode_tokens(ids), want.numpy())


def test_gradients_agree_without_tokens(pair):
  model, loaded = pair
  samples = np.stack(draw_sounds(77, 77))
  both = lambda module, x: module.decode(module.encode(x))

  def their_output(model):
    return model.decoder(model.encoder(torch.tensor(samples)[:, None]))[:, 0]

  def loss(params):
    out = loaded.module.apply({'params': params}, samples, method=both)
    return jnp.mean(out**2)

  with torch.no_grad():
    want = their_output(model).numpy()
  got = loaded.module.apply({'params': loaded.params}, samples, method=both)
  harness.check_close(got, want)
  harness.check_gradients(
    model, loaded, lambda m: (their_output(m) ** 2).mean(), loss
  )


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


@pytest.mark.parametrize('name', test_encodec.PUBLISHED)
def test_shapes_are_those_of_the_library(name):
  """Also of a config that says nothing: the defaults are the same."""
  config, number = test_encodec.PUBLISHED[name]
  with torch.device('meta'):
    model = transformers.EncodecModel(transformers.EncodecConfig(**config))
  want = {
    key: tuple(x.shape)
    for key, x in model.state_dict().items()
    if not any(k in key for k in ('inited', 'cluster_size', 'embed_avg'))
  }
  module = encodec.module(config)
  shapes = checkpoint.shapes(module, encodec.inputs(config))
  leaves, got = tree_paths.flatten(shapes), {}
  for rule in encodec.rules(config):
    shape, names = keys.layers(rule, leaves[rule.ours].shape)
    got |= dict.fromkeys(names, tuple(rule.form.theirs(shape)))
  assert got == want
  assert number == sum(math.prod(shape) for shape in want.values())
  assert number == sum(leaf.size for leaf in jax.tree.leaves(shapes))
