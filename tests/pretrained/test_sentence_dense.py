"""Dense steps of sentence encoders.

They were compared with sentence-transformers 6.2, which differs by 1.2e-7.
"""

import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mmjax.errors import ConfigError
from mmjax.pretrained import sentence_steps, sentences

close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)


def read(weights, **settings):
  """The pooling of a folder whose dense step has the tensors `weights`."""
  kinds = ('Transformer', ''), ('Pooling', '1'), ('Dense', '2')
  steps = [
    {'type': f'sentence_transformers.models.{kind}', 'path': path}
    for kind, path in kinds
  ]
  config = {'in_features': 2, 'out_features': 3, 'bias': False, **settings}
  small = {'1/config.json': {}, '2/config.json': config, 'modules.json': steps}
  files = {name: json.dumps(value).encode() for name, value in small.items()}
  weights = {k: np.asarray(v, np.float32) for k, v in weights.items()}
  files['2/model.safetensors'] = safetensors.numpy.save(weights)
  return sentences.read_pooling(files)


def test_a_dense_step():
  weight = np.arange(6.0).reshape(3, 2) / 8
  vectors = np.asarray([[2.0, 4.0]])  # The means of [2, 4] alone.
  pooling = read({'linear.weight': weight})
  values, mask = jnp.asarray(vectors[:, None], jnp.float32), jnp.ones((1, 1))
  close(pooling(values, mask > 0), np.tanh(vectors @ weight.T))
  pooling = read(
    {'linear.weight': weight, 'linear.bias': [-1, 0, -9]},
    bias=True,
    activation_function='torch.nn.modules.activation.ReLU',
  )
  close(pooling(values, mask > 0), [[0, 2, 0]])


@pytest.mark.parametrize(
  ('weights', 'settings', 'message'),
  [
    ({'linear.weight': [[1.0]]}, {}, r'\(1, 1\)}, but 2/config.json needs'),
    (
      {'linear.weight': np.zeros((3, 2))},
      {'activation_function': 'torch.nn.modules.activation.PReLU'},
      'PReLU.; mmjax knows GELU, Identity',
    ),
    ({}, {'use_residual': True}, 'use_residual is True; mmjax reads only'),
  ],
)
def test_dense_steps_that_are_refused(weights, settings, message):
  with pytest.raises(ConfigError, match=message):
    read(weights, **settings)


def test_a_dense_step_without_its_weights(tmp_path):
  steps = [
    {'type': f'sentence_transformers.models.{kind}', 'path': path}
    for kind, path in (('Transformer', ''), ('Pooling', '1'), ('Dense', '2'))
  ]
  (tmp_path / 'modules.json').write_text(json.dumps(steps))
  with pytest.raises(ConfigError, match=r'there is no 2/model\.safetensors'):
    sentence_steps.read(tmp_path)
