"""`mmjax sweep`: runs a sweep, or one more worker of it."""

import sys

from mmjax.errors import ConfigError


def main(argv: list[str]) -> None:
  """Runs a sweep as `mmjax.sweeps.command` describes, and ends the process.

  Raises:
    ConfigError: if the packages of the extra `sweep` are missing.
  """
  try:
    from mmjax.sweeps import command
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is missing; install it with pip install 'mmjax[sweep]'"
    ) from error

  sys.argv = ['mmjax sweep', *argv]  # Whence absl reads flags.
  command.launch()
