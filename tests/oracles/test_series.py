"""The patched transformer of series equals that of transformers."""

import numpy as np
import pytest
import torch
import transformers

from mmjax import encoders
from tests.oracles import harness

WIDTH, HEADS = 8, 2
SETTINGS = {
  'd_model': WIDTH,
  'num_attention_heads': HEADS,
  'ffn_dim': 7,
  'num_hidden_layers': 2,
  'num_input_channels': 3,
  'context_length': 12,
  'patch_length': 4,
  'patch_stride': 2,
  'norm_type': 'layernorm',
  'norm_eps': 1e-6,
  'positional_encoding_type': 'random',
}


def _dense(weights, name):
  return {
    'kernel': weights[f'{name}.weight'].T,
    'bias': weights[f'{name}.bias'],
  }


def _norm(weights, name):
  return {
    'scale': weights[f'{name}.weight'],
    'bias': weights[f'{name}.bias'],
  }


def _block(weights, name):
  into_heads = lambda part: {
    key: value.reshape(*value.shape[:-1], HEADS, WIDTH // HEADS)
    for key, value in _dense(weights, f'{name}.self_attn.{part}_proj').items()
  }
  out = _dense(weights, f'{name}.self_attn.out_proj')
  out['kernel'] = out['kernel'].reshape(HEADS, WIDTH // HEADS, WIDTH)
  return {
    'attention': {
      'query': into_heads('q'),
      'key': into_heads('k'),
      'value': into_heads('v'),
      'out': out,
    },
    'attention_norm': _norm(weights, f'{name}.norm_sublayer1'),
    'mlp': {
      'up': _dense(weights, f'{name}.ff.0'),
      'down': _dense(weights, f'{name}.ff.3'),
    },
    'mlp_norm': _norm(weights, f'{name}.norm_sublayer3'),
  }


@pytest.mark.parametrize('normed', [True, False])
@pytest.mark.parametrize('position', ['pre', 'post'])
def test_outputs_are_equal(position, normed):
  torch.manual_seed(0)
  config = transformers.PatchTSTConfig(
    **SETTINGS, pre_norm=position == 'pre', scaling='std' if normed else None
  )
  model = harness.randomise(transformers.PatchTSTModel(config))
  weights = {k: v.numpy() for k, v in model.state_dict().items()}
  params = {
    'projection': _dense(weights, 'encoder.embedder.input_embedding'),
    'position_embedding': {
      'table': weights['encoder.positional_encoder.position_enc']
    },
    'blocks': {
      f'layers_{i}': _block(weights, f'encoder.layers.{i}') for i in range(2)
    },
  }
  module = encoders.PatchedSeries(
    4,
    WIDTH,
    2,
    HEADS,
    7,
    stride=2,
    max_length=5,
    instance_norm=normed,
    final_norm=False,
    block={'norm_position': position},
    scan=False,
  )
  series = np.random.default_rng(0).normal(3, 2, (2, 12, 3)).astype('float32')
  with torch.no_grad():
    want = model(torch.tensor(series)).last_hidden_state  # [B, C, N, D]
  got = module.apply({'params': params}, series, train=False).values
  harness.check_close(got, want.reshape(2, 15, WIDTH))
