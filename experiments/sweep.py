r"""Runs a sweep: many runs of one config, with values chosen by a search.

  python -m experiments.sweep --sweep=configs/sweeps/contrastive_lr.py \
    --workdir=sweeps/lr

Every process that runs this command, on any machine with access to the storage,
is one more worker. See docs/sweeps.md.
"""

from mmjax.sweeps import command

if __name__ == '__main__':
  command.launch()
