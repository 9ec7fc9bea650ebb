"""A SLURM cluster of one node."""

import os
import shutil
import socket
import subprocess
import time

import pytest

SLURM = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'scontrol')


@pytest.fixture
def wait_for():
  """Waits until `ready()` is true, for at most so many seconds."""

  def wait(ready, what, seconds=60):
    until = time.monotonic() + seconds
    while not ready():
      assert time.monotonic() < until, f'waited {seconds} s for {what}'
      time.sleep(0.2)

  return wait


@pytest.fixture
def slurm(tmp_path, wait_for):
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
AuthInfo=socket={sock},cred_expire=20
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
        wait_for(sock.exists, 'munged')
    ready = ['sinfo', '-h', '-t', 'idle', '-o', '%D']
    wait_for(
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
