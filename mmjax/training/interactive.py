"""Trains in a notebook, or any other interactive session."""

import contextlib
import dataclasses
import os
import tempfile
import types
from pathlib import Path
from typing import Any

import jax

from mmjax.config import experiment_file, settings
from mmjax.errors import ConfigError
from mmjax.training import history as history_lib
from mmjax.training import runner
from mmjax.training.experiment import Build, Builder, Experiment


def train(
  config: Any,
  experiment: types.ModuleType | Build | Path | str | None = None,
  workdir: Path | str | None = None,
) -> history_lib.History:
  """Trains an experiment in this process: `mmjax.train(config)`.

  It does what the command of an experiment does, but for the blind baseline. An
  interruption, as by the stop button of a notebook, ends it after a step that
  is saved.

  Args:
    config: an ml_collections config or a dict, as `get_config` of a config file
      returns it; missing fields get their defaults. It is not changed.
    experiment: a module with a `build`, such as `experiments.contrastive`; a
      `Builder` or a function `build(config, mesh)`, which may use classes
      of this session; the path of an experiment file; None for the one that
      the config names, or, if it names none, for what mmjax has.
    workdir: the run's folder. A folder that holds a run resumes it, and is
      refused with another config, though not with another code of the same
      config. None for a new folder of the system's temporary ones.

  Returns:
    What was measured, until an interruption if there was one.

  Raises:
    ConfigError: if a value of the config or the data is refused.
    NonFiniteError: if a loss or gradient is NaN or infinite.
  """
  if isinstance(config, str | os.PathLike):
    raise ConfigError(
      f'config={config!r} is a path; pass what its get_config() returns, or '
      'start the experiment by its command'
    )
  config = settings.complete(config)
  build, name = _find(experiment, config.experiment)
  config.experiment = name
  if workdir is not None:
    runner.run(config, build, workdir)
    return history_lib.read(workdir, build)
  folder = tempfile.mkdtemp(prefix='mmjax-')
  try:
    runner.run(config, _announce(build, folder), folder)
  except ConfigError:
    with contextlib.suppress(OSError):
      os.rmdir(folder)  # Only if nothing is in it.
    raise
  return history_lib.read(folder, build)


def _announce(build: Build, folder: str) -> Build:
  """`build`, with a note of the folder, printed once nothing is refused."""

  def built(config: Any, mesh: jax.sharding.Mesh) -> Experiment:
    experiment = build(config, mesh)
    notes = (*experiment.notes, f'the run is in {folder}')
    return dataclasses.replace(experiment, notes=notes)

  return built


def _find(
  experiment: types.ModuleType | Build | Path | str | None, named: str
) -> tuple[Build, str]:
  """The function `build` of an experiment, and the name to open runs by.

  Args:
    experiment: experiment, as in `train`.
    named: the config's `experiment`.
  """
  if experiment is None:
    return (experiment_file.find(named) if named else Builder()), named
  return experiment_file.choose(experiment)
