"""The scripts for TPU VMs, with programs in place of gcloud and the hosts."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
# A slice of two hosts, which are folders and run what they are told here.
GCLOUD = """#!/bin/bash
set -eu
shift 3
verb=$1 name=$2 source=$2
[ "$verb" != scp ] || name=${3%%:*}
echo "$verb" "${@:2}" >>"$CLOUD/calls"
slice=$CLOUD/$name
case $verb in
  describe) cat "$slice/state" ;;
  create) mkdir -p "$slice"/{0,1} && echo READY >"$slice/state" ;;
  delete) rm -r "$slice" ;;
  scp) for i in 0 1; do cp "$source" "$slice/$i/${3#*:}"; done ;;
  ssh)
    hosts=0 command=
    for flag; do
      case $flag in
        --worker=all) hosts='0 1' ;;
        --command=*) command=${flag#--command=} ;;
      esac
    done
    for i in $hosts; do
      (cd "$slice/$i" && HOME=$PWD bash -c "$command")
    done
    ;;
esac
"""
UV = """#!/bin/bash
echo "uv $*" >>"$CLOUD/calls"
[ "$1" != venv ] || { mkdir -p .venv/bin && cp "$CLOUD/run" .venv/bin/python; }
"""
RUN = """#!/bin/bash
trap 'echo saved; exit 143' TERM
printf '<%s>' "$@"
echo
for ((i = 0; i < 600; i++)); do sleep 0.1; done
"""


class Cloud:
  """What the scripts act on, and what they did."""

  def __init__(self, folder):
    self.folder, self.clone = folder / 'cloud', folder / 'clone'
    programs = folder / 'bin'
    for path in (self.folder, programs, self.clone):
      path.mkdir()
    texts = {'gcloud': GCLOUD, 'uv': UV, 'mountpoint': '#!/bin/bash\n'}
    for name, text in texts.items():
      (programs / name).write_text(text)
      (programs / name).chmod(0o755)
    (self.folder / 'run').write_text(RUN)
    (self.folder / 'run').chmod(0o755)
    self.environment = os.environ | {
      'CLOUD': str(self.folder),
      'PATH': f'{programs}:{os.environ["PATH"]}',
      'NAME': 'c1',
      'ZONE': 'here',
      'TYPE': 'v5litepod-8',
      'SHARE': 'a:/b',
    }
    (self.clone / 'launch').mkdir()
    for name in ('tpu_vm.sh', 'sweep_tpu_vm.sh'):
      shutil.copy(LAUNCH / name, self.clone / 'launch')
    (self.clone / '.gitignore').write_text('runs/\n')
    self._git('init', '--quiet')
    self._git('add', '.')
    self._git('commit', '--quiet', '--message=All')

  def _git(self, *arguments):
    who = ('-c', 'user.name=a', '-c', 'user.email=a@b')
    subprocess.run(['git', *who, *arguments], cwd=self.clone, check=True)

  def run(self, script, *flags, **environment):
    return subprocess.run(
      [self.clone / 'launch' / script, *flags],
      env=self.environment | environment,
      capture_output=True,
      text=True,
    )

  def calls(self):
    """What was called since the last time."""
    file = self.folder / 'calls'
    lines = file.read_text().splitlines() if file.exists() else []
    file.write_text('')
    first = ('create', 'delete', 'describe', 'scp', 'ssh', 'uv')
    return [line for line in lines if line.startswith(first)]

  def verbs(self):
    return [line.split()[0] for line in self.calls() if line[:2] != 'uv']

  def log(self, name, host):
    return self.folder / name / str(host) / 'mmjax.log'


@pytest.fixture
def cloud(tmp_path):
  cloud = Cloud(tmp_path)
  yield cloud
  for file in cloud.folder.glob('*/*/mmjax.pid'):
    with contextlib.suppress(ProcessLookupError):
      os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_run_stays_is_not_started_twice_and_goes_on(cloud, wait_for):
  line = ('tpu_vm.sh', 'vqa', '--config=c.py', '--config.a=(\'b c\', "d")')
  done = cloud.run(*line)
  assert done.returncode == 0, done.stderr
  calls = cloud.calls()
  verbs = [call.split()[0] for call in calls if call[:2] != 'uv']
  assert verbs == ['describe', 'create', 'ssh', 'scp', 'ssh']
  assert 'uv venv --quiet --clear --python=3.12' in calls
  assert any(call.endswith('-e .[tpu]') for call in calls)
  ran = '<-m><experiments.vqa><--config=c.py><--config.a=(\'b c\', "d")>\n'
  logs = [cloud.log('c1', host) for host in (0, 1)]
  for log in logs:
    wait_for(lambda log=log: log.read_text() == ran, log, 10)
    assert (log.parent / 'mmjax/launch/tpu_vm.sh').exists()

  done = cloud.run(*line)
  assert done.returncode == 0, done.stderr
  assert 'Started nothing, since c1 is running: vqa' in done.stdout
  assert cloud.verbs() == ['describe', 'ssh']
  done = cloud.run('tpu_vm.sh', 'vqa', '--config=another.py')
  assert done.returncode == 1
  assert 'Started nothing' in done.stdout
  cloud.calls()

  stop = done.stdout.split('To stop it:')[1]
  subprocess.run(['bash', '-c', stop], env=cloud.environment, check=True)
  wait_for(lambda: logs[0].read_text() == f'{ran}saved\n', 'the end', 10)
  assert 'saved' not in logs[1].read_text()  # What mmjax does: end both.
  again = cloud.run(*line)
  assert 'Started nothing' in again.stdout  # While the other one runs.
  os.kill(int((logs[1].parent / 'mmjax.pid').read_text()), signal.SIGKILL)
  cloud.calls()

  def started():
    return 'Started on all hosts' in cloud.run(*line).stdout

  wait_for(started, 'the lock', 10)
  assert 'create' not in cloud.verbs()
  for log, text in zip(logs, (f'{ran}saved\n{ran}', ran + ran), strict=True):
    wait_for(lambda log=log, text=text: log.read_text() == text, log, 10)


def test_what_is_not_committed_is_refused(cloud):
  (cloud.clone / 'new_sweep.py').write_text('')
  (cloud.clone / '.gitignore').write_text('runs/\n*.tmp\n')
  (cloud.clone / 'ignored.tmp').write_text('')
  done = cloud.run('tpu_vm.sh', 'vqa')
  assert done.returncode == 1
  assert '?? new_sweep.py' in done.stderr
  assert ' M .gitignore' in done.stderr
  assert 'ignored.tmp' not in done.stderr
  assert cloud.calls() == []


@pytest.mark.parametrize(
  'kind, version',
  [
    ('v4-8', 'tpu-ubuntu2204-base'),
    ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
    ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-8', 'v2-alpha-tpuv6e'),
  ],
)
def test_a_lost_slice_is_made_again_with_software_for_its_type(
  cloud, kind, version
):
  (cloud.folder / 'c1').mkdir()
  (cloud.folder / 'c1/state').write_text('PREEMPTED')
  done = cloud.run('tpu_vm.sh', 'vqa', TYPE=kind)
  assert done.returncode == 0, done.stderr
  assert cloud.calls()[1:3] == [
    'delete c1 --zone=here --quiet',
    f'create c1 --zone=here --accelerator-type={kind} --version={version}',
  ]


def test_of_an_unknown_type_the_version_is_asked(cloud):
  done = cloud.run('tpu_vm.sh', 'vqa', TYPE='v9-8')
  assert done.returncode != 0
  assert 'VERSION: of the software for TYPE=v9-8' in done.stderr
  done = cloud.run('tpu_vm.sh', 'vqa', TYPE='v9-8', VERSION='mine')
  assert done.returncode == 0, done.stderr
  assert cloud.calls()[1].endswith('--version=mine')


def test_a_slice_that_is_not_ready_is_left_alone(cloud):
  (cloud.folder / 'c1').mkdir()
  (cloud.folder / 'c1/state').write_text('CREATING')
  done = cloud.run('tpu_vm.sh', 'vqa')
  assert done.returncode == 1
  assert 'c1 is CREATING' in done.stderr
  assert cloud.verbs() == ['describe']


def test_each_slice_of_a_sweep_is_a_worker(cloud, wait_for):
  line = ('sweep_tpu_vm.sh', '--sweep=s.py', '--workdir=/shared/lr')
  done = cloud.run(*line, SLICES='2', NAME='lr')
  assert done.returncode == 0, done.stderr
  assert any(call.endswith('-e .[tpu,sweep]') for call in cloud.calls())
  ran = '<-m><experiments.sweep><--sweep=s.py><--workdir=/shared/lr>\n'
  for name in ('lr-0', 'lr-1'):
    log = cloud.log(name, 1)
    wait_for(lambda log=log: log.read_text() == ran, log, 10)
    assert f'ssh {name} ' in (cloud.clone / f'runs/{name}.log').read_text()

  # The same line makes what was lost and leaves the others alone.
  for host in (0, 1):
    file = cloud.log('lr-1', host).with_name('mmjax.pid')
    os.kill(int(file.read_text()), signal.SIGKILL)
  (cloud.folder / 'lr-1/state').write_text('PREEMPTED')
  done = cloud.run(*line, SLICES='2', NAME='lr')
  assert done.returncode == 0, done.stderr
  made = [call for call in cloud.calls() if call.startswith('create')]
  assert len(made) == 1
  assert made[0].startswith('create lr-1 ')
  assert 'Started nothing' in (cloud.clone / 'runs/lr-0.log').read_text()


def test_a_worker_that_was_not_started_is_told(cloud):
  (cloud.folder / 'lr-1').mkdir()
  (cloud.folder / 'lr-1/state').write_text('CREATING')
  done = cloud.run('sweep_tpu_vm.sh', '--sweep=s.py', SLICES='2', NAME='lr')
  assert done.returncode == 1
  assert 'worker 0 is running' in done.stdout
  assert 'worker 1 was not started' in done.stderr
  assert 'lr-1 is CREATING' in done.stderr
