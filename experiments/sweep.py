"""Many runs of one config, with values that a search chooses.

  python -m experiments.sweep --sweep=configs/sweeps/contrastive_lr.py \
    --workdir=sweeps/lr

Start the same command as often as you like, on any machine that sees the
storage; every process is one more worker. See docs/sweeps.md.
"""

import importlib
import pkgutil

import experiments
from mmjax.sweeps import command
from mmjax.train.settings import UserError


def build_of(name: str):
  """The `build` of the experiment that a config names."""
  there = sorted(
    module.name
    for module in pkgutil.iter_modules(experiments.__path__)
    if module.name != 'sweep'
  )
  if name not in there:
    raise UserError(
      f'experiment={name!r} is not there; there are {", ".join(there)}'
    )
  return importlib.import_module(f'experiments.{name}').build


if __name__ == '__main__':
  command.launch(build_of)
