"""How the command of an experiment ends, and whose errors it shows."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import types

import pytest
import toy
from absl import flags

from mmjax.errors import ConfigError
from mmjax.parallel import hosts
from mmjax.training import main

CONFIG = pathlib.Path(toy.__file__).with_name('toy_config.py')
GOLDEN = pathlib.Path(__file__).parents[1] / 'pretrained/golden'


@pytest.fixture
def command(tmp_path, monkeypatch):
  """Runs the command in this process; its exit code."""

  def call(
    run=None,
    build=toy.build,
    config=CONFIG,
    workdir=tmp_path / 'run',
    more=(),
  ):
    values = flags.FlagValues()
    main.define(values)
    values(
      [
        'program',
        f'--config={config}',
        f'--workdir={workdir}',
        '--nokeep_memory',  # It would be for all later tests.
        *more,
      ]
    )
    monkeypatch.setattr(main.flags, 'FLAGS', values)
    monkeypatch.setattr(hosts, 'connect', lambda *_: None)
    try:
      with main.reporting():
        main._main(build, [], run)
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
  printed = capsys.readouterr().err
  assert ('interrupted; the same command' in printed) == (run is _interrupt)


@pytest.mark.parametrize(
  'steps', ['10', '3:2', '0:3', 'a:b', '-1:3', '1:2:3', '1.5:2', ':', '']
)
def test_steps_to_trace_that_are_none_are_refused(command, steps, capsys):
  assert command(more=[f'--profile_steps={steps}']) == 2
  error = capsys.readouterr().err
  assert f'error: --profile_steps={steps} is not legal; give the fir' in error


def test_a_switch_with_a_value_is_refused(monkeypatch, capsys):
  values = flags.FlagValues()
  main.define(values)
  monkeypatch.setattr(main.flags, 'FLAGS', values)
  monkeypatch.setattr(sys, 'argv', ['program', '--nokeep_memory=2'])
  with pytest.raises(SystemExit) as end:
    main.start(lambda _: None, lambda _: None)
  assert end.value.code == 2
  assert 'error: --nokeep_memory=2 does not take' in capsys.readouterr().err


def test_a_workdir_that_is_a_file_is_refused_before_the_config_is_read(
  command, tmp_path, capsys
):
  (tmp_path / 'file').touch()
  assert command(workdir=tmp_path / 'file', config='nowhere.py') == 2
  printed = capsys.readouterr().err
  assert 'file is a file' in printed and 'nowhere.py' not in printed


def _wrong_unpacking(*_, **__):
  a, b = (2, 3, 5)
  return a + b


class _Model(toy.Model):
  def __call__(self, batch, *, train):
    return _wrong_unpacking()


class _Objective(toy.Mean):
  __call__ = _wrong_unpacking


class _Data(toy.Data):
  batch = _wrong_unpacking


@pytest.mark.parametrize(
  'change',
  [
    _wrong_unpacking,
    lambda built: dataclasses.replace(built, model=_Model()),
    lambda built: dataclasses.replace(
      built, objectives={'mean': (1.0, _Objective())}
    ),
    lambda built: dataclasses.replace(built, train_data=_Data()),
  ],
  ids=['build', 'module', 'objective', 'data'],
)
def test_a_bug_keeps_its_traceback(command, change):
  with pytest.raises(ValueError, match='too many values') as raised:
    command(build=lambda config, mesh: change(toy.build(config, mesh)))
  assert not isinstance(raised.value, ConfigError)
  assert raised.traceback[-1].name == '_wrong_unpacking'


def test_a_refused_value_is_one_line(command, capsys):
  def build(config, mesh):
    raise ConfigError('image size 5 is not divisible by patch size 2; use 6')

  assert command(build=build) == 2
  assert capsys.readouterr().err == (
    'error: image size 5 is not divisible by patch size 2; use 6\n'
  )


def test_a_reader_that_is_gone_ends_the_process(monkeypatch):
  reader, writer = os.pipe()
  with os.fdopen(writer, 'w') as stream:
    monkeypatch.setattr(sys, 'stdout', stream)
    with pytest.raises(BrokenPipeError), main.reporting():
      raise BrokenPipeError  # Another pipe's, such as that of a worker.
    os.close(reader)
    with pytest.raises(SystemExit) as end, main.reporting():
      raise BrokenPipeError
  assert end.value.code == 141


def test_a_file_that_is_not_the_configs_experiment_is_refused(
  tmp_path, monkeypatch
):
  started = types.SimpleNamespace(
    __spec__=None, __file__=str(tmp_path / 'b.py'), build=None
  )
  monkeypatch.setitem(sys.modules, '__main__', started)
  (tmp_path / 'a.py').touch()
  for name in (str(tmp_path / 'a.py'), 'c.py'):
    config = types.SimpleNamespace(experiment=name)
    with pytest.raises(ConfigError, match=r'another experiment than .*b\.py'):
      main._check_experiment(config)
  main._check_experiment(types.SimpleNamespace(experiment='elsewhere.b'))


def test_an_experiment_starts_without_slow_libraries():
  code = (
    'import sys, mmjax.training.main, mmjax.training.experiment; '
    "slow = {'grain', 'tensorflow_datasets', 'orbax.checkpoint'}; "
    'sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)'
  )
  subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


@pytest.mark.parametrize(
  ('folder', 'length'), [(GOLDEN / 'clip', 9), ('someone/not_here', 36)]
)
def test_help_shows_the_config_that_a_run_would_have(
  folder, length, tmp_path, capsys
):
  path = tmp_path / 'config.py'
  path.write_text(
    'def get_config():\n'
    "  return {'model': {'name': 'dual_encoder'}, "
    f"'init_from': '{folder}', 'data': {{'text_length': 36}}}}\n"
  )
  main._print_help(['x.py', f'--config={path}', '--config.train.steps=7'])
  lines = capsys.readouterr().out.splitlines()
  starts = [line.split('  ')[1] for line in lines if line.startswith('  ')]
  assert f'data.text_length={length}' in starts and 'train.steps=7' in starts
  notes = [line for line in lines if line.startswith('init_from')]
  assert notes and ('not 36' in notes[-1]) == (length == 9)
