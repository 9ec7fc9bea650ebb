"""The launch files of sweeps: legal, and on a local SLURM run for real."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import pytest
import trivial
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
SLURM = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'scontrol')


@pytest.mark.parametrize('name', ['sweep.sbatch', 'sweep_tpu_vm.sh'])
def test_scripts_are_bash(name):
  subprocess.run(['bash', '-n', LAUNCH / name], check=True)


def test_the_jobs_of_the_jobset_fit_their_schema():
  validate = pytest.importorskip(
    'kubernetes_validate', reason='kubernetes-validate is not installed'
  ).validate
  jobset = yaml.safe_load((LAUNCH / 'sweep_gke_tpu.yaml').read_text())
  assert jobset['kind'] == 'JobSet'
  (slices,) = jobset['spec']['replicatedJobs']
  job = {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': {'name': slices['name']},
    **slices['template'],
  }
  validate(job, '1.31', strict=True)
  (container,) = job['spec']['template']['spec']['containers']
  command = ' '.join(container['command'])
  assert 'python -m experiments.sweep --sweep=configs/sweeps/' in command


@pytest.fixture
def slurm(tmp_path):
  """The environment of a cluster of one node, which is this machine."""
  missing = [p for p in SLURM if shutil.which(p) is None]
  if missing:
    pytest.skip(f'SLURM is not installed ({", ".join(missing)})')
  if os.getuid():
    pytest.skip('slurmctld and slurmd are started as root here')
  key, sock = tmp_path / 'munge.key', tmp_path / 'munge.sock'
  key.write_bytes(os.urandom(1024))
  key.chmod(0o600)
  host = socket.gethostname()
  ports = []
  for _ in range(2):
    with socket.socket() as free:
      free.bind(('localhost', 0))
      ports.append(free.getsockname()[1])
  for folder in ('state', 'spool'):
    (tmp_path / folder).mkdir()
  conf = tmp_path / 'slurm.conf'
  conf.write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={sock}
CredType=cred/munge
StateSaveLocation={tmp_path}/state
SlurmdSpoolDir={tmp_path}/spool
SlurmctldPidFile={tmp_path}/slurmctld.pid
SlurmdPidFile={tmp_path}/slurmd.pid
SlurmctldLogFile={tmp_path}/slurmctld.log
SlurmdLogFile={tmp_path}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")
  environment = os.environ | {'SLURM_CONF': str(conf)}
  munged = [
    *('munged', '--foreground', '--force', f'--socket={sock}'),
    *(f'--key-file={key}', f'--pid-file={tmp_path}/munged.pid'),
    *(f'--log-file={tmp_path}/munged.log', f'--seed-file={tmp_path}/seed'),
  ]
  daemons = []
  try:
    for command in (munged, ['slurmctld', '-D'], ['slurmd', '-D']):
      daemons.append(
        subprocess.Popen(
          command,
          env=environment,
          stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL,
        )
      )
      if command is munged:
        _wait(sock.exists, 'munged')
    ready = ['sinfo', '-h', '-t', 'idle', '-o', '%D']
    _wait(
      lambda: (
        subprocess.run(
          ready, env=environment, capture_output=True, text=True
        ).stdout.strip()
        == '1'
      ),
      f'an idle node; see {tmp_path}/slurm*.log',
    )
    yield environment
  finally:
    for daemon in reversed(daemons):
      daemon.terminate()
      daemon.wait()


def _wait(ready, what, seconds=60):
  until = time.monotonic() + seconds
  while not ready():
    assert time.monotonic() < until, f'waited {seconds} s for {what}'
    time.sleep(0.2)


@pytest.mark.slow
def test_a_job_array_on_slurm_shares_a_sweep(slurm, tmp_path):
  file, workdir = trivial.write(tmp_path), tmp_path / 'lr'
  # In place of the environment: what runs the same worker on trivial trials.
  programs = tmp_path / 'venv/bin'
  programs.mkdir(parents=True)
  (programs / 'activate').write_text(f'PATH={programs}:$PATH\n')
  python = programs / 'python'
  python.write_text(
    '#!/bin/bash\n'
    'test "$1 $2" = "-m experiments.sweep" || exit 9\n'
    f'exec {sys.executable} {trivial.__file__} ${{3#--sweep=}} '
    '${4#--workdir=} journal 0.02\n'
  )
  python.chmod(0o755)
  command = [
    *('sbatch', '--array=0-1', '--gpus-per-node=0', '--cpus-per-task=1'),
    f'--output={tmp_path}/%a.out',
    f'--export=ALL,VENV={programs.parent}',
  ]
  worker = [
    str(LAUNCH / 'sweep.sbatch'),
    f'--sweep={file}',
    f'--workdir={workdir}',
  ]
  run = {'env': slurm, 'check': True, 'cwd': tmp_path}
  subprocess.run([*command, '--test-only', *worker], **run)
  subprocess.run([*command, '--wait', *worker], **run)
  study = trivial.work(file, workdir)
  assert [t.state.name for t in study.trials()] == ['COMPLETE'] * 6
  for folder in (workdir / 'trials').iterdir():
    steps = (folder / 'steps.txt').read_text().split()
    assert steps == [str(i) for i in range(1, 10)]
