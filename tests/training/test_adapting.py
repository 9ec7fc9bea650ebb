"""Which parameters a run with adapters trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.nn import adapters
from mmjax.training import adapting

PARAMS = {
  'image': {
    'up': {
      'kernel': jnp.zeros((3, 5)),
      'bias': jnp.zeros(5),
      'lora_a': jnp.zeros((3, 2)),
      'lora_b': jnp.zeros((2, 5)),
      'lora_scale': jnp.zeros(()),
    },
    'norm': {'scale': jnp.zeros(3)},
  },
  'head': {'kernel': jnp.zeros((5, 7))},
}


def _config(**fields):
  config = settings.default_config()
  config.init_from = 'FOLDER'
  config.adapter.update({'layers': ('up',)} | fields)
  return config


def _trained(config):
  leaves = jax.tree.leaves_with_path(adapting.find_trained(config, PARAMS))
  return {path[-2].key + '/' + path[-1].key for path, kept in leaves if kept}


@pytest.mark.parametrize(
  ('adapter', 'freeze', 'want'),
  [
    ({}, (), {'up/lora_a', 'up/lora_b'}),
    # Neither a pattern that names the whole nor one that names the adapter
    # makes its scale a parameter.
    ({'train': ('norm', 'up/(bias|lora)')}, (), {
      'up/lora_a', 'up/lora_b', 'up/bias', 'norm/scale',
    }),
    ({'train': ('',)}, ('head', 'lora_a'), {
      'up/lora_b', 'up/kernel', 'up/bias', 'norm/scale',
    }),
    ({'layers': ()}, ('lora', 'up'), {'norm/scale', 'head/kernel'}),
  ],
)  # fmt: skip
def test_adapters_and_what_is_named_are_trained(adapter, freeze, want):
  config = _config(**adapter)
  config.optimizer.freeze = freeze
  assert _trained(config) == want


def test_frozen_parameters_without_values_are_refused():
  read = dict.fromkeys(('image/up/kernel', 'image/up/bias', 'head/kernel'))
  with pytest.raises(ConfigError, match='no values of image/norm/scale: they'):
    adapting.check_read(_config(), PARAMS, read)
  adapting.check_read(_config(train=('norm',)), PARAMS, read)
  adapting.check_read(_config(layers=()), PARAMS, {})


def test_magnitudes_follow_the_kernels():
  up = {'kernel': 2 * jnp.eye(3, 5), **PARAMS['image']['up']}
  up |= {'kernel': 2 * jnp.eye(3, 5), 'lora_magnitude': jnp.ones(5)}
  found = adapters.find_magnitudes({'image': {'up': up}})
  np.testing.assert_array_equal(
    found['image/up/lora_magnitude'], [2, 2, 2, 0, 0]
  )
