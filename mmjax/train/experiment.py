"""What an experiment file hands to the loop."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmjax.types import Batch, Objective, Params


class TrainData(Protocol):
  """Batches by number: batch `i` is the same however often one restarts."""

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
  """The evaluators of an experiment whose splits are measured alike.

  Args:
    splits: 'val', 'test' and others, which are measured along with 'test'.
    measures: (split, what its names begin with) -> name -> evaluator.
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
  """What `build(config)` returns and `mmjax.train.loop.run` trains.

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
