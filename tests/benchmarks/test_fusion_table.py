"""Widths with equal parameters, kept rows, and the table's lines."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import fusion_table
from mmjax import fusion
from mmjax.errors import ConfigError
from mmjax.types import TokenVectors

ONE = TokenVectors(
  jax.ShapeDtypeStruct((1, 2, 64), jnp.float32),
  jax.ShapeDtypeStruct((1, 2), bool),
  jax.ShapeDtypeStruct((1, 64), jnp.float32),
)
TOKENS = {'image': ONE, 'sound': ONE, 'clip': ONE}


def test_fusions_are_as_wide_as_their_parameters_allow():
  count = lambda name, settings: fusion_table.count_parameters(
    fusion.FUSIONS[name](**settings), TOKENS
  )
  for name in ('sum', 'mutan'):
    settings = fusion_table.fit_width(name, 3_000, TOKENS)
    wider = fusion_table.make_settings(name, settings['width'] + 4, TOKENS)
    assert count(name, settings) <= 3_000 < count(name, wider)
  with pytest.raises(ConfigError, match='sum of width 4 has more than 100'):
    fusion_table.fit_width('sum', 100, TOKENS)


def test_rows_of_other_settings_are_refused(tmp_path):
  settings = {'steps': 3, 'depths': (1, 'output')}
  assert fusion_table.read_rows(tmp_path, settings) == {}
  row = '{"label": "sum at 1", "accuracies": [0.5]}\n'
  (tmp_path / 'rows.jsonl').write_text(row)
  rows = fusion_table.read_rows(tmp_path, settings)
  assert rows['sum at 1']['accuracies'] == [0.5]
  with pytest.raises(ConfigError, match='of other settings than these'):
    fusion_table.read_rows(tmp_path, {**settings, 'steps': 4})


def test_lines_are_means_with_intervals_and_the_best_comes_first():
  rows = [
    {
      'label': label,
      'accuracies': {'event': [0.25] * len(accuracies), 'sum': accuracies},
      'parameters': parameters,
      'step_time': 0.2,
    }
    for label, accuracies, parameters in (
      ('sum at 1', [0.2, 0.4, 0.6], 7_000),
      ('image alone', [0.1], 0),
      ('max at 1', [0.5] * 3, 9),
    )
  ]
  lines = fusion_table.format_rows(rows).splitlines()
  cells = [[c.strip() for c in line.strip('|').split('|')] for line in lines]
  assert cells[2:] == [
    ['image alone', '0.250', '-', '0.100', '-', '0', '200.0'],
    ['max at 1', '0.250', '0.000', '0.500', '0.000', '9', '200.0'],
    ['sum at 1', '0.250', '0.000', '0.400', '0.497', '7,000', '200.0'],
  ]
