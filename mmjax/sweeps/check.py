"""Builds every value of a space before the first trial."""

from collections.abc import Callable

import ml_collections

from mmjax.errors import ConfigError
from mmjax.sweeps import load
from mmjax.sweeps import space as space_lib
from mmjax.sweeps import sweep as sweep_lib
from mmjax.train import experiment, loop

# Name of an experiment -> its `build`.
BuildOf = Callable[[str], experiment.Build]


def check(sweep: sweep_lib.Sweep, build_of: BuildOf) -> None:
  """Builds the ends of every range, few whole numbers and all choices.

  Everything is built as a run would build it, shapes included, but nothing is
  computed. A field with a condition is built with all values that this names;
  otherwise fields vary one by one. Two values that are legal each may still be
  refused together; such a trial fails, and its log says why.

  Args:
    sweep: what `load.load` returns.
    build_of: name of an experiment -> its `build`.

  Raises:
    ConfigError: naming every value that the config or its experiment refuses.
  """
  try:
    build(sweep.run_config({}), build_of)
  except ConfigError as error:
    load.raise_all(sweep.file, [f'without the space: {error}'])
  errors: list[str] = []
  refused = []
  for path, dimension in sweep.space.items():
    for value in dimension.probes():
      for others in space_lib.combinations(sweep.space, path):
        if any(item in refused for item in others.items()):
          continue  # That is among the errors.
        try:
          build(sweep.run_config(others | {path: value}), build_of)
        except (ConfigError, TypeError) as error:
          refused.append((path, value))
          where = ''.join(f' with {p}={v!r}' for p, v in others.items())
          kind = 'TypeError: ' if isinstance(error, TypeError) else ''
          message = f'{path}={value!r}{where}: {kind}{error}'
          if isinstance(value, float) and value.is_integer():
            message += (
              f'; if it must be whole, integers(...), not {dimension.text}'
            )
          errors.append(message)
  load.raise_all(sweep.file, errors)


def build(config: ml_collections.ConfigDict, build_of: BuildOf) -> None:
  """Builds one config; raises ConfigError if it is refused."""
  loop.check(config, build_of(config.experiment))
