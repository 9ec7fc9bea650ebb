"""Four workers on one study in a database; each trial is run once."""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time

import pytest
import trivial

from mmjax.sweeps import storage


def _program(name):
  """Where it is; Debian keeps PostgreSQL's out of the path."""
  found = [*pathlib.Path('/usr/lib/postgresql').glob(f'*/bin/{name}')]
  path = shutil.which(name) or (found and max(found))
  if not path:
    pytest.skip(f'{name} is not installed')
  return str(path)


@contextlib.contextmanager
def _folder(*users):
  """One of the server's own, and the user to run it as: root may not."""
  user = None
  if not os.getuid():
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = next((n for n in (*users, 'nobody') if n in names), None)
    if user is None:
      pytest.skip('databases do not run as root, and there is no other user')
  path = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-db-'))
  try:
    if user:
      shutil.chown(path, user)
    yield path, {'user': user, 'cwd': path, 'stdout': subprocess.DEVNULL}
  finally:
    shutil.rmtree(path)


@contextlib.contextmanager
def _postgresql():
  """The URL of a server."""
  pytest.importorskip('psycopg2', reason='psycopg2 is not installed')
  initdb, pg_ctl = _program('initdb'), _program('pg_ctl')
  with _folder('postgres') as (folder, run):
    data = str(folder / 'data')
    subprocess.run(
      [initdb, '-D', data, '-U', 'mmjax', '-A', 'trust', '-N'],
      **run,
      check=True,
    )
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    start = ['-o', options, '-l', str(folder / 'log'), '-w', 'start']
    subprocess.run([pg_ctl, '-D', data, *start], **run, check=True)
    try:
      yield f'postgresql+psycopg2://mmjax@/postgres?host={folder}'
    finally:
      subprocess.run([pg_ctl, '-D', data, '-m', 'immediate', 'stop'], **run)


@contextlib.contextmanager
def _mariadb():
  """The URL of a server, which speaks as MySQL does."""
  pymysql = pytest.importorskip('pymysql', reason='pymysql is not installed')
  install, server = _program('mariadb-install-db'), _program('mariadbd')
  with _folder('mysql') as (folder, run):
    where = ['--no-defaults', f'--datadir={folder}/data']
    method = '--auth-root-authentication-method=normal'
    subprocess.run([install, *where, method], **run, check=True)
    options = [f'--socket={folder}/socket', '--skip-networking']
    log = f'--log-error={folder}/log'
    process = subprocess.Popen([server, *where, *options, log], **run)
    try:
      end = time.time() + 60
      while time.time() < end:
        with contextlib.suppress(pymysql.err.OperationalError):
          connection = pymysql.connect(unix_socket=f'{folder}/socket')
          break
        time.sleep(0.2)
      with connection, connection.cursor() as cursor:
        cursor.execute('create database mmjax')
      yield f'mysql+pymysql://root@localhost/mmjax?unix_socket={folder}/socket'
    finally:
      process.terminate()
      process.wait()


@pytest.mark.slow
@pytest.mark.parametrize('server', [_postgresql, _mariadb])
def test_four_workers_run_each_trial_once(server, tmp_path):
  file = trivial.write(
    tmp_path,
    trials=40,
    sampler="'random'",
    pruner="'successive_halving'",
    set="{'train.steps': 2}",
  )
  with server() as url:
    workers = [trivial.start(file, tmp_path / 'lr', url) for _ in range(4)]
    for process in workers:
      process.join()
      assert process.exitcode == 0
    trials = trivial.work(file, tmp_path / 'lr', url).trials()
  states = [trial.state.name for trial in trials]
  assert set(states) == {'COMPLETE', 'PRUNED'}
  assert [trial.number for trial in trials] == list(range(40))
  folders = list((tmp_path / 'lr/trials').iterdir())
  assert len(folders) == 40
  for folder in folders:
    whole = states[int(folder.name)] == 'COMPLETE'
    assert (folder / 'steps.txt').read_text() == '1\n2\n'[: 4 if whole else 2]


def test_an_error_does_not_show_the_password(tmp_path):
  pytest.importorskip('psycopg2', reason='psycopg2 is not installed')
  url = f'postgresql+psycopg2://me:secret@/db?host={tmp_path}'
  with pytest.raises(ValueError) as caught:
    storage.open_storage(url, tmp_path)
  assert 'me:***@/db' in str(caught.value)
  assert 'secret' not in str(caught.value)
