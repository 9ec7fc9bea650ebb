"""The values that a sweep tries for a config's fields.

Sweep files see the functions `choice`, `uniform`, `loguniform` and `integers`
of this module under these names.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import optuna

from mmjax.train.settings import UserError

# So many values of a range are all tried before the first trial.
_FEW = 16
_SCALARS = (bool, int, float, str, type(None))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
  """What one config field is tried with.

  Attributes:
    condition: (path, values): the field is only set where that other field of
      the space, named before it, has one of these values.
  """

  condition: tuple[str, tuple[Any, ...]] | None = None

  def when(self, path: str, *values: Any) -> 'Dimension':
    """The same, only where the field `path` has one of `values`.

    >>> integers(1, 3).when('model.fusion.name', 'cross_attention').condition
    ('model.fusion.name', ('cross_attention',))
    """
    if not values:
      raise UserError(f'when({path!r}) names no value; give at least one')
    return dataclasses.replace(self, condition=(path, values))

  def applies(self, chosen: Mapping[str, Any]) -> bool:
    """Whether the field is set, given what was chosen before it."""
    if self.condition is None:
      return True
    path, values = self.condition
    return path in chosen and chosen[path] in values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice(Dimension):
  """One of several values of any kind, dicts and tuples included."""

  values: tuple[Any, ...]

  def distribution(self) -> optuna.distributions.BaseDistribution:
    return optuna.distributions.CategoricalDistribution(self.grid())

  def value(self, stored: Any) -> Any:
    """The config's value of what the study stores."""
    # As JSON, in which 1 is not True.
    labels = [json.dumps(label) for label in self.grid()]
    return self.values[labels.index(json.dumps(stored))]

  def grid(self) -> list[Any]:
    """Every value, as the study stores it: JSON where it is no scalar."""
    return [
      v if isinstance(v, _SCALARS) else json.dumps(v) for v in self.values
    ]

  def tried(self) -> list[Any]:
    """Values that tell whether all are legal: all."""
    return list(self.values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range(Dimension):
  """Numbers from `low` to `high`, both included.

  Attributes:
    low: smallest number.
    high: largest number.
    whole: whether they are whole numbers.
    log: whether equal ratios are equally likely.
    step: distance between neighbours; None: any number.
  """

  low: float
  high: float
  whole: bool = False
  log: bool = False
  step: float | None = None

  def distribution(self) -> optuna.distributions.BaseDistribution:
    if self.whole:
      return optuna.distributions.IntDistribution(
        self.low, self.high, log=self.log, step=self.step or 1
      )
    return optuna.distributions.FloatDistribution(
      self.low, self.high, log=self.log, step=self.step
    )

  def value(self, stored: Any) -> Any:
    """The config's value of what the study stores: the same."""
    return stored

  def grid(self) -> list[Any]:
    """Every number, where there is an end of them.

    Raises:
      UserError: if there is none.
    """
    if self.step is None or self.log:
      raise UserError(
        f'a grid needs all values of {self.low}..{self.high}; use choice(...), '
        'or uniform or integers with a step'
      )
    count = int((self.high - self.low) / self.step + 1e-9) + 1
    numbers = (self.low + i * self.step for i in range(count))
    # 0.1 + 2 * 0.1 is 0.3 here.
    return [n if self.whole else float(f'{n:.12g}') for n in numbers]

  def tried(self) -> list[Any]:
    """Values that tell whether all are legal: the first and the last.

    Of whole numbers all, if they are few: as sizes, some between two legal ones
    may not divide what they must.
    """
    if self.whole:
      numbers = range(self.low, self.high + 1, self.step or 1)
      return list(
        numbers if len(numbers) <= _FEW else numbers[:: len(numbers) - 1]
      )
    if self.step is None:
      return [self.low, self.high]
    numbers = self.grid()
    return [numbers[0], numbers[-1]]


def choice(*values: Any) -> Choice:
  """One of these values; a field that is a section may be given dicts."""
  if not values:
    raise UserError('choice() has no values; give at least one')
  out = Choice(values=values)
  labels = [json.dumps(label) for label in out.grid()]
  twice = sorted({label for label in labels if labels.count(label) > 1})
  if twice:
    raise UserError(f'choice{values}: {", ".join(twice)} is there twice')
  return out


def uniform(low: float, high: float, step: float | None = None) -> Range:
  """Numbers from `low` to `high`, or those a `step` apart from `low` on."""
  return _range(low, high, step=step)


def loguniform(low: float, high: float) -> Range:
  """Numbers from `low` to `high`, each decade as likely as another."""
  return _range(low, high, log=True)


def integers(low: int, high: int, step: int = 1, log: bool = False) -> Range:
  """Whole numbers from `low` to `high`, a `step` apart."""
  if not all(isinstance(x, int) for x in (low, high, step)):
    raise UserError(f'integers({low}, {high}, {step}) takes whole numbers only')
  if log and step != 1:
    raise UserError(f'integers({low}, {high}): log goes with step=1 only')
  return _range(low, high, step=step, whole=True, log=log)


def _range(low: float, high: float, **options: Any) -> Range:
  if not low <= high:
    raise UserError(
      f'the range {low}..{high} is empty; give the lower end first'
    )
  if options.get('log') and low <= 0:
    raise UserError(f'the range {low}..{high}: logarithms need a low above 0')
  step = options.get('step')
  if step is not None and not step > 0:
    raise UserError(f'the range {low}..{high}: step={step} is not above 0')
  return Range(low=low, high=high, **options)


# The names that a sweep file can use without an import.
NAMES: dict[str, Callable[..., Dimension]] = {
  'choice': choice,
  'uniform': uniform,
  'loguniform': loguniform,
  'integers': integers,
}


def sample(
  space: Mapping[str, Dimension], trial: optuna.Trial
) -> dict[str, Any]:
  """Asks a trial for all fields that apply, in the space's order.

  Returns:
    Path -> value as the study stores it.
  """
  stored: dict[str, Any] = {}
  for path, dimension in space.items():
    if dimension.applies(values(space, stored)):
      stored[path] = _suggest(trial, path, dimension.distribution())
  return stored


def values(
  space: Mapping[str, Dimension], stored: Mapping[str, Any]
) -> dict[str, Any]:
  """What the config's fields are set to, of what the study stores."""
  return {path: space[path].value(label) for path, label in stored.items()}


def _suggest(trial: optuna.Trial, path: str, distribution: Any) -> Any:
  kinds = optuna.distributions
  if isinstance(distribution, kinds.CategoricalDistribution):
    return trial.suggest_categorical(path, distribution.choices)
  low, high = distribution.low, distribution.high
  options = {'log': distribution.log, 'step': distribution.step}
  if isinstance(distribution, kinds.IntDistribution):
    return trial.suggest_int(path, low, high, **options)
  return trial.suggest_float(path, low, high, **options)
