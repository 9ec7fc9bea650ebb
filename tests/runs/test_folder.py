"""What a run's folder refuses to resume with, and how the run resumes."""

import shlex

import pytest

from mmjax.config import overrides, settings
from mmjax.errors import ConfigError
from mmjax.runs import folder


def _config(changes=()):
  config = settings.complete({'model': {'image': {'width': 8}}})
  overrides.override(config, list(changes))
  return config


def test_a_misspelt_setting_is_not_just_new(tmp_path):
  image = {'name': 'vit', 'width': 8}
  config = settings.complete({'model': {'image': image}})
  run = folder.RunFolder(tmp_path)
  run.begin(config, {})
  overrides.override(config, [('model.image.widht', '3')])
  with pytest.raises(ConfigError, match=r'widht is unknown; vit has .*width'):
    run.check(config)


@pytest.mark.parametrize(
  ('changes', 'steps'),
  [
    ([('optimizer.lr', '1')], 'add --config.optimizer.lr=0.001'),
    (
      [('optimizer.freeze', 'image/,'), ('data.name', 'other')],
      "add --config.data.name= '--config.optimizer.freeze=()'",
    ),
    (
      [('model.image.depth', '3'), ('model.image.width', '9')],
      'leave out model.image.depth and add --config.model.image.width=8',
    ),
    (
      [('init_from', 'x'), ('model.image.width', '9')],
      'add --config.init_from=',
    ),
  ],
)
def test_a_changed_config_names_the_flags_that_resume(tmp_path, changes, steps):
  run = folder.RunFolder(tmp_path)
  run.begin(_config(), {})
  with pytest.raises(ConfigError) as refused:
    run.check(_config(changes))
  assert f'\nto resume it, {steps}; to train with the' in str(refused.value)
  # The flags do what the message says.
  flags = shlex.split(steps.partition('add ')[2])
  _, found = overrides.split(flags)
  kept = [change for change in changes if change[0] == 'model.image.width']
  if 'init_from' not in dict(changes):
    run.check(_config([*kept, *found]))


def test_a_source_that_came_or_went_is_one_field(tmp_path):
  mixture = "{'a': {'name': 'x'}, 'b': {'name': 'y', 'weight': 2.0}}"
  run = folder.RunFolder(tmp_path)
  run.begin(_config([('data.mixture', mixture)]), {})
  changes = [
    ('data.mixture', mixture),
    ('data.mixture.b', 'None'),
    ('data.mixture.c', "{'name': 'z'}"),
  ]
  with pytest.raises(ConfigError, match=r'mixture\.c: None -> ') as refused:
    run.check(_config(changes))
  steps = str(refused.value).partition('to resume it, add ')[2]
  _, found = overrides.split(shlex.split(steps.partition(';')[0]))
  run.check(_config([*changes, *found]))
