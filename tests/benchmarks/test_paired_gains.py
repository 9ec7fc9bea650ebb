"""Gains are of the same seed, also where some seeds are still missing."""

from benchmarks import paired_gains


def test_gains_are_paired_by_seed():
  rows = {
    'teacher': [1.0],
    'labels': [0.5, 0.7, 0.6],
    'fixmatch': [0.6, 0.9],
    'mean_teacher': [0.5],
  }
  _, *lines = paired_gains.format_table(rows).splitlines()
  assert [line.split() for line in lines] == [
    ['teacher', '1.000', '-', '-', '-', '1.000'],
    ['labels', '0.600', '0.100', '-', '-', '0.500', '0.700', '0.600'],
    ['fixmatch', '0.750', '0.212', '+0.150', '0.071', '0.600', '0.900'],
    ['mean_teacher', '0.500', '-', '+0.000', '-', '0.500'],
  ]
