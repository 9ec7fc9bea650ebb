"""Opens a trained model: the folder of a run, or a published model."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from mmjax import pretrained
from mmjax.ops import tree_paths
from mmjax.pretrained import hub
from mmjax.runs import rebuild


@dataclasses.dataclass(frozen=True)
class Opened:
  """A trained model and what it is called.

  Attributes:
    name: folder or name on the hub, as the user wrote it.
    model: a run, or a published model.
  """

  name: str
  model: rebuild.Run | pretrained.Pretrained

  @property
  def is_run(self) -> bool:
    """Whether the model is a run of mmjax."""
    return isinstance(self.model, rebuild.Run)

  def describe(self) -> str:
    """The name, and of a run the step of its weights."""
    if not self.is_run:
      return self.name
    weights = 'EMA of the weights' if self.model.is_ema else 'weights'
    return f'{self.name}: {weights} of step {self.model.step}'

  @functools.cached_property
  def checksum(self) -> int:
    """A number that other weights are unlikely to have."""
    return tree_paths.checksum(self.model.params)


def open_model(
  name: str,
  check: Callable[[Opened], object] | None = None,
  *,
  experiment: str | None = None,
  step: int | str | None = None,
) -> Opened:
  """Opens a model.

  A run that started from a published model is opened as a run.

  Args:
    name: folder of a run or of a published model, or a name on the hub.
    check: called before parameters are read, with the model without them, to
      refuse at once what it can't do.
    experiment: path or module of a run's experiment file; None for the one that
      the run was trained with.
    step: checkpoint of a run, as `mmjax.load` takes it.

  Raises:
    ConfigError: if there is none, or it can't be read.
  """
  folder = hub.find(name)
  if hub.is_run(Path(folder)):
    load = functools.partial(rebuild.load, experiment=experiment, step=step)
  else:
    hub.refuse_run_settings(name, experiment=experiment, step=step)
    load = pretrained.load
  if check is None:
    return Opened(name, load(folder))
  return Opened(name, load(folder, check=lambda m: check(Opened(name, m))))
