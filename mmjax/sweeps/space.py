"""The values that a sweep tries for a config's fields.

Sweep files use `choice`, `uniform`, `loguniform` and `integers` of this module
without an import.
"""

import dataclasses
import itertools
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna

from mmjax.config import fields as fields_lib
from mmjax.errors import ConfigError

Distribution = optuna.distributions.BaseDistribution
# Up to this many whole numbers of a range are all tried before the first trial.
_FEW = 16
_SCALARS = (bool, int, float, str, type(None))


@dataclasses.dataclass(frozen=True)
class Dimension:
  """What one config field is tried with: an Optuna distribution.

  Attributes:
    text: the call that made it, such as 'uniform(0.0, 1.0)'.
    distribution: Optuna's.
    values: of a choice, the config's values in the order of the distribution's
      choices; None for numbers.
    conditions: (path, values) of each `when`: the field is only set where all
      of those other fields, named before it, have one of these values.
  """

  text: str
  distribution: Distribution
  values: tuple[Any, ...] | None = None
  conditions: tuple[tuple[str, tuple[Any, ...]], ...] = ()

  def __str__(self) -> str:
    return self.text

  def when(self, path: str, *values: Any) -> 'Dimension':
    """A copy that is set only where the field `path` has one of `values`.

    >>> integers(1, 3).when('model.fusion.name', 'cross_attention').conditions
    (('model.fusion.name', ('cross_attention',)),)
    """
    condition = (path, tuple(map(plain, values)))
    return dataclasses.replace(self, conditions=(*self.conditions, condition))

  def applies(self, chosen: Mapping[str, Any]) -> bool:
    """Whether the field is set, for path -> value of the fields before it."""
    return all(
      path in chosen and chosen[path] in values
      for path, values in self.conditions
    )

  def value(self, stored: Any) -> Any:
    """The config's value for what the study stores."""
    if self.values is None:
      return stored
    return self.values[self.distribution.choices.index(stored)]

  def has(self, value: Any) -> bool:
    """Whether the field can have this value; False without a finite list."""
    if self.values is not None:
      return value in self.values
    return self.step is not None and value in self.grid()

  @property
  def step(self) -> float | None:
    """Distance between neighbouring numbers; None if there is none."""
    return self.distribution.step

  def is_finite(self) -> bool:
    """Whether a grid can try all values."""
    if self.values is not None:
      return True
    return self.step is not None and not self.distribution.log

  def grid(self) -> list[Any]:
    """All values, as the study stores them."""
    if self.values is not None:
      return list(self.distribution.choices)
    low, high = self.distribution.low, self.distribution.high
    if isinstance(low, int):
      return list(range(low, high + 1, self.step))
    count = int((high - low) / self.step + 1e-9) + 1
    # 0.1 + 2 * 0.1 is 0.3 here.
    return [float(f'{low + i * self.step:.12g}') for i in range(count)]

  def probes(self) -> list[Any]:
    """Values to build before the first trial: all choices, ends of ranges.

    Of whole numbers all, if they are few: a size between two legal ones may not
    divide what it must.
    """
    if self.values is not None:
      return list(self.values)
    if self.step is None:
      return [self.distribution.low, self.distribution.high]
    numbers = self.grid()
    if isinstance(numbers[0], int) and len(numbers) <= _FEW:
      return numbers
    return list(dict.fromkeys([numbers[0], numbers[-1]]))


def choice(*values: Any) -> Dimension:
  """One of these values; a field that is a section can be given dicts.

  Raises:
    ConfigError: if there are none, or one is not plain data or there twice.
  """
  values = tuple(map(plain, values))
  text = f'choice({", ".join(map(repr, values))})'
  field = fields_lib.Field('plain', None, '')
  for value in values:
    if not field.accepts(value):
      raise ConfigError(f'{text}: {value!r} is not legal: {field.describe()}')
  # The study stores values that are not scalars as JSON.
  labels = [v if isinstance(v, _SCALARS) else json.dumps(v) for v in values]
  # To Optuna, values that compare equal are the same: also 1, 1.0 and True.
  for i, j in itertools.combinations(range(len(values)), 2):
    if labels[i] == labels[j]:
      raise ConfigError(
        f'{text}: {values[i]!r} and {values[j]!r} are equal; leave one out'
      )
  distribution = optuna.distributions.CategoricalDistribution(labels)
  return Dimension(text, distribution, values)


def uniform(low: float, high: float, step: float | None = None) -> Dimension:
  """Numbers from `low` to `high`, or those a `step` apart from `low` on."""
  low, high, step = _float(low), _float(high), _float(step)
  kind = optuna.distributions.FloatDistribution
  return _numbers('uniform', kind, low, high, step=step)


def loguniform(low: float, high: float) -> Dimension:
  """Numbers from `low` to `high`, each decade as likely as another."""
  kind = optuna.distributions.FloatDistribution
  return _numbers('loguniform', kind, _float(low), _float(high), log=True)


def integers(
  low: int, high: int, step: int = 1, log: bool = False
) -> Dimension:
  """Whole numbers from `low` to `high`, a `step` apart."""
  low, high, step = map(plain, (low, high, step))
  kind = optuna.distributions.IntDistribution
  return _numbers('integers', kind, low, high, step=step, log=log)


def plain(value: Any) -> Any:
  """Numbers of numpy, and sections of a config, as Python's own."""
  if isinstance(value, np.generic):
    return value.item()
  return value.to_dict() if hasattr(value, 'to_dict') else value


# The names that a sweep file can use without an import.
NAMES: dict[str, Callable[..., Dimension]] = {
  'choice': choice,
  'uniform': uniform,
  'loguniform': loguniform,
  'integers': integers,
}


def sample(
  space: Mapping[str, Dimension], trial: optuna.trial.BaseTrial
) -> dict[str, Any]:
  """Asks a trial for all fields that apply, in the space's order.

  Returns:
    Path -> value of the config.
  """
  out: dict[str, Any] = {}
  for path, dimension in space.items():
    if dimension.applies(out):
      stored = _suggest(trial, path, dimension.distribution)
      out[path] = dimension.value(stored)
  return out


def combinations(
  space: Mapping[str, Dimension], path: str
) -> list[dict[str, Any]]:
  """All values of other fields with which the field `path` is set at all.

  Returns:
    Path -> value, of each combination; none if the field's conditions can't
    hold together.
  """
  out: list[dict[str, Any]] = [{}]
  for other, legal in space[path].conditions:
    more = [
      found | {other: value}
      for found in combinations(space, other)
      for value in legal
    ]
    out = [a | b for a in out for b in more if _compatible(a, b)]
  return out


def _numbers(
  name: str, kind: type[Distribution], low: Any, high: Any, **options: Any
) -> Dimension:
  """Numbers of one of Optuna's distributions, which refuses empty ranges."""
  whole, numbers = name == 'integers', [low, high]
  if options.get('step') is not None and not (whole and options['step'] == 1):
    numbers.append(options['step'])
  log = ', log=True' if whole and options['log'] else ''
  text = f'{name}({", ".join(map(repr, numbers))}{log})'
  field = fields_lib.Field('int' if whole else 'float', 0, '')
  for number in numbers:
    if not field.accepts(number):
      raise ConfigError(f'{text}: {number!r} is not legal: {field.describe()}')
  try:
    with warnings.catch_warnings():
      # Optuna's that (2, 7) with step 2 ends at 6.
      warnings.simplefilter('ignore', UserWarning)
      return Dimension(text, kind(low, high, **options))
  except ValueError as error:
    raise ConfigError(f'{text}: {error}') from error


def _float(value: Any) -> Any:
  """The number that trials will have: 8.0 for 8."""
  value = plain(value)
  return float(value) if type(value) is int else value


def _suggest(
  trial: optuna.trial.BaseTrial, path: str, distribution: Distribution
) -> Any:
  kinds = optuna.distributions
  if isinstance(distribution, kinds.CategoricalDistribution):
    return trial.suggest_categorical(path, distribution.choices)
  low, high = distribution.low, distribution.high
  options = {'log': distribution.log, 'step': distribution.step}
  if isinstance(distribution, kinds.IntDistribution):
    return trial.suggest_int(path, low, high, **options)
  return trial.suggest_float(path, low, high, **options)


def _compatible(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
  return all(a[path] == b[path] for path in a.keys() & b.keys())
