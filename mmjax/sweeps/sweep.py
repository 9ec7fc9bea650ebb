"""A sweep: which config, which of its fields, which metric, which search."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mmjax.config import overrides, schema, settings
from mmjax.errors import ConfigError
from mmjax.sweeps import space as space_lib


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The fields of a sweep's file, and the config that they vary.

  Attributes:
    file: the sweep's file.
    in_file: the completed config as its own file has it.
    base: the completed config that trials vary, with `set` and flags.
    config: the config's file, or FILE.py:ARGUMENT.
    metric: name in a run's results.
    direction: 'maximize' or 'minimize'.
    space: path -> the field's dimension.
    trials: number of points.
    sampler: name and options.
    pruner: name and options.
    seed: the search's.
  """

  file: str
  in_file: ml_collections.ConfigDict
  base: ml_collections.ConfigDict
  config: str
  metric: str
  direction: str
  space: Mapping[str, space_lib.Dimension]
  trials: int
  sampler: Mapping[str, Any]
  pruner: Mapping[str, Any]
  seed: int

  def description(self) -> dict[str, Any]:
    """What the study stores about the sweep, as plain data."""
    return vars(self) | {
      'in_file': settings.to_json(self.in_file),
      'base': settings.to_json(self.base),
      'space': {path: [d.text, d.condition] for path, d in self.space.items()},
    }


def vary(base: Any, values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """A copy of a completed config with the values, path -> value, of a trial.

  Raises:
    ConfigError: if there is no such field.
  """
  config = copy.deepcopy(base)
  for path, value in values.items():
    assign(config, path, value)
  config.train.blind_baseline = False  # It would double a trial's time.
  return config


def assign(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  """Sets a field of a completed config.

  Raises:
    ConfigError: if there is no such field, it is a section of the schema, or
      another section is set to something else than a dict.
  """
  section, name, field = find(config, path)
  if field.kind == 'dict' and not field.accepts(value):
    raise ConfigError(f'{path}={value!r} is not legal: {field.describe()}')
  with config.unlocked():
    if name in section:
      del section[name]  # Another type may be legal here.
    section[name] = value


def find(config: ml_collections.ConfigDict, path: str) -> tuple[Any, str, Any]:
  """As `overrides.find`, but refuses a section of the schema."""
  if path in schema.SECTIONS:
    field = next(iter(schema.SECTIONS[path]))
    raise ConfigError(
      f"{path} is a section; name its fields, such as '{path}.{field}'"
    )
  return overrides.find(config, str(path))
