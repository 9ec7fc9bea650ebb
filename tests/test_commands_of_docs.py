"""The shell commands of README.md and of all pages are legal.

bash reads each block, with functions in place of the programs, so that
variables and quotes mean what they mean to a reader. What would run is then
parsed by mmjax's own parsers, and the config with its flags is checked.
"""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest
from absl import flags

from mmjax.cli import arguments
from mmjax.cli import main as cli
from mmjax.config import overrides, settings
from mmjax.sweeps import command as sweep_command
from mmjax.training import main as training_main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
  page
  for folder in (ROOT.glob('*.md'), (ROOT / 'docs').rglob('*.md'))
  for page in folder
)
# First words of the commands of a block; others begin what is printed.
PROGRAMS = (
  *('mmjax', 'python', 'pip', 'make', 'git', 'export', '.venv/bin/pip'),
  *('tensorboard', 'optuna-dashboard', 'own=(', 'clip='),
)
_FUNCTION = r"""
show() { printf '%s\x1f' "$@"; printf '\x1e'; }
for name in mmjax python python3 pip make git tensorboard optuna-dashboard \
  unzip .venv/bin/pip; do eval "$name() { show $name \"\$@\"; }"; done
source() { :; }; cd() { :; }; set -f
"""

EXPERIMENT = 'python -m experiments.'


class Parsed(Exception):
  """Raised instead of running a command whose flags are legal."""


def _blocks(page):
  """Shell blocks: fences of bash, indented ones that begin with a command."""
  text = page.read_text()
  fenced = re.findall(r'^```bash\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
  rest = re.sub(r'^ *```.*?^ *```$', '', text, flags=re.DOTALL | re.MULTILINE)
  indented = re.findall(r'(?:^\n)((?:^ {4}.*\n)+)', rest, re.MULTILINE)
  return fenced + [
    block
    for block in map(textwrap.dedent, indented)
    if block.startswith(PROGRAMS)
  ]


def _commands(page):
  """Arguments of each command of a page's blocks, as bash makes them."""
  script = _FUNCTION + '\n'.join(_blocks(page))
  # No program can be found, so nothing is executed.
  done = subprocess.run(
    ['/bin/bash', '-c', f'PATH=/nowhere\n{script}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.stderr, (page, done.stderr)
  return [line.split('\x1f')[:-1] for line in done.stdout.split('\x1e') if line]


COMMANDS = [
  pytest.param(command, id=f'{page.name}-{i}')
  for page in PAGES
  for i, command in enumerate(_commands(page))
  if command[0] == 'mmjax' or ' '.join(command).startswith(EXPERIMENT)
]


def test_there_are_commands():
  assert len(COMMANDS) >= 50


def _check_config(argv):
  """Reads a config with its flags, if it is a file of the repository."""
  rest, changes = overrides.split(argv)
  files = [a.partition('=')[2] for a in rest if a.startswith('--config=')]
  if files and (ROOT / files[0].partition(':')[0]).exists():
    config = overrides.load(files[0])
    overrides.override(config, changes)
    settings.validate(config)
  return rest


def _check_flags(argv, define):
  values = flags.FlagValues()
  define(values)
  rest = _check_config(argv)
  assert not values([a for a in rest if a != '--help'])[1:]


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_is_legal(command, monkeypatch):
  monkeypatch.chdir(ROOT)
  if command[0] == 'python':
    assert (ROOT / f'{command[2].replace(".", "/")}.py').exists()
    is_sweep = command[2] == 'experiments.sweep'
    define = sweep_command.define if is_sweep else training_main.define
    _check_flags(command[2:], define)
  elif command[:2] == ['mmjax', 'sweep']:
    _check_flags(command[1:], sweep_command.define)
  else:
    _check_config(command[2:])
    parse = arguments.Parser.parse_args

    def parse_only(*args, **kwargs):
      parse(*args, **kwargs)
      raise Parsed

    monkeypatch.setattr(arguments.Parser, 'parse_args', parse_only)
    with pytest.raises(Parsed):
      cli.main(command[1:])
