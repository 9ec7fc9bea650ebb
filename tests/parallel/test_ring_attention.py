"""Attention around a ring, in a process of eight devices."""

from pathlib import Path

import pytest


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices_ring.py')
