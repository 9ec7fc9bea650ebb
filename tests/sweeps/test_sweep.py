"""A sweep file's mistakes are told before the first trial."""

import pathlib

import optuna
import pytest
import trivial

from mmjax.sweeps import search, space, sweep
from mmjax.train.settings import UserError

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def _refused(tmp_path, **more):
  with pytest.raises(UserError) as caught:
    sweep.load(trivial.write(tmp_path, **more))
  return str(caught.value)


def test_a_sweep_file_is_read(tmp_path):
  loaded = sweep.load(
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
  assert loaded.overrides == {'optimizer.b1': 0.5, 'train.steps': 5}
  config = loaded.config({'model.part.name': 'b', 'model.part.size': 4}, 2)
  assert config.model.part.to_dict() == {'name': 'b', 'size': 4}
  assert (config.seed, config.optimizer.b1) == (2, 0.5)
  assert not config.train.blind_baseline
  assert 'size' not in loaded.base.model.part


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    ({'trails': 3}, 'trails is no field of a sweep; did you mean trials?'),
    ({'trials': 0}, 'trials=0 is not legal'),
    ({'space': '{}'}, 'space is empty'),
    (
      {'space': "{'optimizer.learning_rate': uniform(0, 1)}"},
      'optimizer.learning_rate is no config field',
    ),
    (
      {'space': "{'model.fusion.name': choice('concat')}"},
      'model.fusion.name is no config field',
    ),
    ({'space': "{'optimizer.lr': 1e-3}"}, '0.001 is no range; use one of'),
    ({'space': "{'seed': integers(0, 3)}"}, 'use repeats=3'),
    (
      {'space': "{'optimizer.lr': uniform(0, 1).when('train.dtype', 'x')}"},
      'names no field that stands before it',
    ),
    (
      {
        'space': "{'train.dtype': choice('float32', 'bfloat16'), "
        "'optimizer.b1': uniform(0, 1).when('train.dtype', 'float16')}"
      },
      "when('train.dtype', 'float16') never holds; that field is tried with "
      "'float32', 'bfloat16'",
    ),
    ({'direction': "'up'"}, "direction='up' is not legal"),
    ({'metric': "('val/a', 'val/b')"}, '2 metrics and 1 directions'),
    ({'metric': "'test/a'"}, "metric='test/a' is not legal"),
    ({'set': "{'data.eval_split': ''}"}, "data.eval_split is '', so there are"),
    ({'sampler': "'bayes'"}, "sampler='bayes' is not there; there are grid"),
    (
      {'sampler': "dict(name='tpe', startup=3)"},
      'startup is no option; did you mean n_startup_trials',
    ),
    ({'sampler': "'grid'"}, 'a grid needs all values of 1e-05..0.1'),
    (
      {'sampler': "'cmaes'", 'space': "{'train.dtype': choice('float32')}"},
      'takes numbers only, and train.dtype',
    ),
    (
      {'pruner': "'median'", 'set': "{'train.eval_every': 0}"},
      "for example with set={'train.eval_every': 1}",
    ),
    (
      {
        'pruner': "'median'",
        'metric': "('val/a', 'step_time')",
        'direction': "('maximize', 'minimize')",
      },
      'takes one metric',
    ),
  ],
)
def test_mistakes_are_named(tmp_path, more, message):
  assert message in _refused(tmp_path, **more)


def test_values_that_the_config_refuses_are_all_named(tmp_path):
  loaded = sweep.load(
    trivial.write(
      tmp_path,
      space="{'train.batch_size': integers(0, 8), "
      "'train.dtype': choice('float32', 'float8'), "
      "'model.width': choice(16, 17), "
      "'model.height': integers(2, 7, 2), "
      "'model.depth': integers(2, 500)}",
    )
  )

  def build(config):
    if config.model.width % 2:
      raise ValueError(f'width {config.model.width} is odd')
    if config.model.get('height') in (4, 7):
      raise ValueError(f'height {config.model.height} is not legal')
    if config.model.get('depth') == 3:
      raise ValueError('only the ends of a long range are tried')
    import toy

    return toy.build(config)

  with pytest.raises(UserError) as caught:
    sweep.check(loaded, lambda name: {'contrastive': build}[name])
  lines = str(caught.value).splitlines()[1:]
  assert [line.split(':')[0].strip() for line in lines] == [
    'train.batch_size=0',
    "train.dtype='float8'",
    'model.width=17',
    'model.height=4',
  ]
  assert 'width 17 is odd' in lines[-2]


def test_a_chosen_section_may_have_a_field_of_its_own(tmp_path):
  loaded = sweep.load(
    trivial.write(
      tmp_path,
      space="{'model.part': choice({'name': 'a'}, {'name': 'b', 'size': 1}), "
      "'model.part.size': integers(2, 6).when('model.part', "
      "{'name': 'b', 'size': 1})}",
    )
  )
  trial = optuna.trial.FixedTrial(
    {'model.part': '{"name": "b", "size": 1}', 'model.part.size': 5}
  )
  stored = space.sample(loaded.space, trial)
  config = loaded.config(space.values(loaded.space, stored))
  assert config.model.part.to_dict() == {'name': 'b', 'size': 5}
  other = optuna.trial.FixedTrial({'model.part': '{"name": "a"}'})
  assert list(space.sample(loaded.space, other)) == ['model.part']


def test_choices_of_any_kind_come_back():
  values = (None, True, 1, 0.5, 'a', ('a/', 'b/'), {'name': 'gated'})
  dimension = space.choice(*values)
  assert [dimension.value(label) for label in dimension.grid()] == list(values)
  with pytest.raises(UserError, match='"a" is there twice'):
    space.choice('a', 'b', 'a')


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


@pytest.mark.parametrize('name', search.SAMPLERS)
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
  assert sweep.load(file).trials
