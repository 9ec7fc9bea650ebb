"""What a config can name, from mmjax and from its experiment file."""

import pytest

from mmjax import models
from mmjax.config import components, overrides, settings
from mmjax.errors import ConfigError

EXPERIMENT = """
import dataclasses
import flax.linen as nn
from mmjax import tasks
from mmjax.training import experiment
from mmjax.types import Tile

class Mine(nn.Module):
  shape: tuple[int, ...] = (1,)
  width: int = 3

@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(tasks.Task):
  chunk: Tile = 0

build = experiment.Builder(
  tasks={'other': Other},
  parts={'image': {'mine': Mine}},
  sections=('curriculum',),
)
"""


@pytest.fixture
def make_config(tmp_path):
  file = tmp_path / 'experiment.py'
  file.write_text(EXPERIMENT)

  def make(**sections):
    return settings.complete({'experiment': str(file), **sections})

  return make


def test_a_section_of_the_experiments_own_is_legal_and_can_be_set(make_config):
  config = make_config(curriculum={'start': 3})
  settings.validate(config)
  overrides.override(config, [('curriculum.start', '5')])
  assert config.curriculum.start == 5
  config = make_config(curriculun={'start': 3})
  with pytest.raises(ConfigError, match='did you mean curriculum'):
    settings.validate(config)


def test_its_compute_settings_are_no_differences(make_config):
  old, new = (
    settings.to_json(make_config(tasks={'other': {'chunk': chunk}}))
    for chunk in (1, 2)
  )
  assert not settings.differences(old, new)


def test_the_experiment_runs_only_for_names_that_mmjax_lacks(make_config):
  builtin = {'name': 'dual_encoder', 'image': {'name': 'vit'}}
  config = make_config(model=builtin, tasks={'contrastive': {}})
  config.experiment = 'gone.py'
  assert components.of(config) is components.BUILT_IN
  for sections, named in (
    ({'model': {'name': 'mine'}}, r"model\.name='mine'"),
    ({'model': {'image': {'name': 'mine'}}}, r"model\.image\.name='mine'"),
    ({'tasks': {'other': {}}}, r'tasks\.other'),
    ({'curriculum': {}}, 'section curriculum'),
  ):
    config = make_config(**sections)
    assert 'other' in components.of(config).task_table
    config.experiment = 'gone.py'
    with pytest.raises(ConfigError, match=f'no {named}.*gone.py: no such file'):
      components.of(config)


def test_a_tuple_is_a_sequence_for_a_config(make_config):
  tables = components.of(make_config(tasks={'other': {}})).tables
  make = lambda shape: models.build(
    {
      'name': 'dual_encoder',
      'embed_dim': 2,
      'text': {
        'name': 'transformer',
        'width': 2,
        'depth': 1,
        'num_heads': 1,
        'mlp_dim': 2,
      },
      'image': {'name': 'mine', 'shape': shape},
    },
    models.DataSizes(vocab_size=5, text_length=3),
    tables=tables,
  )
  assert make([2, 3]).image.shape == (2, 3)
  with pytest.raises(ConfigError, match=r'image\.shape must be tuple.*got 2'):
    make(2)
