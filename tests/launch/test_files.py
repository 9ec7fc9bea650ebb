"""The launch files are legal, as far as that can be told without a cluster."""

import pathlib
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml

HERE = pathlib.Path(__file__).parent
LAUNCH = HERE.parents[1] / 'launch'
SCRIPTS = ('slurm.sbatch', 'sweep.sbatch', 'sweep_tpu_vm.sh', 'tpu_vm.sh')
JOBSETS = ('gke_tpu.yaml', 'sweep_gke_tpu.yaml')


@pytest.mark.parametrize('name', SCRIPTS)
def test_shellcheck_has_nothing_to_say(name):
  program = pathlib.Path(sys.executable).with_name('shellcheck')
  subprocess.run([program, LAUNCH / name], check=True)


@pytest.mark.parametrize('name', (*SCRIPTS, *JOBSETS))
def test_lines_fit_a_terminal(name):
  lines = (LAUNCH / name).read_text().splitlines()
  assert [line for line in lines if len(line) > 80] == []


def _read(name):
  return yaml.safe_load((LAUNCH / name).read_text())


def _validate(jobset):
  schema = yaml.safe_load((HERE / 'jobset.yaml').read_text())
  jsonschema.validate(jobset, schema)
  (slices,) = jobset['spec']['replicatedJobs']
  job = {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': {'name': slices['name']},
    **slices['template'],
  }
  kubernetes_validate.validate(job, '1.31', strict=True)
  return job['spec']


@pytest.mark.parametrize(
  'name, command',
  [
    ('gke_tpu.yaml', 'python -m experiments.contrastive --config=configs/'),
    ('sweep_gke_tpu.yaml', 'python -m experiments.sweep --sweep=configs/'),
  ],
)
def test_jobsets_and_their_jobs_fit_their_schemas(name, command):
  job = _validate(_read(name))
  (container,) = job['template']['spec']['containers']
  assert command in ' '.join(container['command'])
  # A policy for pods asks for this, and for the container's name.
  assert job['template']['spec']['restartPolicy'] == 'Never'
  for rule in job['podFailurePolicy']['rules']:
    codes = rule.get('onExitCodes', {'containerName': container['name']})
    assert codes['containerName'] == container['name']


@pytest.mark.parametrize('name', JOBSETS)
@pytest.mark.parametrize(
  'where, field',
  [
    (('metadata',), 'annotation'),
    (('spec',), 'failurepolicy'),
    (('spec', 'failurePolicy'), 'maxRestart'),
    (('spec', 'failurePolicy', 'rules', 0), 'onJobFailureReason'),
    (('spec', 'replicatedJobs', 0), 'replica'),
    (('spec', 'replicatedJobs', 0, 'template', 'spec'), 'backOffLimit'),
  ],
)
def test_a_field_that_is_not_there_is_found(name, where, field):
  jobset = _read(name)
  inner = jobset
  for key in where:
    inner = inner[key]
  inner[field] = 1
  errors = jsonschema.ValidationError, kubernetes_validate.ValidationError
  with pytest.raises(errors, match=field):
    _validate(jobset)


def _pods_rule(job, code, disrupted):
  """What a Job does about a pod that failed, and what it says if it fails."""
  for i, rule in enumerate(job['podFailurePolicy']['rules']):
    codes = rule.get('onExitCodes')
    if code in codes['values'] if codes else disrupted:
      said = f'failed with exit code {code}' if codes else 'has condition'
      return rule['action'], f'Pod a {said} matching FailJob rule at index {i}'
  return 'Count', ''


def _outcome(jobset, code=None, disrupted=False):
  """What comes of a pod's end: Ignore and Count leave it to the Job."""
  (slices,) = jobset['spec']['replicatedJobs']
  job = slices['template']['spec']
  action, message = _pods_rule(job, code, disrupted)
  if action == 'FailJob':
    reason = 'PodFailurePolicy'
  elif action == 'Count' and not job['backoffLimit']:
    reason = 'BackoffLimitExceeded'
  else:
    return action
  for rule in jobset['spec']['failurePolicy']['rules']:
    patterns = rule.get('onJobFailureMessagePatterns', [''])
    if reason in rule['onJobFailureReasons'] and any(
      re.search(pattern, message) for pattern in patterns
    ):
      return rule['action']
  return 'RestartJobSet'


LOST, SAVED, WRONG, FAILED, KILLED = 134, 143, 2, 1, 137


def test_a_job_starts_again_unless_its_command_is_wrong():
  jobset = _read('gke_tpu.yaml')
  unlimited = 'RestartJobSetAndIgnoreMaxRestarts'
  assert _outcome(jobset, disrupted=True) == unlimited
  assert _outcome(jobset, LOST) == unlimited
  assert _outcome(jobset, SAVED) == unlimited
  assert _outcome(jobset, WRONG) == 'FailJobSet'
  assert _outcome(jobset, FAILED) == 'RestartJobSet'
  assert _outcome(jobset, KILLED) == 'RestartJobSet'


def test_a_slice_of_a_sweep_starts_again_by_itself():
  jobset = _read('sweep_gke_tpu.yaml')
  assert _outcome(jobset, disrupted=True) == 'Ignore'
  assert _outcome(jobset, LOST) == 'Ignore'
  assert _outcome(jobset, SAVED) == 'Ignore'
  assert _outcome(jobset, WRONG) == 'FailJobSet'
  assert _outcome(jobset, FAILED) == 'Count'
  assert _outcome(jobset, KILLED) == 'Count'


@pytest.mark.parametrize('name', JOBSETS)
def test_the_commands_above_a_jobset_can_be_pasted(name):
  lines = (LAUNCH / name).read_text().splitlines()
  commands = '\n'.join(line[1:] for line in lines if line.startswith('#   '))
  shell = f'kubectl() {{ printf "%s\\n" "$@"; }}\n{commands}'
  done = subprocess.run(
    ['bash', '-eu', '-c', shell], capture_output=True, text=True, check=True
  )
  labels = (
    f'job-name={_read(name)["metadata"]["name"]}-slice-0,'
    'batch.kubernetes.io/job-completion-index=0'
  )
  assert done.stdout.split() == [
    *('apply', '-f', f'launch/{name}'),
    *('logs', '-f', '-l', labels),
  ]
