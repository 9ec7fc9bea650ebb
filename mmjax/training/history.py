"""What a run measured, read again from its folder."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmjax.config import experiment_file, settings
from mmjax.errors import ConfigError, RunError, suggest
from mmjax.runs import metric_writers, rebuild
from mmjax.training.experiment import Build

if typing.TYPE_CHECKING:
  from matplotlib import figure

# Figures beside each other; more of them continue below.
_COLUMNS = 3


class Series(NamedTuple):
  """A metric by step.

  Attributes:
    steps: number of steps done, int [n].
    values: the metric there, float [n].
  """

  steps: np.ndarray
  values: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class History(Mapping[str, Series]):
  """What a run measured: `history['loss'].values`, `history.plot()`.

  Attributes:
    folder: the run's folder.
    results: the last evaluation, name -> number, as in results.json; empty if
      there was none.
    series: name of a metric -> its values by step: losses and speed, one each
      `train.log_every` steps, and evaluations.
    steps: `train.steps` of the config.
    experiment: `experiment` of the config.
    build: the experiment that was trained.
  """

  folder: Path
  results: Mapping[str, float]
  series: Mapping[str, Series]
  steps: int
  experiment: str
  build: Build

  def __getitem__(self, name: str) -> Series:
    """The values of a metric.

    Raises:
      ConfigError: if the run has no metric of this name.
    """
    if name not in self.series:
      raise ConfigError(
        f'the run has no metric {name!r}{suggest(name, self.series)}; it has '
        f'{", ".join(self.series)}'
      )
    return self.series[name]

  def __contains__(self, name: object) -> bool:
    return name in self.series

  def __len__(self) -> int:
    return len(self.series)

  def __iter__(self) -> Iterator[str]:
    """Names of the metrics."""
    return iter(self.series)

  def __repr__(self) -> str:
    if 'loss' not in self.series:
      return f'<history of a run without a step, in {self.folder}>'
    steps, losses = self.series['loss']
    end = '' if steps[-1] == self.steps else f' of {self.steps}, not finished'
    lines = [
      f'<history of {steps[-1]} steps{end}, loss {losses[0]:.4g} to '
      f'{losses[-1]:.4g}, in {self.folder}',
      *(
        f'  {name} {value:.4g}'
        for name, value in self.results.items()
        if name not in ('step', 'train_seconds')
      ),
    ]
    return '\n'.join(lines) + '>'

  def load(self) -> rebuild.Run:
    """Opens the trained model, of the newest saved step.

    Raises:
      ConfigError: if no step is saved yet.
    """
    is_in_memory = self.experiment == experiment_file.IN_MEMORY
    return rebuild.load(
      self.folder, experiment=self.build if is_in_memory else None
    )

  def plot(self, *names: str) -> 'figure.Figure':
    """Draws metrics by step: a figure that a notebook shows.

    `history.plot().savefig('history.png')` writes it to a file.

    Args:
      *names: metrics of `series`; by default the loss and the metrics of
        validation.

    Raises:
      RunError: if matplotlib is not installed.
      ConfigError: if the run has no metric of a name.
    """
    try:
      from matplotlib import pyplot
    except ImportError as error:
      raise RunError(
        "history.plot() needs matplotlib: pip install 'mmjax[notebook]'"
      ) from error
    names = names or self._find_default()
    chosen = {name: self[name] for name in names}
    columns = min(len(chosen), _COLUMNS)
    rows = -(-len(chosen) // _COLUMNS)
    size = {'figsize': (4 * columns, 3 * rows), 'layout': 'constrained'}
    drawn, axes = pyplot.subplots(rows, columns, squeeze=False, **size)
    for ax, (name, series) in zip(axes.flat, chosen.items(), strict=False):
      ax.plot(series.steps, series.values, marker='.')
      ax.set(title=name, xlabel='step')
      ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes.flat[len(chosen) :]:
      ax.remove()
    pyplot.close(drawn)  # Else a notebook shows it twice.
    return drawn

  def _find_default(self) -> list[str]:
    losses = [name for name in self.series if name.startswith('loss/')]
    measured = [
      name
      for name in self.series
      if name.startswith('val/') and '/chance_' not in name
    ]
    # With one task, its loss is the whole.
    return ['loss', *(losses if len(losses) > 1 else ()), *measured]


def read(folder: Path | str, build: Build) -> History:
  """Reads what a run has measured until now.

  Args:
    folder: the run's folder.
    build: the experiment's.
  """
  folder = Path(folder).absolute()
  found: dict[str, list[tuple[int, float]]] = {}
  for record in metric_writers.read_json_lines(folder / 'metrics.jsonl'):
    for name, value in record.items():
      if name not in ('step', 'time'):
        found.setdefault(name, []).append((record['step'], value))
  path = folder / 'results.json'
  config = settings.read_json(folder / 'config.json')
  return History(
    folder=folder,
    results=settings.read_json(path) if path.exists() else {},
    series={name: _to_series(pairs) for name, pairs in found.items()},
    steps=config['train']['steps'],
    experiment=config['experiment'],
    build=build,
  )


def _to_series(pairs: list[tuple[int, Any]]) -> Series:
  steps, values = zip(*pairs, strict=True)
  return Series(np.asarray(steps), np.asarray(values, float))
