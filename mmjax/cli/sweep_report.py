"""`mmjax sweep-report`: writes the report of a sweep as one HTML file."""

import pathlib

from mmjax.cli import arguments
from mmjax.errors import ConfigError


def main(argv: list[str]) -> int:
  """Writes the report of a sweep and prints a summary and the file's path.

  Raises:
    ConfigError: if the folder has no sweep, no trial is complete, or the
      packages of the extra `sweep` are missing.
  """
  parser = arguments.Parser(
    prog='mmjax sweep-report',
    description='Writes one HTML file with the history of a sweep, the effect '
    'of its fields, and its best config.',
  )
  parser.add_argument('workdir', help="the sweep's folder")
  parser.add_argument(
    '--storage',
    default='journal',
    help='URL of the study, if it is not in the folder',
  )
  parser.add_argument(
    '--output', help='file to write (default: WORKDIR/report.html)'
  )
  args = parser.parse_args(argv)
  if args.output:
    arguments.check_output_file(f'--output={args.output}', args.output)
  try:
    import optuna

    from mmjax.sweeps import report, status, storage
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is missing; install it with pip install 'mmjax[sweep]'"
    ) from error

  optuna.logging.set_verbosity(optuna.logging.WARNING)
  workdir = pathlib.Path(args.workdir)
  study = storage.load_study(args.storage, workdir)
  output = pathlib.Path(args.output or workdir / 'report.html')
  with arguments.naming(f'--output={output}', 'write'):
    report.write(study, workdir, output)
  print(f'{status.summary(study)}\n{output}')
  return 0
