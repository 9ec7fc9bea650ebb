"""The losses of `align`."""

import pytest

from mmjax import objectives, tasks
from mmjax.errors import ConfigError


def test_correlation_is_a_loss_without_candidates():
  task = tasks.Align(fields=('image', 'text'), kind='correlation')
  objective = task.objective({})
  assert isinstance(objective, objectives.CanonicalCorrelation)
  assert objective.compares == ('image_embedding', 'text_embedding')
  assert task.alternatives() == objective.pairs == (('image', 'text'),)
  for settings in ({'tile': 2}, {'ring': True}):
    with pytest.raises(ConfigError, match='has no candidates'):
      tasks.Align(fields=('a', 'b'), kind='correlation', **settings).objective(
        {}
      )
