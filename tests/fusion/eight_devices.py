"""Every fusion on a mesh, with split parameters and examples.

Run by test_contract.py in a process of eight devices.
"""

from tests.fusion.every_fusion import ROWS, make_tokens
from tests.parallel import split_modules


def test_eight_devices_compute_what_one_computes(draw):
  modules = {name: make() for name, make in ROWS.items()}
  inputs = {name: (make_tokens(name),) for name in ROWS}
  split_modules.check(modules, inputs, draw)
