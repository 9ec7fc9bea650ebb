"""The values that a sweep tries for a config's fields.

Sweep files use `choice`, `uniform`, `loguniform` and `integers` of this module
without an import.
"""

import dataclasses
import json
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

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
    values: values of a choice, the config's values in the order of the
      distribution's choices; None for numbers.
    condition: (path, values) of `when`: the field is only set where that other
      field, named before it, has one of these values; None: always.
  """

  text: str
  distribution: Distribution
  values: tuple[Any, ...] | None = None
  condition: tuple[str, tuple[Any, ...]] | None = None

  def when(self, path: str, *values: Any) -> 'Dimension':
    """A copy that is set only where the field `path` has one of `values`.

    >>> integers(1, 3).when('model.fusion.name', 'cross_attention').condition
    ('model.fusion.name', ('cross_attention',))

    Raises:
      ValueError: if it depends on a field already.
    """
    if self.condition:
      raise ValueError(f'{self.text} has two when(...); leave one out')
    condition = (path, tuple(map(plain, values)))
    return dataclasses.replace(self, condition=condition)

  def suggest(self, trial: optuna.trial.BaseTrial, path: str) -> Any:
    """Asks a trial for the field's value, as the config has it."""
    if self.values is not None:
      choices = self.distribution.choices
      label = trial.suggest_categorical(path, choices)
      return self.values[choices.index(label)]
    low, high = self.distribution.low, self.distribution.high
    options = {'log': self.distribution.log, 'step': self.distribution.step}
    whole = isinstance(self.distribution, optuna.distributions.IntDistribution)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(path, low, high, **options)

  def grid(self) -> Sequence[Any] | None:
    """All values as the study stores them; None if there is no end of them."""
    if self.values is not None:
      return self.distribution.choices
    low, high = self.distribution.low, self.distribution.high
    step = self.distribution.step
    if step is None:
      return None
    if isinstance(low, int):
      return range(low, high + 1, step)
    count = int((high - low) / step + 1e-9) + 1
    # 0.1 + 2 * 0.1 is 0.3 here.
    return [float(f'{low + i * step:.12g}') for i in range(count)]

  def has(self, value: Any) -> bool:
    """Whether the field can have this value; False without a finite list."""
    return value in (self.values or self.grid() or ())

  def probes(self) -> list[Any]:
    """Values to build before the first trial: all choices, ends of ranges.

    Of whole numbers all, if they are few: a size between two legal ones may not
    divide what it must.
    """
    if self.values is not None:
      return list(self.values)
    numbers = self.grid() or (self.distribution.low, self.distribution.high)
    if isinstance(numbers, range) and len(numbers) <= _FEW:
      return list(numbers)
    return [numbers[0], numbers[-1]]


def choice(*values: Any) -> Dimension:
  """One of these values; a field that is a section can be given dicts.

  Raises:
    ValueError: if there are none, or two are equal.
    TypeError: if one is not plain data.
  """
  values = tuple(map(plain, values))
  # The study stores values that are not scalars as JSON.
  labels = [v if isinstance(v, _SCALARS) else json.dumps(v) for v in values]
  text = f'choice({", ".join(map(repr, values))})'
  # To Optuna, values that compare equal are the same: also 1, 1.0 and True.
  if len(set(labels)) < len(labels):
    raise ValueError(f'{text}: two values are equal; leave one out')
  distribution = optuna.distributions.CategoricalDistribution(labels)
  return Dimension(text, distribution, values)


def uniform(low: float, high: float, step: float | None = None) -> Dimension:
  """Numbers from `low` to `high`, or those a `step` apart from `low` on.

  Raises:
    ValueError: if there are none.
  """
  return _floats(f'uniform({low}, {high}, step={step})', low, high, step=step)


def loguniform(low: float, high: float) -> Dimension:
  """Numbers from `low` to `high`, each decade as likely as another.

  Raises:
    ValueError: if there are none.
  """
  return _floats(f'loguniform({low}, {high})', low, high, log=True)


def integers(
  low: int, high: int, step: int = 1, log: bool = False
) -> Dimension:
  """Whole numbers from `low` to `high`, a `step` apart.

  Raises:
    ValueError: if there are none.
    TypeError: if one is not whole.
  """
  low, high, step = map(operator.index, (low, high, step))
  kind = optuna.distributions.IntDistribution
  text = f'integers({low}, {high}, step={step}, log={log})'
  return Dimension(text, kind(low, high, step=step, log=log))


def _floats(text: str, low: float, high: float, **options: Any) -> Dimension:
  if not (math.isfinite(low) and math.isfinite(high)):
    raise ValueError(f'{text}: the ends of a range must be finite')
  kind = optuna.distributions.FloatDistribution
  return Dimension(text, kind(low, high, **options))


def plain(value: Any) -> Any:
  """Numbers of numpy, and sections of a config, as Python's own."""
  if isinstance(value, np.generic):
    return value.item()
  return value.to_dict() if hasattr(value, 'to_dict') else value


# The names that a sweep file can use without an import.
NAMES = {f.__name__: f for f in (choice, uniform, loguniform, integers)}


def sample(
  space: Mapping[str, Dimension], trial: optuna.trial.BaseTrial
) -> dict[str, Any]:
  """Asks a trial for all fields that apply, in the space's order.

  Returns:
    Path -> value of the config.
  """
  out: dict[str, Any] = {}
  for path, dimension in space.items():
    other, values = dimension.condition or (None, ())
    if other is None or (other in out and out[other] in values):
      out[path] = dimension.suggest(trial, path)
  return out


def combinations(
  space: Mapping[str, Dimension], path: str
) -> list[dict[str, Any]]:
  """All values of other fields with which the field `path` is set at all.

  Returns:
    Path -> value, of each combination.
  """
  if space[path].condition is None:
    return [{}]
  other, values = space[path].condition
  return [
    {**chosen, other: value}
    for chosen in combinations(space, other)
    for value in values
  ]
