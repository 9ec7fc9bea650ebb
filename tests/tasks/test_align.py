"""The losses of `align`, and what it refuses and ranks."""

import types

import numpy as np
import pytest

from mmjax import objectives, tasks
from mmjax.data import features
from mmjax.errors import ConfigError


def test_correlation_is_a_loss_without_candidates():
  task = tasks.Align(features=('image', 'text'), kind='correlation')
  objective = task.objective({})
  assert isinstance(objective, objectives.CanonicalCorrelation)
  assert objective.compared_outputs == ('image_embedding', 'text_embedding')
  assert task.required_keys() == objective.pairs == (('image', 'text'),)
  for settings in ({'tile': 2}, {'ring': True}):
    with pytest.raises(ConfigError, match='has no candidates'):
      tasks.Align(
        features=('a', 'b'), kind='correlation', **settings
      ).objective({})


def test_maxsim_refuses_other_losses_by_its_path():
  settings = {'score': 'maxsim', 'kind': 'sigmoid'}
  message = "^tasks.contrastive: kind='sigmoid', .* for kind='softmax' without"
  with pytest.raises(ConfigError, match=message):
    tasks.build({'contrastive': settings}, tasks.TASKS)


def test_conversations_with_images_are_not_embedded():
  built = {'align': tasks.Align(features=('turns', 'text'))}
  found = lambda image: tasks.find_output_spec(
    built, {'turns': features.Turns(name='turns', image=image)}
  )
  assert found('').embedded == ('turns', 'text')
  with pytest.raises(ConfigError, match=r"features.turns, whose image='photo'"):
    found('photo')


@pytest.mark.parametrize('fields', [('text', 'image'), ('image', 'text')])
def test_texts_are_ranked_by_the_score_of_the_task(fields):
  """The mean is over the tokens of the queries, the first field."""
  texts = np.array([[[1, 0], [0, 1]], [[0.8, 0.6], [0, 0]]], np.float32)
  vectors = {'text': texts, 'image': np.array([[[1, 0]]], np.float32)}
  run = types.SimpleNamespace(
    preprocessor=types.SimpleNamespace(
      features={'text': features.Text(name='text')}
    ),
    tasks={'align': tasks.Align(features=fields, score='maxsim')},
    prepare=lambda **values: values,
    predict=lambda make, batch, name: vectors[name],
  )
  use = tasks.Align.predict_use
  lines = use.make_lines(run, {'image': 'a.png'}, ['two', 'one'], 1)
  scores = {line.split()[1]: float(line.split()[0]) for line in lines[1:]}
  is_query = fields[0] == 'text'
  assert lines[0] == 'maxsim  text'
  assert scores == {'one': 0.8, 'two': 0.5 if is_query else 1.0}
  assert list(scores) == (['one', 'two'] if is_query else ['two', 'one'])
