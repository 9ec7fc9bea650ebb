"""EnCodec: as transformers computed it, out again, its sizes, and refused."""

import functools
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.data import audio
from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, encodec, sections, tensors

GOLDEN = Path(__file__).parent / 'golden' / 'encodec'
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
KHZ_32 = {
  'sampling_rate': 32_000,
  'num_filters': 64,
  'upsampling_ratios': [8, 5, 4, 4],
  'target_bandwidths': [2.2],
  'codebook_size': 2048,
  'use_causal_conv': False,
  'use_conv_shortcut': False,
}
# What config.json says, and the number of parameters.
PUBLISHED = {'24 kHz': ({}, 19_046_114), '32 kHz': (KHZ_32, 57_933_250)}
# Codebooks of the published bandwidths (Défossez et al. 2022, section 3.2).
CODEBOOKS = {'24 kHz': (2, 4, 8, 16, 32), '32 kHz': (4,)}


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return dict(np.load(GOLDEN / 'expected.npz'))


@pytest.fixture(scope='module')
def sounds(expected, tmp_path_factory):
  """One as floats, one as a file."""
  path = tmp_path_factory.mktemp('sounds') / 'second.wav'
  second = expected['second'] / np.float32(32767)
  path.write_bytes(audio.encode_wave(second, 600))
  return [expected['first'] / np.float32(32768), path]


def test_numbers_are_those_of_transformers(loaded, expected, sounds):
  ids = loaded.encode_tokens(sounds, bandwidth=1.2)
  assert ids.dtype == np.int32
  np.testing.assert_array_equal(ids, expected['ids'])
  size = np.abs(expected['decoded']).max()
  close(loaded.decode_tokens(ids) / size, expected['decoded'] / size)
  # By default the least bandwidth, whose codebooks are the first.
  np.testing.assert_array_equal(loaded.encode_tokens(sounds), ids[:, :1])
  first, second = loaded.reconstruct(sounds, 1.2)
  close(first / size, expected['decoded'][0] / size)
  close(second / size, expected['decoded'][1, : len(second)] / size)
  assert len(second) == len(expected['second'])


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def test_older_names_of_weight_norm_are_read(loaded, tmp_path):
  held = tensors.Tensors(GOLDEN)
  older = {'original0': 'weight_g', 'original1': 'weight_v'}
  rename = lambda name: re.sub(
    r'parametrizations\.weight\.(original\d)', lambda m: older[m[1]], name
  )
  named = [(rename(name), held.read(name)) for name in sorted(held.names)]
  tensors.write(tmp_path, named, 10**6)
  shutil.copy(GOLDEN / 'config.json', tmp_path)
  again = pretrained.load(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  # The rate is that of config.json, too.
  assert again.preprocessor == loaded.preprocessor


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_sizes(name):
  config, number = PUBLISHED[name]
  module = encodec.module(config)
  shapes = checkpoint.shapes(module, encodec.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number
  model = encodec.Model(module, {}, config)
  numbers = tuple(map(model.count_codebooks, model.bandwidths))
  assert numbers == CODEBOOKS[name]


@pytest.mark.parametrize(
  'values, message',
  [
    ({'norm_type': 'time_group_norm'}, "norm_type is 'time_group_norm'; mmj"),
    ({'audio_channels': 2}, 'audio_channels is 2; mmjax reads only 1'),
    ({'codebook_size': 12}, 'codebook_size is 12; mmjax reads only powers'),
    ({'codebook_dim': 3}, 'codebook_dim is 3; mmjax reads only that of hidd'),
    ({'upsampling_ratios': [2, 0]}, r'upsampling_ratios is \[2, 0\]; mmjax'),
    ({'target_bandwidths': [0.1]}, r'is \[0.1\]; .* 256 codebooks, of 0.4 k'),
    ({'target_bandwidths': [200.0]}, r'target_bandwidths is \[200.0\]; the l'),
  ],
)
def test_what_does_not_fit_is_named(values, message):
  config = json.loads((GOLDEN / 'config.json').read_text()) | values
  with pytest.raises(ConfigError, match=message):
    sections.check(config, encodec.SECTIONS)
    encodec.module(config)


def test_what_can_not_be_encoded_or_decoded_is_refused(loaded, sounds):
  for call, message in (
    (lambda: loaded.encode_tokens(sounds, 6.0), 'bandwidth=6.0 is .* 0.4, 1.2'),
    (lambda: loaded.encode_tokens([]), 'a sound has no samples, or there is'),
    (lambda: loaded.decode_tokens(np.zeros((1, 4, 2), int)), 'of 1 to 3 codeb'),
    (lambda: loaded.decode_tokens(np.full((1, 1, 2), 16)), 'the id 16 is not'),
  ):
    with pytest.raises(ConfigError, match=message):
      call()
  settings = {'sampling_rate': 500}
  with pytest.raises(ConfigError, match='is 500, but that of conf'):
    type(loaded.preprocessor).from_config(settings, 600)
