"""A sweep file's errors are reported before the first trial."""

import pathlib

import pytest
import toy
import trivial

from mmjax.errors import ConfigError
from mmjax.sweeps import load, search, sweep

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def _refused(tmp_path, **more):
  with pytest.raises(ConfigError) as caught:
    load.load(trivial.write(tmp_path, **more))
  return str(caught.value)


def test_a_sweep_file_is_read(tmp_path):
  loaded = load.load(
    trivial.write(
      tmp_path,
      set="{'optimizer.b1': 0.5}",
      space="{'model.part.name': choice('a', 'b'), "
      "'model.part.size': integers(2, 6, 2).when('model.part.name', 'b'), "
      "'train.dtype': choice('float32', 'bfloat16')}",
    ),
    [('train.steps', '5')],
  )
  assert loaded.base.train.steps == 5
  assert (loaded.in_file.train.steps, loaded.in_file.optimizer.b1) == (9, None)
  config = sweep.vary(
    loaded.base, {'model.part.name': 'b', 'model.part.size': 4}
  )
  assert config.model.part.to_dict() == {'name': 'b', 'size': 4}
  assert config.optimizer.b1 == 0.5
  assert not config.train.blind_baseline
  assert 'size' not in loaded.base.model.part


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    ({'trails': 3}, 'trails is not a field of a sweep; did you mean trials?'),
    ({'trials': 0}, 'trials=0 is not legal'),
    ({'space': '{}'}, 'space is empty'),
    (
      {'space': "{'optimizer.learning_rate': uniform(0, 1)}"},
      'optimizer.learning_rate is not a config field',
    ),
    (
      {'space': "{'model.fusion.name': choice('concat')}"},
      'model.fusion.name is not a config field',
    ),
    ({'space': "{'optimizer.lr': 1e-3}"}, '0.001 is not a range; use one of'),
    (
      {'space': "{'train.blind_baseline': choice(True, False)}"},
      'train.blind_baseline is False in all trials; leave it out',
    ),
    (
      {'space': "{'optimizer.lr': uniform(0, 1).when('train.dtype', 'x')}"},
      "when('train.dtype', ...) is not a field named before it",
    ),
    (
      {
        'space': "{'train.dtype': choice('float32', 'bfloat16'), "
        "'optimizer.b1': uniform(0, 1).when('train.dtype', 'float16')}"
      },
      "when('train.dtype', 'float16') never holds; that field is tried with "
      "choice('float32', 'bfloat16')",
    ),
    (
      {
        'space': "{'train.accumulate': integers(1, 2), "
        "'optimizer.b1': uniform(0, 1).when('train.accumulate', 2, 3)}"
      },
      "when('train.accumulate', 3) never holds; that field is tried with "
      'integers(1, 2, step=1, log=False)',
    ),
    ({'space': 'None'}, 'space=None is not legal: a dict'),
    ({'space': '[1]'}, 'space=[1] is not legal: a dict'),
    ({'set': 'None'}, 'set=None is not legal: a dict'),
    (
      {'space': "{('optimizer', 'lr'): uniform(0, 1)}"},
      "('optimizer', 'lr') is not a config field",
    ),
    (
      {'set': "{'train': {'steps': 3}}"},
      "set: train is a section; name its fields, such as 'train.steps'",
    ),
    ({'set': "{'model': 3}"}, 'set: model=3 is not legal: a dict'),
    (
      {'set': "{'train.steps': '90'}", 'pruner': "'median'"},
      "train.steps='90' is not legal: a whole number, at least 1",
    ),
    (
      {'set': "{'optimizer.rate': 3, 'train.stepz': 4}"},
      'set: train.stepz is not a config field',
    ),
    (
      {'sampler': "dict(name=['tpe'])", 'pruner': "'halve'", 'seed': -1},
      'seed=-1 is not legal',
    ),
    (
      {'sampler': "dict(name=['tpe'])", 'pruner': "'halve'"},
      "sampler ['tpe'] is unknown; use one of ['grid', 'random',",
    ),
    ({'pruner': "{'halve': 2}"}, 'pruner None is unknown; use one of'),
    (
      {'sampler': "dict(name='tpe', gamma=lambda n: 3)"},
      'is not legal: plain data',
    ),
    (
      {'direction': "'up'"},
      "direction='up' is not legal: one of 'maximize', 'minimize'",
    ),
    ({'metric': "('val/a',)"}, "metric=('val/a',) is not legal: a string"),
    ({'metric': "'test/a'"}, "metric='test/a' is not legal"),
    ({'set': "{'data.eval_split': ''}"}, "needs data.eval_split, which is ''"),
    ({'sampler': "'bayes'"}, "sampler 'bayes' is unknown; use one of"),
    (
      {'sampler': "dict(name='tpe', startup=3)"},
      "got an unexpected keyword argument 'startup'",
    ),
    (
      {'sampler': "'grid'"},
      'optimizer.lr: loguniform(1e-05, 0.1) has infinitely many values, and '
      "sampler='grid' tries all",
    ),
    (
      {'pruner': "'median'", 'set': "{'train.eval_every': 0}"},
      "for example with set={'train.eval_every': 1}",
    ),
    (
      {'pruner': "dict(name='successive_halving', min_resource=9)"},
      'min_resource=9 never prunes: it begins at step 9, and the last '
      'evaluation before the end of train.steps=9 is that of step 8',
    ),
    (
      {
        'pruner': "dict(name='hyperband', min_resource=6)",
        'set': "{'train.eval_every': 5}",
      },
      'min_resource=6 never prunes: it begins at step 6, and the last '
      'evaluation before the end of train.steps=9 is that of step 5',
    ),
    (
      {
        'pruner': "dict(name='successive_halving', min_early_stopping_rate=2)",
        'set': "{'train.eval_every': 2}",
      },
      'it begins at step 32,',
    ),
    (
      {'pruner': "dict(name='hyperband', reduction_factor=1)"},
      'float division by zero',
    ),
    ({'sampler': "dict(name='tpe', seed=3)"}, "argument 'seed'"),
  ],
)
def test_errors_are_named(tmp_path, more, message):
  text = _refused(tmp_path, **more)
  assert message in text
  assert text.startswith(f'{tmp_path}/some_sweep.py:\n  ')


def test_several_kinds_of_errors_are_reported_together(tmp_path):
  lines = _refused(
    tmp_path, sampler="'bayes'", space='3', direction="'up'", trails=3
  ).splitlines()
  assert {line.split()[0] for line in lines[1:]} == {
    'trails',
    'space=3',
    "direction='up'",
    'sampler',
  }
  lines = _refused(
    tmp_path,
    space="{'optimizer.learning_rate': uniform(0, 1), 'model.size': 3}",
    metric="'test/a'",
    set="{'train.steps': 0}",
  ).splitlines()
  assert {line.split()[0] for line in lines[1:]} == {
    'train.steps=0',
    'optimizer.learning_rate',
    'model.size:',
    "metric='test/a'",
  }


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('def get_sweep(:', 'line 1: SyntaxError: invalid syntax'),
    ('\nprint(choise)', "line 2: NameError: name 'choise' is not defined"),
    (
      'def get_sweep():\n  return loguniform(1, 2, 3)',
      'line 2: TypeError: loguniform() takes 2 positional arguments but 3',
    ),
    (
      'def get_sweep():\n  return {"space": {"a": uniform(2, 1)}}',
      'line 2: ValueError: `low <= high` must hold',
    ),
    ('def get_sweep(argument): pass', 'TypeError: get_sweep() missing 1'),
    ('get_sweep = None', 'it has no function get_sweep'),
    ('def get_sweep():\n  return []', 'get_sweep() returns []; return a dict'),
  ],
)
def test_an_error_in_the_file_has_its_line(tmp_path, text, message):
  file = tmp_path / 'some_sweep.py'
  file.write_text(text)
  with pytest.raises(ConfigError) as caught:
    load.load(file)
  assert str(caught.value).startswith(f'--sweep={file}')
  assert message in str(caught.value)


def test_the_config_may_be_a_path(tmp_path):
  file = trivial.write(tmp_path)
  text = file.read_text()
  config = tmp_path / 'config.py'
  path = f'__import__("pathlib").Path({str(config)!r})'
  file.write_text(text.replace(repr(str(config)), path))
  assert load.load(file).config == str(config)
  file.write_text(text.replace(repr(str(config)), 'None'))
  with pytest.raises(ConfigError, match='--config=None: no such file'):
    load.load(file)


def test_a_grid_is_walked_once(tmp_path):
  file = trivial.write(
    tmp_path,
    sampler="'grid'",
    trials=None,
    set="{'train.steps': 1}",
    space="{'optimizer.lr': uniform(0.1, 0.3, 0.1), "
    "'train.dtype': choice('float32', 'bfloat16')}",
  )
  study = trivial.work(file, tmp_path / 'lr')
  points = {tuple(trial.params.values()) for trial in study.trials()}
  assert len(study.trials()) == len(points) == 6


@pytest.mark.parametrize('name', search.KINDS['sampler'])
def test_every_sampler_draws_the_same_again(tmp_path, name):
  file = trivial.write(
    tmp_path,
    trials=4,
    set="{'train.steps': 1}",
    sampler=f"'{name}'",
    space="{'optimizer.lr': uniform(0.1, 0.6, 0.1), "
    "'optimizer.b1': uniform(0.5, 0.6, 0.1)}",
  )
  one = trivial.work(file, tmp_path / 'a' / 'lr')
  two = trivial.work(file, tmp_path / 'b' / 'lr')
  assert [t.params for t in one.trials()] == [t.params for t in two.trials()]
  assert len({tuple(t.params.values()) for t in one.trials()}) > 1


@pytest.mark.parametrize(
  'file', sorted(CONFIGS.glob('sweeps/[!_]*.py')), ids=lambda path: path.stem
)
def test_the_sweeps_here_are_legal(file, monkeypatch):
  monkeypatch.chdir(CONFIGS.parent)
  assert load.load(file).trials


def _checked(loaded, build):
  def refuses(config, mesh):
    build(config, mesh)
    return toy.build(config, mesh)

  with pytest.raises(ConfigError) as caught:
    load.check(loaded, {'contrastive': refuses, 'vqa': toy.build}.get)
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
    load.check(loaded, lambda name: {'contrastive': build}[name])
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
    'at least 1'
  )
  assert lines[2].startswith('model.width=16.0: TypeError: ')


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
  load.check(loaded, {'contrastive': build, 'vqa': toy.build}.get)
