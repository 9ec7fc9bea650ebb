"""The `mmjax` command: runs a sub-command."""

import difflib
import importlib
import os
import signal
import sys

from mmjax import errors
from mmjax.errors import ConfigError, RunError

# A sub-command is a module of this package (with _ for -) that has
# `main(argv) -> int | None`. It is imported when it is called, so that
# `mmjax --help` is quick.
COMMANDS = {
  'chat': 'talk to a trained model in a terminal',
  'convert': 'write a trained model as a Hugging Face folder',
  'data': 'prepare, import, list and look at data sets',
  'demo': 'open a local page to try trained models on',
  'embed': 'write vectors of images, texts or sounds to a file',
  'evaluate': 'measure a trained model on a data set',
  'new': 'write a project of your own to start from',
  'plan': 'estimate memory, time and cost of training, without its devices',
  'predict': 'use a trained model on images, texts or sounds',
  'report': 'print test results of runs in one table',
  'search': 'find the nearest of embedded images, texts or sounds',
  'serve': "serve a trained model by OpenAI's chat endpoint",
  'sweep': 'run many runs of a config, with values chosen by a search',
  'sweep-report': 'write the results of a sweep as one HTML file',
}

USAGE = """\
Multimodal models in JAX and Flax.

usage: mmjax COMMAND ...

{commands}

`mmjax COMMAND --help` describes a command. Training is started with
`python EXPERIMENT.py --config=FILE --workdir=FOLDER`, in a clone of mmjax also
with `python -m experiments.NAME`.

Exit codes: 0 done; 2 the command line, a config or a file is refused; 1 the
command failed while it ran; 130 Ctrl-C.
"""


def main(argv: list[str] | None = None) -> int:
  """Runs one command.

  Args:
    argv: arguments without the program's name; by default sys.argv[1:].

  Returns:
    The exit code: 0, 2 for what is refused, 1 for a failure, 130 after Ctrl-C.
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
      close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
      hint = f'; did you mean {close[0]}?' if close else ''
      print(f'mmjax: {argv[0]!r} is not a command{hint}\n', file=sys.stderr)
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
    return 128 + signal.SIGPIPE
  except (ConfigError, RunError) as error:
    return _end(argv[0], str(error), error)
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 128 + signal.SIGINT
  except Exception as error:
    # Imported here, since it takes time that other errors needn't.
    from mmjax.runs import disk

    if disk.is_full(error):
      return _end(argv[0], f'a disk is full: {error}', error)
    if not isinstance(error, OSError):
      raise
    # Of a file that the arguments lead to. Anything else is a bug, and keeps
    # its traceback.
    path = f'{error.filename}: ' if error.filename else ''
    return _end(argv[0], f'{path}{errors.reason(error)}', error)


def _end(command: str, message: str, error: Exception) -> int:
  """Prints why a command ends; returns its exit code."""
  print(f'mmjax {command}: {message}', file=sys.stderr)
  return errors.exit_code(error)


if __name__ == '__main__':
  sys.exit(main())
