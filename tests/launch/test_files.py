"""The launch files are legal, as far as that can be told without a cluster."""

import pathlib
import subprocess

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
SCRIPTS = ('slurm.sbatch', 'sweep.sbatch', 'sweep_tpu_vm.sh', 'tpu_vm.sh')


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_bash(name):
  subprocess.run(['bash', '-n', LAUNCH / name], check=True)


@pytest.mark.parametrize(
  'name, command',
  [
    ('gke_tpu.yaml', 'python -m experiments.contrastive --config=configs/'),
    ('sweep_gke_tpu.yaml', 'python -m experiments.sweep --sweep=configs/'),
  ],
)
def test_the_jobs_of_jobsets_fit_their_schema(name, command):
  validate = pytest.importorskip(
    'kubernetes_validate', reason='kubernetes-validate is not installed'
  ).validate
  jobset = yaml.safe_load((LAUNCH / name).read_text())
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
  assert command in ' '.join(container['command'])
