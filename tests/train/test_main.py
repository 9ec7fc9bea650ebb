"""How the command of an experiment ends."""

import pathlib

import pytest
import toy
from absl import flags

from mmjax.parallel import hosts
from mmjax.train import main

CONFIG = pathlib.Path(toy.__file__).with_name('toy_config.py')


@pytest.fixture
def command(tmp_path, monkeypatch):
  """Runs the command in this process; its exit code."""

  def call(run, workdir=tmp_path / 'run', config=CONFIG):
    values = flags.FlagValues()
    flags.DEFINE_integer('verbosity', -1, '', flag_values=values)
    main._define(values)
    values(['program', f'--config={config}', f'--workdir={workdir}'])
    monkeypatch.setattr(main.flags, 'FLAGS', values)
    monkeypatch.setattr(hosts, 'connect', lambda *_: None)
    try:
      main._main(['program'], toy.build, [], run)
    except SystemExit as end:
      return end.code
    return 0

  return call


def _interrupt(*_):
  raise KeyboardInterrupt


@pytest.mark.parametrize(
  'run, code',
  [
    (lambda *_: {'step': 3}, 0),
    (lambda *_: {}, 130),  # Ctrl-C, and all is saved.
    (_interrupt, 130),  # Ctrl-C before the first step, or the second one.
  ],
)
def test_exit_codes(command, run, code, capsys):
  assert command(run) == code
  said = capsys.readouterr().err
  assert ('interrupted; the same command' in said) == (run is _interrupt)


def test_a_workdir_that_is_a_file_is_refused_before_the_config_is_read(
  command, tmp_path, capsys
):
  (tmp_path / 'file').touch()
  assert command(None, workdir=tmp_path / 'file', config='nowhere.py') == 2
  said = capsys.readouterr().err
  assert 'file is a file' in said and 'nowhere.py' not in said
