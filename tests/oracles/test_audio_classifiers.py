"""The audio spectrogram transformer here equals that of transformers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from mmjax.pretrained import preprocess_audio
from tests.oracles import harness

CONFIGS = {
  'odd': {
    'hidden_size': 12, 'num_hidden_layers': 2, 'num_attention_heads': 3,
    'intermediate_size': 20, 'patch_size': 4, 'frequency_stride': 3,
    'time_stride': 2, 'max_length': 21, 'num_mel_bins': 13,
    'id2label': {0: 'dog', 1: 'cat', 2: 'rain'},
  },
  'no_bias': {
    'hidden_size': 20, 'num_hidden_layers': 1, 'num_attention_heads': 1,
    'intermediate_size': 17, 'patch_size': 3, 'frequency_stride': 3,
    'time_stride': 3, 'max_length': 18, 'num_mel_bins': 9,
    'qkv_bias': False, 'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-5,
    'id2label': {i: f'class {i}' for i in range(11)},
  },
  'relu': {
    'hidden_size': 30, 'num_hidden_layers': 3, 'num_attention_heads': 5,
    'intermediate_size': 24, 'patch_size': 6, 'frequency_stride': 2,
    'time_stride': 5, 'max_length': 33, 'num_mel_bins': 8,
    'hidden_act': 'relu',
  },
  'bare': {
    'hidden_size': 16, 'num_hidden_layers': 2, 'num_attention_heads': 8,
    'intermediate_size': 20, 'patch_size': 5, 'frequency_stride': 4,
    'time_stride': 4, 'max_length': 25, 'num_mel_bins': 15,
  },
}  # fmt: skip


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  torch.manual_seed(0)
  config = transformers.ASTConfig(**CONFIGS[request.param])
  kind = transformers.ASTForAudioClassification
  if request.param == 'bare':
    kind = transformers.ASTModel
  model = harness.randomise(kind(config))
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def spectrogram(config):
  rng = np.random.default_rng(0)
  shape = (3, config.max_length, config.num_mel_bins)
  return rng.normal(size=shape).astype(np.float32)


def summary(out):
  return out.logits if 'logits' in out else out.pooler_output


def ours(loaded, params, given):
  out = loaded.module.apply(
    {'params': params}, {'spectrogram': given}, train=False
  )
  return out.get('class_logits', out['tokens'].pooled), out


def test_outputs_agree(pair):
  model, loaded = pair
  given = spectrogram(model.config)
  encoder = getattr(model, 'audio_spectrogram_transformer', model)
  with torch.no_grad():
    want = summary(model(torch.tensor(given)))
    tokens = encoder(torch.tensor(given)).last_hidden_state
  got, out = jax.jit(functools.partial(ours, loaded))(loaded.params, given)
  assert got.shape == want.shape
  harness.check_close(got, want.numpy())
  harness.check_close(out['tokens'].values, tokens.numpy())


def test_gradients_agree(pair):
  model, loaded = pair
  given = spectrogram(model.config)

  def loss(params):
    return jnp.mean(ours(loaded, params, given)[0] ** 2)

  def their_loss(model):
    return summary(model(torch.tensor(given))).pow(2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'num_mel_bins': 40, 'max_length': 70},
    {'do_normalize': False, 'max_length': 20},
    {'mean': 1.5, 'std': 0.5, 'max_length': 50},
  ],
)
def test_sounds_are_prepared_alike(settings, tmp_path):
  extractor = transformers.ASTFeatureExtractor(**settings)
  extractor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  prepare = preprocess_audio.FbankPreprocessor.from_config(config)
  rng = np.random.default_rng(0)
  sounds = [
    rng.normal(0, 0.1, size).astype(np.float32) + offset
    for size, offset in ((400, 0.0), (5000, 0.3), (20_001, -0.1))
  ]
  want = extractor(sounds, sampling_rate=16_000, return_tensors='np')
  # Logarithms of what little is left of low bands, without the mean and the
  # sample before: in float32 here, as Kaldi does, in float64 there.
  atol = 2e-4 / prepare.scale
  harness.close(prepare(sounds), want['input_values'], atol=atol)
