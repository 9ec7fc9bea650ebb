"""Widths with equal parameters, and the table's lines."""

import pytest

from benchmarks import fusion_table


def test_fusions_are_as_wide_as_their_parameters_allow():
  for name in ('sum', 'mutan'):
    settings = fusion_table.fit_width(name, 3_000)
    assert settings.pop('name') == name
    number = fusion_table.count_parameters(name, settings)
    wider = fusion_table.make_settings(name, settings['width'] + 4)
    assert number <= 3_000 < fusion_table.count_parameters(name, wider)
  assert fusion_table.fit_width('voting', 1) == {'name': 'voting'}
  with pytest.raises(ValueError, match='sum of width 4 has more than 100'):
    fusion_table.fit_width('sum', 100)


def test_lines_are_means_with_intervals_and_the_best_comes_first():
  rows = {
    'image alone': [(0.1, 0, 0.2)],
    'sum at 1': [(0.2, 7, 0.3), (0.4, 7, 0.5), (0.6, 7, 0.4)],
    'max at 1': [(0.5, 9, 0.1)] * 3,
  }
  lines = fusion_table.format_rows(rows).splitlines()
  assert lines[0] == 'best possible accuracy: 1.000, of one sense 0.062'
  cells = [line.split() for line in lines[2:]]
  assert cells == [
    ['image', 'alone', '0.100', '-', '0', '200'],
    ['max', 'at', '1', '0.500', '0.000', '9', '100'],
    ['sum', 'at', '1', '0.400', '0.497', '7', '400'],
  ]
