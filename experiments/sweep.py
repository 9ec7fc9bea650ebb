"""Many runs of one config, with values that a search chooses.

  python -m experiments.sweep --sweep=configs/sweeps/contrastive_lr.py \
    --workdir=sweeps/lr

Start the same command as often as you like, on any machine that sees the
storage; every process is one more worker. See docs/sweeps.md.
"""

from mmjax.sweeps import command

if __name__ == '__main__':
  command.launch()
