"""Runs that learn from a teacher: start, stop, resume, and use without it."""

import itertools
import shutil

import jax
import numpy as np
import pytest

from experiments import multimodal
from mmjax.cli import main as cli
from mmjax.config import settings
from mmjax.data import builders, shapes_senses
from mmjax.errors import ConfigError
from mmjax.runs import checkpoints, rebuild
from mmjax.training import program, runner

VIT = {
  'name': 'vit',
  'patch_size': 8,
  'width': 8,
  'depth': 1,
  'num_heads': 2,
  'mlp_dim': 8,
}
VIEW = {'kind': 'image', 'field': 'image', 'size': 16}
SHAPE = {'kind': 'category', 'field': 'metadata/shape'}
CLASSIFY = {'target': 'shape'}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  with pytest.MonkeyPatch.context() as patch:
    sizes = {'train': 24, 'validation': 4, 'test': 4}
    patch.setattr(shapes_senses, '_SIZES', sizes)
    builders.build(
      lambda data_dir: shapes_senses.ShapesSenses(data_dir=data_dir),
      folder,
      progress=False,
    )
  return folder


@pytest.fixture(scope='module')
def make(data_dir):
  def config(tasks, features=None, model=None, size=16, **train):
    chosen = {'name': 'multimodal', 'encoders': {'image': VIT}}
    return settings.complete(
      {
        'experiment': 'multimodal',
        'data': {
          'name': 'shapes_senses',
          'data_dir': str(data_dir),
          'image_size': size,
          'features': ({'shape': SHAPE} if 'classify' in tasks else {})
          | (features or {}),
          'eval_split': '',
        },
        'model': chosen | (model or {}),
        'tasks': tasks,
        'optimizer': {'schedule': 'constant', 'warmup_steps': 0},
        'train': {'steps': 1, 'batch_size': 4, 'tensorboard': False} | train,
        'eval': {'batch_size': 4},
      }
    )

  return config


@pytest.fixture(scope='module')
def teacher(make, tmp_path_factory):
  """A run that classifies shapes."""
  folder = tmp_path_factory.mktemp('teacher')
  runner.run(make({'classify': CLASSIFY}), multimodal.build, folder)
  return folder


def leaves(folder):
  return jax.tree.leaves(checkpoints.load_params(folder, ema=False))


@pytest.mark.slow
def test_a_run_with_all_three_resumes_and_is_used_without_its_teacher(
  make, teacher, tmp_path, capsys
):
  moved = shutil.copytree(teacher, tmp_path / 'teacher')
  tasks = {
    'classify': CLASSIFY,
    'pseudo_labels': CLASSIFY | {'threshold': 0.2},
    'mean_teacher': CLASSIFY | {'ramp_steps': 4},
    'distill': CLASSIFY | {'teacher': str(moved)},
  }
  flip = {'augment': ({'name': 'flip'},)}
  features = {
    'shape': SHAPE | {'labelled': 0.5},
    'strong': VIEW | flip,
    'other': VIEW,
  }
  config = make(tasks, features, steps=4, ema_decay=0.9, checkpoint_every=2)
  runner.run(config, multimodal.build, tmp_path / 'whole')
  calls = itertools.count()
  with config.unlocked():
    config.train.eval_every = 2
    config.data.eval_split = 'validation'
  stopped = tmp_path / 'stopped'
  runner.run(
    config, multimodal.build, stopped, should_stop=lambda *_: next(calls) == 0
  )
  assert checkpoints.find_step(stopped) == 2
  before = leaves(moved)
  results = runner.run(config, multimodal.build, stopped)
  for one, other in zip(
    leaves(tmp_path / 'whole'), leaves(stopped), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  for one, other in zip(before, leaves(moved), strict=True):
    np.testing.assert_array_equal(one, other)
  # Each class is measured once, though two tasks predict it.
  assert not any('distill' in name for name in results)
  # The likeliest of four classes has more than the threshold of 0.2.
  assert results['test/shape/confident'] == 1
  saved = {path.name for path in (stopped / 'checkpoints' / '4').iterdir()}
  assert not any('distill' in name or 'frozen' in name for name in saved)

  shutil.rmtree(moved)
  run = rebuild.load(stopped)
  image = np.zeros((20, 20, 3), np.uint8)
  assert run.classify(image=image)[0] in shapes_senses.SHAPES
  capsys.readouterr()
  assert cli.main(['report', str(stopped)]) in (0, None)
  assert 'shape right' in capsys.readouterr().out
  with pytest.raises(ConfigError, match=r"tasks\.distill\.teacher='.*there is"):
    runner.check(config, multimodal.build)


@pytest.mark.slow
def test_embeddings_of_another_size_of_image_are_learnt(make, tmp_path):
  folder = tmp_path / 'teacher'
  row = {k: v for k, v in VIT.items() if k != 'patch_size'}
  table = {**row, 'name': 'table_transformer'}
  config = make(
    {'align': {'features': ('image', 'total')}},
    {'total': {'kind': 'number'}},
    {'encoders': {'image': VIT, 'total': table}, 'embed_dim': 6},
  )
  runner.run(config, multimodal.build, folder)
  wanted = {
    'teacher': str(folder),
    'kind': 'features',
    'target': 'image',
    'width': 6,
    'teacher_inputs': {'image': 'teacher_image'},
  }

  def student(features, **changes):
    task = {k: v for k, v in (wanted | changes).items() if v is not None}
    return make(
      {'classify': CLASSIFY, 'distill': task}, features, size=24, steps=2
    )

  for config, message in (
    (
      student({}, teacher_inputs=None),
      r'with size=16 of .* has size=24; make .*16.*, an',
    ),
    (student({'teacher_image': VIEW}, width=5), r'has 6 .*learns 5; .*width=6'),
    (
      student({}, target='total', teacher_inputs=None),
      r'reads total for .* gives image',
    ),
    (
      student({}, kind='logits', target='shape', width=0, teacher_inputs=None),
      "the run does not classify 'shape'",
    ),
  ):
    with pytest.raises(ConfigError, match=message):
      runner.check(config, multimodal.build)
  config = student({'teacher_image': VIEW})
  built = multimodal.build(config, program.mesh_of(config))
  # Of the teacher's parameters, those of the image alone are kept.
  assert set(built.frozen_models['distill'].params) == {
    'encoders_image',
    'projections_image',
  }
  runner.run(config, multimodal.build, tmp_path / 'student')
