"""Runs that learn from preferred answers and from rewards."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import grpo
from mmjax import tasks
from mmjax.config import settings
from mmjax.data import importing
from mmjax.errors import ConfigError
from mmjax.runs import checkpoints, rebuild
from mmjax.training import experiment, runner

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
PAIRS = [
  {'id': f'{i}', 'prompt': 'cat', 'chosen': 'a photo', 'rejected': word}
  for i, word in enumerate(('cat', 'of a small', 'red', 'a'))
]


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """A folder of data sets with pairs, the same ones to train and validate."""
  folder = tmp_path_factory.mktemp('pairs')
  rows = [
    {**pair, 'id': f'{split}{pair["id"]}', 'split': split}
    for split in ('train', 'validation')
    for pair in PAIRS
  ]
  (folder / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  importing.import_data(
    'jsonl',
    str(folder / 'rows.jsonl'),
    importing.Settings('pairs'),
    data_dir=folder,
    progress=False,
  )
  return folder


def make_config(pairs, **task):
  config = settings.default_config()
  config.init_from = str(GOLDEN / 'llama')
  config.data.update(
    name='pairs',
    data_dir=str(pairs),
    test_split='',
    features={'pair': {'kind': 'preference', 'length': 24}},
  )
  config.model = {'name': 'language_model'}
  config.tasks = {'prefer': {'beta': 0.5, 'max_new_tokens': 3, **task}}
  config.optimizer.update(lr=0.05, schedule='constant')
  config.train.update(steps=2, batch_size=4, log_every=1, tensorboard=False)
  config.train.eval_every = 1
  config.eval.batch_size = 4
  return config


@pytest.mark.slow
@pytest.mark.parametrize('adapted', [False, True])
def test_the_reference_is_the_model_that_the_run_starts_from(
  adapted, pairs, tmp_path
):
  """A frozen copy of it, or its own parameters without their adapters."""
  config = make_config(pairs)
  if adapted:
    config.adapter.update(layers=('mlp/',), rank=2)
  runner.run(config, experiment.Builder(), tmp_path)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  first, second = map(json.loads, lines)
  np.testing.assert_allclose(first['loss'], np.log(2), rtol=1e-6)
  assert first['prefer/margin'] == 0 and second['loss'] < np.log(2) - 1e-3
  assert (tmp_path / 'teachers.json').exists() != adapted
  # The held-out pairs are those of the batch, and the parameters the same.
  for name in ('margin', 'accuracy', 'loss'):
    np.testing.assert_allclose(
      first[f'val/pair/{name}'],
      second['loss' if name == 'loss' else f'prefer/{name}'],
      rtol=1e-4,
    )
  assert first['val/pair/cut'] == 0
  run = rebuild.load(tmp_path)
  assert 'chat' in dir(run)
  split = tasks.EvalContext(
    run.module, None, None, run.preprocessor, run.config, tasks=run.tasks
  )
  found = run.tasks['prefer'].find_reference(split)
  assert (found is None) != adapted  # The copy is not in the run's folder.


def test_settings_that_do_not_fit_are_refused(pairs):
  def check(reason, init_from=None, **task):
    config = make_config(pairs, **task)
    if init_from is not None:
      config.init_from = init_from
      config.model = {
        'name': 'language_model',
        'decoder': {
          'name': 'text',
          'width': 8,
          'depth': 1,
          'num_heads': 2,
          'mlp_dim': 8,
          'cross_attention': False,
        },
      }
    with pytest.raises(ConfigError, match=reason):
      runner.check(config, experiment.Builder())

  check('gamma=0.5 is not a setting of loss', gamma=0.5)
  check('label_smoothing=0.1 is not a', label_smoothing=0.1, loss='ipo')
  check("tasks.prefer.loss is 'dpo'|'dpo'", loss='dpo')
  check("init_from='' has no values of", init_from='')


@pytest.fixture
def make_grpo(make_config):
  """(number of steps) -> config of a tiny model that sees and has rewards."""

  def make(steps):
    config = make_config('', 'grpo_shapes.py')
    config.experiment = 'experiments.grpo'
    config.data.update(eval_split='', test_split='', image_size=16)
    config.data.features.prompt.update(
      length=80, image='image', image_tokens=4, placeholder='<unk>'
    )
    sizes = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 11}
    config.model = {
      'name': 'interleaved',
      'placeholders': (3,),
      'vision': {'name': 'vit', 'patch_size': 8, **sizes},
      'decoder': {
        'name': 'text',
        'cross_attention': False,
        'positions': 'none',
        'block': {'rope_theta': 1e4},
        **sizes,
      },
    }
    config.tasks.grpo.update(group=3, max_new_tokens=3, image='image')
    config.optimizer.update(lr=0.02, schedule='constant')
    config.train.update(
      steps=steps, batch_size=2, log_every=1, tensorboard=False
    )
    return config

  return make


def count_letters(answer, record):
  """How many letters an answer has; the record is that of the prompt."""
  assert record['fields']['questions']
  return float(sum(map(str.isalpha, answer)))


@pytest.mark.slow
def test_a_run_with_rewards_resumes_exactly(make_grpo, tmp_path):
  """Samples follow from seed and step; the trainer has their probabilities."""
  task = tasks.make_grpo(count_letters)
  build = experiment.Builder(tasks={'grpo': task})
  for name, steps in (('whole', 2), ('parts', 1), ('parts', 2)):
    runner.run(make_grpo(steps), build, tmp_path / name)
  whole, parts = (
    [
      {
        key: value
        for key, value in json.loads(line).items()
        if key.startswith(('grpo/', 'loss', 'grad_norm'))
      }
      for line in (tmp_path / name / 'metrics.jsonl').read_text().splitlines()
    ]
    for name in ('whole', 'parts')
  )
  assert len(whole) == 2 and parts == whole
  params = [
    checkpoints.load_params(tmp_path / name, step=2)
    for name in ('whole', 'parts')
  ]
  jax.tree.map(np.testing.assert_array_equal, *params)
  assert whole[0]['grpo/reward'] != whole[1]['grpo/reward']
  for row in whole:
    assert row['grpo/log_prob_difference'] < 1e-5 and row['grpo/clipped'] == 0
    assert 0 < row['grpo/length'] <= 3 and row['grad_norm'] > 0


def test_a_task_with_rewards_is_alone_and_its_positions_suffice(make_grpo):
  config = make_grpo(1)
  config.tasks.chat = {'target': 'prompt', 'image': 'image'}
  with pytest.raises(ConfigError, match=r'tasks.chat is beside tasks.grpo'):
    runner.check(config, grpo.build)
  config = make_grpo(1)
  config.model.decoder.update(positions='learned')
  with pytest.raises(ConfigError, match=r'are 83 positions, but .* has 80'):
    runner.check(config, grpo.build)
  config = make_grpo(1)
  config.tasks = {
    'chat': {'target': 'prompt', 'max_new_tokens': 3, 'image': 'image'}
  }
  with pytest.raises(ConfigError, match='of the kind prompt, of which nothing'):
    runner.check(config, grpo.build)


def test_the_reward_of_the_experiment_is_of_the_last_question():
  asked = [
    {'question': 'a?', 'answers': ['yes']},
    {'question': 'b?', 'answers': ['red', 'dark red']},
    {'question': 'c?', 'answers': []},
  ]
  record = {'fields': {'questions': asked}}
  rewards = [grpo.is_right(answer, record) for answer in ('red', 'yes', '')]
  assert rewards == [1.0, 0.0, 0.0]
