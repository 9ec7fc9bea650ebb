"""Starts the tests of losses on devices where there are devices."""

import pathlib

import pytest


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(pathlib.Path(__file__).with_name('eight_devices_losses.py'))
