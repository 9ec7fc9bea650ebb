"""A sweep started on a local SLURM, for real."""

import os
import pathlib
import subprocess
import sys

import pytest

from mmjax.sweeps import storage

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = """
def get_sweep():
  return dict(
    config='configs/contrastive_shapes.py:runlocal',
    set={
      'data.name': 'synthetic',
      'data.extra_splits': (),
      'data.image_size': 8,
      'model.text.depth': 1,
      'optimizer.warmup_steps': 0,
      'train.steps': 2,
      'train.batch_size': 8,
    },
    metric='val/retrieval/mean_r1',
    direction='maximize',
    space={'optimizer.lr': loguniform(1e-4, 1e-2)},
    sampler='random',
    trials=3,
  )
"""


@pytest.mark.slow
def test_a_job_array_on_slurm_shares_a_sweep(slurm, tmp_path):
  file, workdir = tmp_path / 'lr.py', tmp_path / 'lr'
  file.write_text(SWEEP)
  programs = tmp_path / 'venv/bin'
  programs.mkdir(parents=True)
  (programs / 'activate').write_text(
    f'PATH={pathlib.Path(sys.executable).parent}:$PATH\n'
  )
  command = [
    *('sbatch', '--array=0-1', '--gpus-per-node=0', '--cpus-per-task=1'),
    f'--output={tmp_path}/%a.out',
    f'--export=ALL,VENV={programs.parent}',
  ]
  worker = ['launch/sweep.sbatch', f'--sweep={file}', f'--workdir={workdir}']
  environment = os.environ | slurm | {'JAX_PLATFORMS': 'cpu'}
  run = {'env': environment, 'check': True, 'cwd': ROOT}
  subprocess.run([*command, '--test-only', *worker], **run)
  subprocess.run([*command, '--wait', *worker], **run)
  study = storage.load_study('journal', workdir)
  assert [t.state.name for t in study.get_trials()] == ['COMPLETE'] * 3
  for i in range(2):
    assert '3 complete' in (tmp_path / f'{i}.out').read_text()
  log = [(workdir / f'trials/{i}/log.txt').read_text() for i in range(3)]
  assert all(text.count('step 2/2') == 1 for text in log), log
