"""A toy run as a process of its own, for tests that send it signals.

python killed.py --config=toy_config.py --workdir=DIR
"""

import time

import toy

from mmjax.training import experiment, main


def build(config, mesh) -> experiment.Experiment:
  """The toy with slow data, so that signals come in between."""
  built = toy.build(config, mesh)
  whole = built.train_data.batch

  def slow(i):
    time.sleep(0.02)
    return whole(i)

  built.train_data.batch = slow
  return built


if __name__ == '__main__':
  main.launch(build)
