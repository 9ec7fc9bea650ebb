"""The values that a sweep tries for a config's fields.

Sweep files see the functions `choice`, `uniform`, `loguniform` and `integers`
of this module under these names.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.config import fields

# So many values of a range are all tried before the first trial.
_FEW = 16
_PLAIN = fields.Field('plain', None, '')
_SCALARS = (bool, int, float, str, type(None))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dimension:
  """What one config field is tried with.

  Nothing is refused when it is made, so that a sweep file's mistakes can be
  told together, and with the names of their fields: see `wrong`.

  Attributes:
    conditions: (path, values) of each `when`: the field is only set where all
      of those other fields, named before it, have one of these values.
  """

  conditions: tuple[tuple[str, tuple[Any, ...]], ...] = ()

  def when(self, path: str, *values: Any) -> 'Dimension':
    """The same, only where the field `path` has one of `values`.

    >>> integers(1, 3).when('model.fusion.name', 'cross_attention').conditions
    (('model.fusion.name', ('cross_attention',)),)
    """
    values = tuple(map(plain, values))
    return dataclasses.replace(
      self, conditions=(*self.conditions, (path, values))
    )

  def applies(self, chosen: Mapping[str, Any]) -> bool:
    """Whether the field is set, given what was chosen before it."""
    return all(
      path in chosen and chosen[path] in values
      for path, values in self.conditions
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice(Dimension):
  """One of several values of any kind, dicts and tuples included."""

  values: tuple[Any, ...]

  def __str__(self) -> str:
    return f'choice({", ".join(map(repr, self.values))})'

  def wrong(self) -> list[str]:
    """What is wrong with it, in words."""
    if not self.values:
      return ['choice() has no values; give at least one']
    odd = [value for value in self.values if not fields.is_plain(value)]
    if odd:
      return [
        f'{self}: {value!r} is not legal: {_PLAIN.describe()}' for value in odd
      ]
    # To Optuna, what compares equal is the same: also 1, 1.0 and True.
    pairs = itertools.combinations(
      zip(self.grid(), self.values, strict=True), 2
    )
    return [
      f'{self}: {a!r} and {b!r} are equal; leave one out'
      for (one, a), (other, b) in pairs
      if one == other
    ]

  def distribution(self) -> optuna.distributions.BaseDistribution:
    return optuna.distributions.CategoricalDistribution(self.grid())

  def value(self, stored: Any) -> Any:
    """The config's value of what the study stores."""
    return self.values[self.grid().index(stored)]

  def has(self, value: Any) -> bool:
    """Whether the field may be given this value."""
    return value in self.values

  def endless(self) -> bool:
    """Whether there is no list of all values."""
    return False

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

  def __str__(self) -> str:
    """As it is written in a sweep file."""
    name = 'integers' if self.whole else 'loguniform' if self.log else 'uniform'
    parts = [repr(self.low), repr(self.high)]
    if self.step is not None and not (self.whole and self.step == 1):
      parts.append(repr(self.step))
    if self.whole and self.log:
      parts.append('log=True')
    return f'{name}({", ".join(parts)})'

  def wrong(self) -> list[str]:
    """What is wrong with it, in words."""
    given = [self.low, self.high] + [self.step] * (self.step is not None)
    kind = fields.Field('int' if self.whole else 'float', 0, '')
    out = [
      f'{self}: {x!r} is not legal: {kind.describe()}'
      for x in given
      if not kind.accepts(x)
    ]
    if out:
      return out
    if self.low > self.high:
      out.append(f'{self} is empty; give the lower end first')
    if self.log and self.low <= 0:
      out.append(f'{self}: logarithms need a low above 0')
    if self.step is not None and self.step <= 0:
      out.append(f'{self}: step={self.step} is not above 0')
    if self.whole and self.log and self.step != 1:
      out.append(f'{self}: log goes with step=1 only')
    return out

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

  def has(self, value: Any) -> bool:
    """Whether the field may be given this value.

    Of numbers without a step each is as good as never met.
    """
    if self.whole:
      return value in range(self.low, self.high + 1, self.step or 1)
    return self.step is not None and value in self.grid()

  def endless(self) -> bool:
    """Whether there is no list of all values."""
    return self.step is None or self.log

  def grid(self) -> list[Any]:
    """Every number, unless they are `endless`."""
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
  return Choice(values=tuple(map(plain, values)))


def uniform(low: float, high: float, step: float | None = None) -> Range:
  """Numbers from `low` to `high`, or those a `step` apart from `low` on."""
  return Range(low=_float(low), high=_float(high), step=_float(step))


def loguniform(low: float, high: float) -> Range:
  """Numbers from `low` to `high`, each decade as likely as another."""
  return Range(low=_float(low), high=_float(high), log=True)


def integers(low: int, high: int, step: int = 1, log: bool = False) -> Range:
  """Whole numbers from `low` to `high`, a `step` apart."""
  low, high, step = map(plain, (low, high, step))
  return Range(low=low, high=high, step=step, whole=True, log=log)


def plain(value: Any) -> Any:
  """Numbers of numpy, and sections of a config, as Python's own."""
  if isinstance(value, np.generic):
    return value.item()
  return value.to_dict() if hasattr(value, 'to_dict') else value


def _float(value: Any) -> Any:
  """What the trials will have: 8.0 for 8."""
  value = plain(value)
  return float(value) if type(value) is int else value


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


def needed(space: Mapping[str, Dimension], path: str) -> list[dict[str, Any]]:
  """All values of other fields with which the field `path` is set at all.

  Returns:
    Path -> value, of each way; none if its conditions can't hold together.
  """
  ways: list[dict[str, Any]] = [{}]
  for other, legal in space[path].conditions:
    more = [
      way | {other: value} for way in needed(space, other) for value in legal
    ]
    ways = [a | b for a in ways for b in more if _agree(a, b)]
  return ways


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
  return all(a[path] == b[path] for path in a.keys() & b.keys())
