"""What the batch scripts start, with programs in place of SLURM's."""

import os
import pathlib
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
NODE = {
  'SLURM_JOB_ID': '7',
  'SLURM_ARRAY_JOB_ID': '7',
  'SLURM_ARRAY_TASK_ID': '3',
  'SLURM_CPUS_PER_TASK': '5',
  'SLURM_NTASKS_PER_NODE': '8',
  'SLURM_GPUS_PER_NODE': '8',
}
SCRIPTS = pytest.mark.parametrize(
  'script, flags, job',
  [
    ('slurm.sbatch', ['vqa', '--config=a b.py'], '7'),
    ('sweep.sbatch', ['--sweep=a b.py'], '7_3'),
  ],
)


@pytest.fixture
def run(tmp_path):
  """Runs a script on a node; gives what it did and what it called."""
  called = tmp_path / 'called'
  texts = {
    'activate': f'PATH={tmp_path}/bin:$PATH\n',
    'srun': (
      '#!/bin/bash\n'
      f'echo "srun $SRUN_CPUS_PER_TASK <${{*: -1}}>" >>{called}\n'
      'exit "$CODE"\n'
    ),
    'scontrol': f'#!/bin/bash\necho "scontrol $*" >>{called}\n',
  }
  (tmp_path / 'bin').mkdir()
  for name, text in texts.items():
    (tmp_path / 'bin' / name).write_text(text)
    (tmp_path / 'bin' / name).chmod(0o755)

  def run(script, flags, code=0, **node):
    done = subprocess.run(
      ['bash', LAUNCH / script, *flags],
      env=os.environ | NODE | {'VENV': str(tmp_path), 'CODE': str(code)} | node,
      capture_output=True,
      text=True,
    )
    return done, called.read_text().splitlines() if called.exists() else []

  return run


@SCRIPTS
def test_tasks_have_their_cores_and_a_saved_run_is_queued_again(
  run, script, flags, job
):
  started = f'srun 5 <{flags[-1]}>'
  done, called = run(script, flags)
  assert (done.returncode, called) == (0, [started]), done.stderr
  done, called = run(script, flags, code=2)
  assert (done.returncode, called[1:]) == (2, [started])
  done, called = run(script, flags, code=143)
  assert done.returncode == 143
  assert called[2:] == [started, f'scontrol requeue {job}']


@SCRIPTS
@pytest.mark.parametrize('gpus', ['8', 'a100:8'])
def test_gpus_that_no_task_would_use_are_refused(run, script, flags, job, gpus):
  done, called = run(script, flags, SLURM_GPUS_PER_NODE=gpus)
  assert (done.returncode, len(called)) == (0, 1)
  node = {'SLURM_NTASKS_PER_NODE': '1', 'SLURM_GPUS_PER_NODE': gpus}
  done, called = run(script, flags, **node)
  assert (done.returncode, len(called)) == (2, 1)
  assert '--gpus-per-node=8, but --ntasks-per-node=1' in done.stderr
  done, _ = run(script, flags, **node | {'SLURM_GPUS_PER_NODE': '0'})
  assert done.returncode == 0  # On CPUs.


def test_workers_of_a_node_share_its_gpus_out(run):
  flags = ['--sweep=a.py', '--workers=8']
  done, called = run('sweep.sbatch', flags, SLURM_NTASKS_PER_NODE='1')
  assert (done.returncode, len(called)) == (0, 1), done.stderr
