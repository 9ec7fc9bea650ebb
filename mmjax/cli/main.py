"""The `mmjax` command: runs a sub-command."""

import importlib
import os
import sys

from mmjax.errors import ConfigError, RunError

# A sub-command is a module of this package (with _ for -) that has
# `main(argv) -> int | None`. It is imported when it is called, so that
# `mmjax --help` is quick.
COMMANDS = {
  'convert': 'write a trained model as a Hugging Face folder',
  'data': 'prepare, import, list and look at data sets',
  'plan': 'estimate memory, time and cost of training, without TPUs',
  'predict': 'caption images, answer questions about them, or rank texts',
  'report': 'print test results of runs in one table',
  'sweep-report': 'write the results of a sweep as one HTML file',
}

USAGE = """\
Multimodal models in JAX and Flax.

usage: mmjax COMMAND ...

{commands}

`mmjax COMMAND --help` describes a command. Training is started with
`python -m experiments.NAME --config=FILE --workdir=FOLDER`.
"""


def main(argv: list[str] | None = None) -> int:
  """Runs one command.

  Args:
    argv: arguments without the program's name; by default sys.argv[1:].

  Returns:
    The exit status.
  """
  argv = sys.argv[1:] if argv is None else argv
  lines = [f'  {name:<12} {what}' for name, what in COMMANDS.items()]
  usage = USAGE.format(commands='\n'.join(lines))
  if argv and argv[0] in ('-h', '--help', 'help'):
    print(usage, end='')
    return 0
  if argv and argv[0] == '--version':
    print(importlib.import_module('mmjax').__version__)
    return 0
  if not argv or argv[0] not in COMMANDS:
    if argv:
      print(f'mmjax: unknown command {argv[0]!r}\n', file=sys.stderr)
    print(usage, end='', file=sys.stderr)
    return 2
  command = importlib.import_module(f'mmjax.cli.{argv[0].replace("-", "_")}')
  try:
    status = command.main(argv[1:]) or 0
    sys.stdout.flush()  # Here, where a closed pipe is expected.
    return status
  except BrokenPipeError:
    # The reader of the output has exited, so nothing more can be written.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except (ConfigError, RunError, OSError) as error:
    # An OSError here comes from a path in the arguments. Anything else is a
    # bug, and keeps its traceback.
    print(f'mmjax {argv[0]}: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130
  except Exception as error:
    # Imported here, since it takes time that other errors needn't.
    from mmjax.runs import disk

    if not disk.is_full(error):
      raise
    print(f'mmjax {argv[0]}: a disk is full: {error}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
