"""Values are tried as a run would build them, before the first trial."""

import pytest
import toy
import trivial

from mmjax.errors import ConfigError
from mmjax.sweeps import check, load


def _checked(loaded, build):
  def refuses(config, mesh):
    build(config, mesh)
    return toy.build(config, mesh)

  with pytest.raises(ConfigError) as caught:
    check.check(loaded, {'contrastive': refuses, 'vqa': toy.build}.get)
  return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_values_that_the_config_refuses_are_all_named(tmp_path):
  loaded = load.load(
    trivial.write(
      tmp_path,
      space="{'train.batch_size': integers(0, 8), "
      "'train.dtype': choice('float32', 'float8'), "
      "'model.width': choice(16, 17), "
      "'model.height': integers(2, 7, 2), "
      "'model.depth': integers(2, 500), 'model.part': choice('a', None)}",
    )
  )

  def build(config, mesh):
    if config.model.width % 2:
      raise ConfigError(f'width {config.model.width} is odd')
    if config.model.get('height') in (4, 7):
      raise ConfigError(f'height {config.model.height} is not legal')
    if config.model.get('depth') == 3:
      raise ConfigError('only the ends of a long range are tried')
    return toy.build(config, mesh)

  with pytest.raises(ConfigError) as caught:
    check.check(loaded, lambda name: {'contrastive': build}[name])
  lines = str(caught.value).splitlines()[1:]
  assert [line.split(':')[0].strip() for line in lines] == [
    'train.batch_size=0',
    "train.dtype='float8'",
    'model.width=17',
    'model.height=4',
    "model.part='a'",
  ]
  assert 'width 17 is odd' in lines[2]
  assert lines[-1].endswith("'a' is not legal: a dict, or None")


def test_a_range_of_numbers_is_no_range_of_whole_numbers(tmp_path):
  def build(config, mesh):
    [None] * config.model.width
    config.model.height % 1  # Legal for any number.

  loaded = load.load(
    trivial.write(
      tmp_path,
      set="{'model.height': 3.0}",
      space="{'train.batch_size': uniform(8, 64), "
      "'model.width': loguniform(16, 256), 'model.height': uniform(2, 5), "
      "'optimizer.lr': uniform(0, 1)}",
    )
  )
  lines = _checked(loaded, build)
  names = [line.partition('=')[0] for line in lines]
  assert names == ['train.batch_size'] * 2 + ['model.width'] * 2
  assert lines[0] == (
    'train.batch_size=8.0: train.batch_size=8.0 is not legal: a whole number, '
    'at least 1; if it must be whole, integers(...), not '
    'uniform(8, 64, step=None)'
  )
  assert lines[2].startswith('model.width=16.0: TypeError: ')
  assert lines[2].endswith('integers(...), not loguniform(16, 256)')


def test_a_field_is_tried_with_all_values_of_its_conditions(tmp_path):
  def build(config, mesh):
    if config.model.part.get('size') == 3 and config.model.part.name == 'c':
      raise ConfigError('no such size')
    if config.model.part.name == 'd':
      raise ConfigError('no such part')

  loaded = load.load(
    trivial.write(
      tmp_path,
      space="{'model.part.name': choice('b', 'c', 'd'), "
      "'model.part.size': integers(2, 4)"
      ".when('model.part.name', 'b', 'c', 'd')}",
    )
  )
  assert _checked(loaded, build) == [
    "model.part.name='d': no such part",
    "model.part.size=3 with model.part.name='c': no such size",
  ]


def test_an_experiment_is_checked_with_its_own_build(tmp_path):
  def build(config, mesh):
    if config.model.width == 17:
      raise ConfigError('odd')
    return toy.build(config, mesh)

  loaded = load.load(
    trivial.write(
      tmp_path,
      space="{'experiment': choice('contrastive', 'vqa'), "
      "'model.width': choice(16, 17).when('experiment', 'vqa')}",
    )
  )
  check.check(loaded, {'contrastive': build, 'vqa': toy.build}.get)
