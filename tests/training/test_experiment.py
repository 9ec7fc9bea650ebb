"""From a config's tasks to an experiment."""

import functools

import jax
import numpy as np
import pytest

from mmjax import tasks
from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.training import experiment, program

SMALL = {'width': 4, 'depth': 1, 'num_heads': 1, 'mlp_dim': 4}
MODEL = {
  'name': 'encoder_decoder',
  'image': {'name': 'vit', 'patch_size': 8, **SMALL},
  'question': {'name': 'transformer', **SMALL},
  'fusion': {'name': 'concat', 'width': 4, 'num_heads': 1, 'mlp_dim': 4},
  'decoder': {'name': 'text', **SMALL},
}


def make_config(**chosen):
  data = {'name': 'synthetic', 'image_size': 8}
  lengths = {'text_length': 5, 'question_length': 3, 'answer_length': 4}
  return settings.complete(
    {
      'data': data | lengths,
      'model': MODEL,
      'tasks': chosen,
      'train': {'batch_size': 2},
    }
  )


def build(config, **builder):
  make = experiment.Builder(**builder)
  return make(config, program.mesh_of(config))


def test_batches_have_what_the_tasks_need_and_splits_are_evaluated():
  config = make_config(
    captioning={'weight': 0.5}, vqa_classification={}, vqa_generation={}
  )
  built = build(config)
  keys = {'image', 'text', 'question', 'answer', 'label'}
  masks = {f'{key}_mask' for key in keys - {'label'}}
  assert set(built.init_batch) - {'index'} == keys | masks
  # Images go to the device as uint8; the step makes of them what models read.
  with built.train_data.iterate(0) as batches:
    batch = next(batches)
  assert batch['image'].dtype == np.uint8
  inputs = jax.eval_shape(built.make_inputs, batch)
  assert inputs['image'].dtype == built.init_batch['image'].dtype == np.float32
  assert built.objectives['captioning'][0] == 0.5
  # Both VQAs are measured in the same way, under different names.
  names = ['captions', 'vqa', 'vqa_generation/vqa']
  assert sorted(built.evaluators['test']) == names
  some = build(config, evaluates=('vqa_generation',))
  assert list(some.evaluators['val']) == ['vqa']
  assert len(some.objectives) == 3


def test_names_of_its_own_need_a_config_that_names_the_experiment():
  config = make_config(other={})
  other = functools.partial(build, config, tasks={'other': tasks.Contrastive})
  with pytest.raises(ConfigError, match=r'mmjax has no tasks\.other; is it'):
    other()


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'methods': {'decode': len}}, r"Odd.methods has \['decode'\], which ev"),
    ({'methods': {'params': len}}, r"Odd.methods has \['params'\], which ev"),
  ],
)
def test_tasks_that_could_not_work_are_refused(fields, message):
  odd = type('Odd', (tasks.Contrastive,), fields)
  with pytest.raises(ValueError, match=message):
    experiment.Builder(tasks={'odd': odd})
