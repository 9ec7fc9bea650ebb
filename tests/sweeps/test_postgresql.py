"""Four workers on one study in PostgreSQL; each trial is run once."""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import pytest
import trivial

from mmjax.sweeps import storage

pytest.importorskip('psycopg2', reason='psycopg2 is not installed')


def _programs():
  """Where PostgreSQL's are; Debian keeps them out of the path."""
  found = shutil.which('initdb')
  folders = [pathlib.Path(found).parent] if found else []
  folders += sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'))
  return folders[-1] if folders else None


def _user():
  """Whom the server runs as: root may not."""
  if os.getuid():
    return None
  names = {entry.pw_name for entry in pwd.getpwall()}
  return next((n for n in ('postgres', 'nobody') if n in names), None)


@pytest.fixture(scope='module')
def server():
  """The URL of a server that is there for these tests only."""
  programs, user = _programs(), _user()
  if programs is None:
    pytest.skip('PostgreSQL is not installed (initdb)')
  if not os.getuid() and user is None:
    pytest.skip('PostgreSQL does not run as root, and there is no other user')
  folder = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-pg-'))
  if user:
    shutil.chown(folder, user)
  data = folder / 'data'
  run = {'check': True, 'user': user, 'cwd': folder}
  quiet = {'stdout': subprocess.DEVNULL}
  initdb = [programs / 'initdb', '-D', data, '-U', 'mmjax', '-A', 'trust', '-N']
  subprocess.run([*map(str, initdb)], **run, **quiet)
  options = f"-c listen_addresses='' -k {folder} -c fsync=off"
  start = ['-D', data, '-o', options, '-l', folder / 'log', '-w', 'start']
  pg_ctl = str(programs / 'pg_ctl')
  subprocess.run([pg_ctl, *map(str, start)], **run, **quiet)
  try:
    yield f'postgresql+psycopg2://mmjax@/postgres?host={folder}'
  finally:
    with contextlib.suppress(subprocess.CalledProcessError):
      stop = ['-D', str(data), '-m', 'immediate', 'stop']
      subprocess.run([pg_ctl, *stop], **run, **quiet)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_four_workers_run_each_trial_once(server, tmp_path):
  file = trivial.write(
    tmp_path,
    trials=40,
    sampler="'random'",
    set="{'train.steps': 1, 'train.eval_every': 0}",
  )
  command = [sys.executable, trivial.__file__, file, tmp_path / 'lr', server, 0]
  workers = [subprocess.Popen([*map(str, command)]) for _ in range(4)]
  assert [worker.wait() for worker in workers] == [0] * 4
  study = trivial.work(file, tmp_path / 'lr', server)
  assert [t.state.name for t in study.trials()] == ['COMPLETE'] * 40
  assert [t.number for t in study.trials()] == list(range(40))
  folders = list((tmp_path / 'lr/trials').iterdir())
  assert len(folders) == 40
  for folder in folders:
    assert (folder / 'steps.txt').read_text() == '1\n'


def test_an_unreachable_server_is_told_without_its_password(tmp_path):
  url = f'postgresql+psycopg2://me:secret@/db?host={tmp_path}'
  with pytest.raises(ValueError) as caught:
    storage.open_storage(url, tmp_path)
  assert 'me:***@/db' in str(caught.value)
  assert 'secret' not in str(caught.value)
