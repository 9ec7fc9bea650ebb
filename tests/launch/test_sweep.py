"""A sweep started on a local SLURM, for real."""

import pathlib
import subprocess
import sys

import pytest
import trivial

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'


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
