"""Tells, after a run, the largest difference that each comparison saw."""

import pytest

from tests.oracles import harness


@pytest.fixture(autouse=True)
def largest_difference(record_property):
  harness.SEEN.clear()
  yield
  if harness.SEEN:
    record_property('difference', max(harness.SEEN))


def pytest_terminal_summary(terminalreporter):
  found = {}
  for report in terminalreporter.getreports(''):  # Of setups and teardowns.
    difference = dict(report.user_properties).get('difference')
    if difference is not None:
      found[report.nodeid.rpartition('/')[2]] = difference
  if found:
    terminalreporter.section('largest differences, relative above 1')
  for name, difference in sorted(found.items()):
    terminalreporter.write_line(f'{difference:.1e}  {name}')
