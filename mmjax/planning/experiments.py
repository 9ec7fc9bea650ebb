"""From a config to the experiment file that it belongs to."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from mmjax.train import init_from, settings
from mmjax.train.experiment import Experiment


def load(config: Any) -> tuple[Any, Callable[[Any], Experiment]]:
  """Completes a config as training does, and finds its `build`.

  Args:
    config: names its `experiment`, a module of the folder `experiments/` in the
      working folder (or installed).

  Returns:
    The config that the loop would train with, and `build`.

  Raises:
    UserError: if the config is not legal or there is no such experiment.
  """
  config = init_from.resolve(settings.complete(config))
  settings.validate(config)
  config.data.extra_splits = ()  # Only tested on, which a plan doesn't.
  if not config.experiment:
    raise settings.UserError(
      'the config names no experiment; set config.experiment, for example to '
      "'contrastive'"
    )
  name = f'experiments.{config.experiment}'
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    module = importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name not in ('experiments', name):
      raise
    raise settings.UserError(
      f'experiment={config.experiment!r}: there is no experiments/'
      f'{config.experiment}.py in {os.getcwd()}; start mmjax plan where it is'
    ) from error
  return config, module.build
