"""A run started on a local SLURM, for real."""

import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
LAUNCH = HERE.parents[1] / 'launch'
TRAIN = HERE.parent / 'training'


@pytest.fixture
def submit(slurm, tmp_path):
  """Submits a run of two tasks; gives the job's number, its log, its folder."""
  # In place of the environment: what runs a small experiment.
  programs = tmp_path / 'venv/bin'
  programs.mkdir(parents=True)
  (programs / 'activate').write_text(f'PATH={programs}:$PATH\n')
  python = programs / 'python'
  python.write_text(
    '#!/bin/bash\n'
    'test "$1 $2" = "-m experiments.several" || exit 9\n'
    f'exec {sys.executable} {TRAIN / "several.py"} "${{@:3}}"\n'
  )
  python.chmod(0o755)
  jobs = []

  def run(*flags):
    workdir, log = tmp_path / 'run', tmp_path / 'job.out'
    command = [
      *('sbatch', '--parsable', '--nodes=1', '--ntasks-per-node=2'),
      *('--gpus-per-node=0', '--cpus-per-task=1', f'--output={log}'),
      f'--export=ALL,VENV={programs.parent},PYTHONPATH={HERE.parents[1]},'
      f'MMJAX_CACHE_DIR={tmp_path}/xla,JAX_PLATFORMS=cpu',
      LAUNCH / 'slurm.sbatch',
      *('several', f'--config={TRAIN / "several_config.py"}'),
      f'--workdir={workdir}',
      *flags,
    ]
    done = subprocess.run(
      command, env=slurm, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    jobs.append(done.stdout.strip())
    return jobs[-1], log, workdir

  yield run
  for job in jobs:
    subprocess.run(['scancel', job], env=slurm, check=False)


@pytest.mark.slow
def test_tasks_find_each_other_and_a_preempted_job_goes_on(
  slurm, submit, wait_for
):
  def shows(text):
    there = lambda: log.exists() and text in log.read_text()
    wait_for(there, text, 200)

  job, log, workdir = submit('--config.train.steps=400')
  shows('0: step 6/400')
  assert '1: step' not in log.read_text()  # Only the first process tells.
  subprocess.run(['scancel', '--signal=TERM', job], env=slurm, check=True)
  shows('the same command resumes from it')
  # It was queued again by itself. SLURM waits a while before it starts it.
  subprocess.run(['scontrol', 'release', job], env=slurm, check=False)
  shows('resuming from step')
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps == list(range(1, len(steps) + 1))
