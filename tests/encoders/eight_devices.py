"""Every class of encoders on a mesh, with split parameters and examples.

Run by test_contract.py in a process of eight devices.
"""

from tests.encoders.every_encoder import INPUTS, ROWS
from tests.parallel import split_modules


def test_eight_devices_compute_what_one_computes(draw):
  made = {type(make()): (name, make()) for name, (_, make, _) in ROWS.items()}
  modules = dict(made.values())
  inputs = {name: INPUTS[ROWS[name][0]] for name in modules}
  split_modules.check(modules, inputs, draw)
