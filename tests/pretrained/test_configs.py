"""Reading config.json: older and newer names, and what is refused."""

import jax.numpy as jnp
import pytest

from mmjax.pretrained import configs

LLAMA3 = {
  'factor': 32.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}


@pytest.mark.parametrize(
  'given',
  [
    {'rope_theta': 5e5, 'rope_scaling': {'rope_type': 'llama3', **LLAMA3}},
    {
      'rope_parameters': {'rope_theta': 5e5, 'rope_type': 'llama3', **LLAMA3},
      'rope_theta': 7.0,
    },
  ],
)
def test_rotary_positions_of_older_and_newer_releases(given):
  scaling = {'kind': 'llama3', 'factor': 32.0, 'low': 1.0, 'high': 4.0}
  assert configs.rotary_settings(given) == {
    'rope_theta': 5e5,
    'rope': {'scaling': {**scaling, 'length': 8192}},
  }


def test_rotary_positions_where_a_config_is_silent():
  plain = {'rope_theta': 1e4, 'rope': None}
  assert configs.rotary_settings({}) == plain
  assert configs.rotary_settings({'rope_scaling': None}) == plain
  assert configs.rotary_settings({}, 1e6)['rope_theta'] == 1e6
  linear = configs.rotary_settings(
    {'rope_scaling': {'type': 'linear', 'factor': 2.0}}
  )
  assert linear['rope'] == {'scaling': {'kind': 'linear', 'factor': 2.0}}
  dynamic = configs.rotary_settings(
    {
      'rope_scaling': {'type': 'dynamic', 'factor': 2.0},
      'max_position_embeddings': 7,
    }
  )
  scaling = {'kind': 'dynamic', 'factor': 2.0, 'length': 7}
  assert dynamic['rope'] == {'scaling': scaling}
  axes = configs.rotary_settings(
    {'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]}}
  )
  assert axes['rope'] == {'sections': (16, 24, 24)}


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'rope_theta': None}, 'rope_theta is None'),
    ({'rope_scaling': {'type': 'yarn'}}, "rope_type is 'yarn'; mmjax knows"),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
    (
      {'rope_scaling': {'type': 'linear'}},
      'factor is None; .* rope_type linear need a number above 0',
    ),
    ({'rope_scaling': {'type': 'linear', 'factor': 0}}, 'factor is 0;'),
    (
      {'rope_parameters': {'rope_type': 'llama3', 'factor': 8.0}},
      'low_freq_factor is None; .* rope_type llama3 need',
    ),
  ],
)
def test_other_rotary_positions_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    configs.rotary_settings(given)


def test_a_whole_number_or_nothing():
  read = lambda value: configs.section({'n': value}, '', {'n': None})
  assert read(3) == {'n': 3}
  assert read(None) == {'n': None}
  for other in (0.5, True, 'x'):
    with pytest.raises(ValueError, match='reads only int or null here'):
      read(other)


@pytest.mark.parametrize('value', [0, -2])
def test_sizes_begin_at_one(value):
  for default in (12, None):
    with pytest.raises(
      ValueError, match=f'n is {value}; it should be at least 1'
    ):
      configs.section({'n': value}, '', {'n': default})
  given = {'pad_token_id': value, 'layer': value}
  assert configs.section(given, '', {'pad_token_id': 1, 'layer': -1}) == given


def test_other_values_and_architectures_are_refused():
  configs.refuse({'a': 1}, a=1, b=2)
  with pytest.raises(ValueError, match='a is 3; mmjax reads only 1 here'):
    configs.refuse({'a': 3}, a=1)
  assert configs.architecture({}, 'A', 'B') == 'A'
  assert configs.architecture({'architectures': ['B']}, 'A', 'B') == 'B'
  with pytest.raises(ValueError, match=r"is \['C'\]; .* mmjax knows A, B"):
    configs.architecture({'architectures': ['C']}, 'A', 'B')


def test_a_config_names_the_type_of_its_tensors_in_all_parts():
  given = {
    'torch_dtype': 'bfloat16',
    'text_config': {'dtype': 'float16', 'inner': {'torch_dtype': None}},
    'sizes': [1, 2],
  }
  assert configs.set_dtype(given, 'float32') == {
    'torch_dtype': 'float32',
    'text_config': {'dtype': 'float32', 'inner': {'torch_dtype': 'float32'}},
    'sizes': [1, 2],
  }
  silent = configs.set_dtype({'text_config': {}}, jnp.bfloat16)
  assert silent == {'text_config': {}, 'dtype': 'bfloat16'}
