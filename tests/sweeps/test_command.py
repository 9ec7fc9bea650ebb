"""What the command does around the trials."""

import signal
import sys

import pytest
import toy
import trivial
from absl import flags

from mmjax.errors import ConfigError
from mmjax.sweeps import command, load, local
from mmjax.sweeps import study as study_lib


def _values(tmp_path, **more):
  defaults = {
    'workdir': str(tmp_path / 'lr'),
  }
  values = flags.FlagValues()
  command.define(values)
  values(['sweep', *(f'--{n}={v}' for n, v in (defaults | more).items())])
  return values


def _no_data(config, mesh):
  raise ConfigError(f'{config.data.data_dir}/toy is not there')


def _refusing(config, mesh):
  if config.optimizer.lr > 1e-2:
    raise ConfigError('too high')
  return toy.build(config, mesh)


def _study(file, tmp_path):
  return study_lib.Study(load.load(file), 'journal', tmp_path / 'lr')


def _states(study):
  return [trial.state.name for trial in study.trials()]


def test_a_worker_without_the_data_touches_no_trial(tmp_path):
  file = trivial.write(tmp_path)
  study = _study(file, tmp_path)
  overrides = [('data.data_dir', '/nowhere')]
  loaded = load.load(file, overrides)
  with pytest.raises(ConfigError, match='/nowhere/toy is not there'):
    command._run_here(loaded, _values(tmp_path), lambda name: _no_data)
  assert _states(study) == []
  assert not (tmp_path / 'lr/trials').exists()


def test_a_sweep_that_was_refused_leaves_no_study(tmp_path):
  loaded = load.load(trivial.write(tmp_path))
  with pytest.raises(ConfigError, match='too high'):
    command._run_here(loaded, _values(tmp_path), lambda name: _refusing)
  file = trivial.write(
    tmp_path, trials=2, space="{'optimizer.lr': loguniform(1e-4, 1e-3)}"
  )
  assert _study(file, tmp_path).take() is not None


@pytest.fixture
def ending(tmp_path, monkeypatch):
  """Workers that end with 3 as soon as they are started."""
  python = tmp_path / 'python'
  python.write_text('#!/bin/sh\nexit 3\n')
  python.chmod(0o755)
  monkeypatch.setattr(sys, 'executable', str(python))
  monkeypatch.setattr(local, 'probe', lambda: ('gpu', 2))
  handled = {}
  monkeypatch.setattr(signal, 'signal', handled.__setitem__)
  return handled


def test_a_worker_that_ended_early_is_named(tmp_path, ending, capsys):
  file = trivial.write(tmp_path)
  _study(file, tmp_path)
  with pytest.raises(SystemExit, match='1'):
    command._run_many(load.load(file), _values(tmp_path, workers=2), [])
  said = capsys.readouterr().out
  for i in range(2):
    log = tmp_path / f'lr/workers/{i}.log'
    assert f'worker {i} ended with 3; see {log}' in said


@pytest.mark.parametrize(
  'number, code',
  [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
)
def test_a_signal_to_many_workers_is_their_exit_code(
  tmp_path, ending, monkeypatch, number, code
):
  file = trivial.write(tmp_path)
  _study(file, tmp_path)
  monkeypatch.setattr(signal, 'getsignal', lambda number: signal.SIG_DFL)
  monkeypatch.setattr(
    local.Workers, 'wait', lambda *_: ending[number](number, None) or [0, 0]
  )
  with pytest.raises(SystemExit, match=str(code)):
    command._run_many(load.load(file), _values(tmp_path, workers=2), [])


def test_a_lost_terminal_is_ignored_under_nohup(tmp_path, ending, monkeypatch):
  monkeypatch.setattr(signal, 'getsignal', lambda number: signal.SIG_IGN)
  file = trivial.write(tmp_path)
  _study(file, tmp_path)
  with pytest.raises(SystemExit):
    command._run_many(load.load(file), _values(tmp_path, workers=2), [])
  assert not ending


@pytest.fixture
def main(tmp_path, monkeypatch):
  """Runs the command's flags in this process; what it starts."""

  def run(*argv):
    started = []
    for name in ('_run_many', '_run_here'):
      start = lambda *_, name=name: started.append(name) or run.done
      monkeypatch.setattr(command, name, start)
    values = flags.FlagValues()
    flags.DEFINE_integer('verbosity', -1, '', flag_values=values)
    command.define(values)
    monkeypatch.setattr(command.flags, 'FLAGS', values)
    monkeypatch.setattr(command.hosts, 'connect', lambda *_: None)
    values(['sweep', f'--sweep={trivial.write(tmp_path)}', *argv])
    try:
      with command.main.reporting():
        command._main([], lambda name: toy.build)
      run.code = 0
    except SystemExit as end:
      run.code = end.code
    return started

  run.done = True
  return run


def test_a_check_needs_no_folder(main, capsys):
  main()
  assert '--workdir is missing' in capsys.readouterr().err
  main('--check')
  assert '6 trials, no errors' in capsys.readouterr().out


def test_a_worker_watches_the_process_that_started_it(
  main, tmp_path, monkeypatch
):
  watched = []
  monkeypatch.setattr(local, 'end_with_input', lambda: watched.append(True))
  main(f'--workdir={tmp_path}')
  assert not watched
  main(f'--workdir={tmp_path}', '--ends_with_input')
  assert watched


def test_a_worker_that_ctrl_c_stopped_ends_with_130(main, tmp_path, capsys):
  main(f'--workdir={tmp_path}')
  assert main.code == 0
  main.done = False
  main(f'--workdir={tmp_path}')
  assert main.code == 130
  assert 'the same command resumes the sweep' in capsys.readouterr().out


def test_a_folder_that_is_a_file_is_refused(main, tmp_path, capsys):
  (tmp_path / 'file').touch()
  assert not main(f'--workdir={tmp_path}/file/lr')
  assert main.code == 2
  assert 'lies in' in capsys.readouterr().err


def test_processes_of_a_machine_are_not_hosts(tmp_path):
  loaded = load.load(trivial.write(tmp_path))
  for host in ({'coordinator': 'a:1'}, {'process_id': 0}):
    values = _values(tmp_path, workers=2, **host)
    with pytest.raises(ConfigError, match='are for a trial on several hosts'):
      command._run_many(loaded, values, [])
