"""Loads the config and the experiment that a plan is made for."""

from collections.abc import Collection
from typing import Any

from mmjax.config import experiment_file, settings
from mmjax.runs import init_from
from mmjax.training import experiment


def load(
  config: Any, flags: Collection[str] = ()
) -> tuple[Any, experiment.Build]:
  """Completes a config as training does, and finds its experiment.

  Args:
    config: config that names its `experiment`.
    flags: paths of the fields that flags set, as of `init_from.resolve`.

  Returns:
    The config that the loop would train with, and the experiment's `build`.

  Raises:
    ConfigError: if the config is not legal or the experiment does not exist.
  """
  config = init_from.resolve(settings.complete(config), flags)
  settings.validate(config)
  config.data.extra_splits = ()  # A plan doesn't evaluate.
  for source in (config.data.mixture or {}).values():
    if source is not None and 'extra_splits' in source:
      source.extra_splits = ()
  return config, experiment_file.find(config.experiment)
