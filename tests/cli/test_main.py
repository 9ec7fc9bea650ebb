"""The `mmjax` command hands on, and turns errors into one line."""

import os
import subprocess
import sys

import pytest

import mmjax
from mmjax.cli import data, main


def test_help_names_every_command(capsys):
  assert main.main(['--help']) == 0
  output = capsys.readouterr().out
  for command in main.COMMANDS:
    assert f'  {command} ' in output


def test_version(capsys):
  assert main.main(['--version']) == 0
  assert capsys.readouterr().out.strip() == mmjax.__version__


@pytest.mark.parametrize('argv', [[], ['dance']])
def test_without_a_command_usage_is_shown(argv, capsys):
  assert main.main(argv) == 2
  error = capsys.readouterr().err
  assert 'usage: mmjax' in error
  assert ('dance' in error) == bool(argv)


def test_help_imports_nothing_heavy():
  code = (
    'import sys; from mmjax.cli import main; '
    "main.main(['--help']); "
    "heavy = {'jax', 'tensorflow_datasets', 'numpy'} & set(sys.modules); "
    'sys.exit(str(heavy) if heavy else 0)'
  )
  subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_a_closed_pipe_ends_it_quietly(tmp_path):
  read, write = os.pipe()
  os.close(read)
  command = [sys.executable, '-m', 'mmjax.cli.main', 'data', 'list']
  done = subprocess.run(
    [*command, f'--data_dir={tmp_path}'], stdout=write, stderr=subprocess.PIPE
  )
  os.close(write)
  assert done.returncode == 141
  assert done.stderr == b''


@pytest.mark.parametrize('message', ['No space left on device', 'a bug'])
def test_a_full_disk_is_one_line_and_a_bug_keeps_its_traceback(
  message, monkeypatch, capsys
):
  def fail(argv):
    raise RuntimeError(f'write() failed: {message}')

  monkeypatch.setattr(data, 'main', fail)
  if message == 'a bug':
    with pytest.raises(RuntimeError, match='a bug'):
      main.main(['data'])
    return
  assert main.main(['data']) == 1
  error = capsys.readouterr().err
  assert (
    error.startswith('mmjax data: a disk is full') and error.count('\n') == 1
  )
