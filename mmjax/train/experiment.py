"""Experiments: what the loop trains, and the files that define them."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from mmjax.config import user_file
from mmjax.errors import ConfigError
from mmjax.types import Batch, Objective, Params


class TrainData(Protocol):
  """Batches by number: batch `i` is the same after any restart."""

  def iterate(self, start_step: int) -> Iterator[Batch]:
    """This host's rows of global batches start_step, start_step + 1, ..."""


class Evaluator(Protocol):
  """Named numbers about parameters, and one picture to look at."""

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value)."""

  def picture(self) -> Any:
    """A `PIL.Image` of the last `run`, or None."""


def by_split(
  splits: Iterable[str],
  measures: Callable[[str, str], Mapping[str, Evaluator]],
) -> dict[str, dict[str, Evaluator]]:
  """Evaluators of an experiment that measures all splits in one way.

  Args:
    splits: 'val', 'test' and others, which are measured along with 'test'.
    measures: (split, prefix of its names) -> name -> evaluator.
  """
  out: dict[str, dict[str, Evaluator]] = {}
  for split in splits:
    if split in ('val', 'test'):
      out.setdefault(split, {}).update(measures(split, ''))
    else:
      out.setdefault('test', {}).update(measures(split, f'{split}/'))
  return out


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What `build(config, mesh)` returns and `mmjax.train.loop.run` trains.

  Attributes:
    model: a Linen module; `model.apply({'params': params}, batch, train=True,
      rngs={'dropout': key})` gives the outputs that the objectives read.
    objectives: name -> (weight, objective).
    train_data: batches of numpy arrays by number.
    init_batch: one or two examples, for shapes.
    evaluators: split ('val', 'test') -> name -> evaluator. 'val' runs every
      `train.eval_every` steps and at the end, 'test' once at the end.
    files: file name in the run's folder -> function that writes it at the
      path it is given (the tokenizer, the preprocessing).
    notes: what the user should know before the first step; printed.
  """

  model: Any
  objectives: Mapping[str, tuple[float, Objective]]
  train_data: TrainData
  init_batch: Batch
  evaluators: Mapping[str, Mapping[str, Evaluator]] = dataclasses.field(
    default_factory=dict
  )
  files: Mapping[str, Callable[[Path], None]] = dataclasses.field(
    default_factory=dict
  )
  notes: Sequence[str] = ()


# (config, mesh) -> Experiment.
Build = Callable[[Any, jax.sharding.Mesh], Experiment]


def find(name: str) -> Build:
  """The function `build` of an experiment file.

  Args:
    name: a config's `experiment`: a module of the folder `experiments/`, such
      as 'contrastive'; any other module, such as 'my_project.experiment'; or a
      file, such as 'my_project/experiment.py'.

  Raises:
    ConfigError: if there is no such file or module, or it has no `build`.
  """
  if not name:
    raise ConfigError(
      "experiment='': the config names no experiment; set it, for example to "
      "'contrastive'"
    )
  if name.endswith('.py'):
    return user_file.function(
      name, 'build', flag='config.experiment', keeps_traceback=True
    )
  # An installed command doesn't have the working folder on its path.
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  module = name if '.' in name else f'experiments.{name}'
  try:
    found = importlib.import_module(module)
  except ModuleNotFoundError as error:
    # A module that the experiment itself imports is not the config's mistake.
    if error.name not in (module, module.partition('.')[0]):
      raise
    raise ConfigError(
      f'experiment={name!r}: there is no module {module} in {os.getcwd()}'
      f'{_others()}'
    ) from error
  if not callable(getattr(found, 'build', None)):
    raise ConfigError(
      f'experiment={name!r}: {module} has no function build(config, mesh)'
      f'{_others()}'
    )
  return found.build


def _others() -> str:
  """Names of the experiment files of the working folder, for a message."""
  names = {path.stem for path in Path('experiments').glob('[!_]*.py')}
  if not names:
    return "; give a file, such as experiment='my_project/experiment.py'"
  return f'; experiments/ has {", ".join(sorted(names - {"sweep"}))}'
