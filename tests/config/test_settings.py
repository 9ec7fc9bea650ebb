"""What is refused, and how it is told."""

import ast
import dataclasses
import math
from pathlib import Path

import ml_collections
import pytest

from mmjax import models, tasks
from mmjax.config import help as help_lib
from mmjax.config import meanings, overrides, schema, settings
from mmjax.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / 'configs'


def _config(**sections):
  return settings.complete(ml_collections.ConfigDict(sections))


def test_defaults_are_legal_and_explained():
  settings.validate(settings.default_config())
  for section, fields in {'': schema.TOP, **schema.SECTIONS}.items():
    for name, field in fields.items():
      assert field.accepts(field.default), (section, name)
      assert field.meaning and field.describe(), (section, name)


@pytest.mark.parametrize(
  'sections, message',
  [
    ({'train': {'stepz': 3}}, 'train.stepz is not a config field; .*steps'),
    ({'trian': {}}, 'trian is not a config field; did you mean train'),
    ({'train': {'steps': 0}}, 'train.steps=0 .* whole number, at least 1'),
    ({'train': {'steps': 1.5}}, r'train.steps=1.5 is not legal: a whole'),
    ({'train': {'steps': True}}, 'train.steps=True is not legal'),
    ({'train': {'dtype': 'float16'}}, "one of 'float32', 'bfloat16'"),
    ({'train': {'ema_decay': 1.5}}, 'ema_decay=1.5 .* at most 1'),
    ({'optimizer': {'freeze': 'image'}}, 'freeze=.* a tuple of strings'),
    ({'optimizer': {'lr_scales': (('a',),)}}, 'regular expression, number'),
    ({'data': {'where': 3}}, 'data.where=3 is not legal: a dict, or None'),
    ({'data': {'mean': (0.5,)}}, 'data.mean=.* three numbers'),
    ({'data': {'std': (0.5, 0, 0.5)}}, 'data.std=.* more than 0'),
    ({'optimizer': {'lr': math.inf}}, 'optimizer.lr=inf is not legal'),
    (
      {'train': {'keep_best': 'loss'}},
      "keep_best='loss' is not a validation metric",
    ),
    ({'model': {'x': object()}}, 'model.x=.* plain data'),
    (
      {'mesh': {'style': 'pmap', 'fsdp': 2}},
      'whole model on every device, but mesh.fsdp=2',
    ),
    ({'mesh': {'data': 0}}, 'mesh.data=0 holds no device'),
    ({'train': {'batch_size': 5, 'accumulate': 2}}, '5 is not divisible'),
    ({'optimizer': {'warmup_steps': 1000}}, 'leaves no step of train.steps'),
    (
      {'data': {'eval_split': ''}, 'train': {'eval_every': 5}},
      'train.eval_every=5 needs data.eval_split',
    ),
    (
      {'data': {'eval_split': ''}, 'train': {'keep_best': 'val/loss'}},
      "set train.keep_best to ''",
    ),
    (
      {'data': {'eval_split': '', 'eval_where': {'source': 'a'}}},
      'set data.eval_where to None',
    ),
    ({'data': {'extra_splits': ('val',)}}, r"has \['val'\], which are the"),
  ],
)
def test_mistakes_name_the_field_and_what_is_legal(sections, message):
  with pytest.raises(ConfigError, match=message):
    settings.validate(_config(**sections))


def test_all_mistakes_are_told_at_once():
  with pytest.raises(ConfigError) as error:
    settings.validate(_config(train={'steps': 0, 'dtype': 'x'}, seed='y'))
  assert len(str(error.value).splitlines()) == 3


def test_a_section_that_is_no_dict_is_refused():
  with pytest.raises(ConfigError, match='train=3 is not legal'):
    settings.complete({'train': 3})


def test_json_gives_the_config_back(tmp_path):
  config = _config(data={'where': {'style': ('a', 'b')}})
  path = tmp_path / 'config.json'
  path.write_text(config.to_json())
  again = settings.from_json(path)
  settings.validate(again)
  assert again.data.where.style == ('a', 'b')
  assert settings.to_json(again) == settings.to_json(config)


def test_only_fields_that_matter_count_as_differences():
  old = settings.to_json(_config())
  later = {
    'train': {'steps': 2000, 'accumulate': 2, 'keep_best': 'val/x'},
    'model': {'image': {'remat': 'full'}},
    'tasks': {
      'contrastive': {'tile': 1024, 'ring': True},
      'draw': {'judge': 'runs/judge', 'guidance': 4.0},
    },
    'eval': {'batch_size': 3},
    'data': {'data_dir': '/elsewhere'},
    'mesh': {'data': 4, 'fsdp': 2},
  }
  assert not settings.differences(old, settings.to_json(_config(**later)))
  draws = {'draw': {'drop_condition': 0.2}}
  new = _config(optimizer={'lr': 0.5}, model={'width': 3}, seed=2, tasks=draws)
  assert settings.differences(old, settings.to_json(new)) == {
    'model.width': (None, 3),
    'optimizer.lr': (0.001, 0.5),
    'seed': (0, 2),
    'tasks.draw.drop_condition': (None, 0.2),
  }
  # A field that an older program didn't write has had its default.
  del old['optimizer']['no_muon']
  assert not settings.differences(old, settings.to_json(_config()))


def test_flags_are_parted_from_other_arguments():
  rest, found = overrides.split(
    [
      'prog',
      '--config=c.py:tiny',
      '--config.train.steps=3',
      '--config.data.where={"a": 1}',
      '--config.train.tensorboard',
      '--noconfig.model.scan',
      '--config.seed',
      '-3',
      '--workdir',
      'w',
    ]
  )
  assert rest == ['prog', '--config=c.py:tiny', '--workdir', 'w']
  assert found == [
    ('train.steps', '3'),
    ('data.where', '{"a": 1}'),
    ('train.tensorboard', 'true'),
    ('model.scan', 'false'),
    ('seed', '-3'),
  ]


@pytest.mark.parametrize(
  'path, text, value',
  [
    ('train.steps', '300', 300),
    ('optimizer.lr', '3e-4', 3e-4),
    ('optimizer.lr', '1', 1.0),
    ('optimizer.b2', 'None', None),
    ('optimizer.b2', '0.95', 0.95),
    ('optimizer.freeze', "('image/',)", ('image/',)),
    ('optimizer.freeze', 'image/,text/', ('image/', 'text/')),
    ('optimizer.lr_scales', "(('image', 0.1),)", (('image', 0.1),)),
    ('train.tensorboard', 'false', False),
    ('data.name', '123', '123'),
    ('data.data_dir', '/x', '/x'),
    ('model.encoder.width', '7', 7),
    ('model.encoder.width', '0.5', 0.5),
    ('model.encoder.rate', '1', 1.0),
    ('model.encoder.new', 'rope', 'rope'),
    ('tasks.caption.weight', '0.5', 0.5),
    ('seed', '5', 5),
    ('data.augment', "(dict(name='flip'),)", ({'name': 'flip'},)),
  ],
)
def test_an_override_is_read_by_its_fields_type(path, text, value):
  config = _config(
    model={'encoder': {'width': 3, 'rate': 0.5}},
    tasks={'caption': {'weight': 1.0}},
  )
  overrides.override(config, [(path, text)])
  settings.validate(config)
  for name in path.split('.'):
    config = config[name]
  assert config == value and type(config) is type(value)


@pytest.mark.parametrize(
  'path, text, message',
  [
    ('train.step', '3', r'is not a config field; did you mean train\.steps\?$'),
    ('trian.steps', '3', r'did you mean train\.steps\?$'),
    ('train.log', '3', r'did you mean train\.log_every\?$'),
    ('train.foo', '3', r'legal are train\.accumulate, (train\.\w+(, )?)+$'),
    ('model.encodr.widht', '3', r'did you mean model\.encoder\.width\?$'),
    ('data.image', '3', r'did you mean data\.image_size\?$'),
    ('adam.beta1', '3', r'did you mean optimizer\.b1\?$'),
    ('train.learning_rate', '3', 'did you mean optimizer.lr'),
    ('batch_size', '8', 'mean train.batch_size or eval.batch_size'),
    ('seed.x', '3', 'seed.x is not a config field'),
    ('train.steps', '3.5', '--config.train.steps=3.5 .* a whole number'),
    ('train.tensorboard', 'maybe', 'True or False'),
    ('model.encoder.width', 'wide', 'model.encoder.width is a number'),
    ('train.accumulate', '1.0', '--config.train.accumulate=1.0 .* a whole'),
    ('model.encodr.width', '3', 'did you mean model.encoder.width'),
    ('optimizer.name', 'adam', "one of 'adamw'.*; did you mean 'adamw'?"),
  ],
)
def test_an_override_that_is_not_legal_is_refused(path, text, message):
  config = _config(model={'encoder': {'width': 3}})
  with pytest.raises(ConfigError, match=message):
    overrides.override(config, [(path, text)])


def test_a_dict_that_a_part_lacks_is_added():
  config = _config(model={'encoder': {'width': 3}})
  overrides.override(config, [('model.encoder.block.norm', 'rmsnorm')])
  assert config.model.encoder.to_dict() == {
    'width': 3,
    'block': {'norm': 'rmsnorm'},
  }


def test_features_and_their_settings_are_added_by_name():
  config = _config()
  flags = ('age', "dict(kind='number')"), ('age.field', 'years')
  overrides.override(config, [(f'data.features.{n}', v) for n, v in flags])
  settings.validate(config)
  assert config.data.features.to_dict() == {
    'age': {'kind': 'number', 'field': 'years'}
  }
  with pytest.raises(ConfigError, match=r'did you mean data\.features\.age\.f'):
    overrides.override(config, [('data.features.aeg.field', 'years')])


@pytest.mark.parametrize(
  ('flag', 'hint'),
  [
    ('--batch_size', '--config.train.batch_size or --config.eval.batch_size'),
    ('--bach_size', '--config.train.batch_size or --config.eval.batch_size'),
    ('--width', '--config.model.image.width'),
    ('--xyzzy', ''),
  ],
)
def test_an_unknown_flag_names_the_fields_it_may_mean(tmp_path, flag, hint):
  path = tmp_path / 'some.py'
  path.write_text(
    "def get_config():\n  return {'model': {'image': {'width': 3}}}\n"
  )
  known = overrides.suggest(flag, str(path)).split(' or ')
  assert sorted(known) == sorted(hint.split(' or '))


def test_config_files(tmp_path):
  path = tmp_path / 'some.py'
  path.write_text(
    "def get_config(arg='none'):\n"
    "  if arg == 'bad':\n"
    "    raise ValueError('arg bad is none of tiny')\n"
    "  return {'experiment': arg, 'train': {'steps': 3}}\n"
  )
  config = overrides.load(f'{path}:tiny')
  assert config.experiment == 'tiny' and config.train.steps == 3
  assert config.train.batch_size == 64
  assert overrides.load(str(path)).experiment == 'none'
  with pytest.raises(ConfigError, match='arg bad is none of tiny'):
    overrides.load(f'{path}:bad')
  (tmp_path / 'some_base.py').write_text('SIZE = 3\n')
  for name, message in {
    'sme.py': r'no such file; did you mean \S*/some\.py\?',
    'xyz.py': r'no such file; there are \S*/some\.py$',
    'none/some.py': r'no such file; there is no folder \S*/none$',
    '': r'a folder, not a file; there are \S*/some\.py$',
  }.items():
    with pytest.raises(ConfigError, match=message):
      overrides.load(str(tmp_path / name))
  path.write_text('def get_config():\n  return {}\n')
  with pytest.raises(ConfigError, match='takes no argument'):
    overrides.load(f'{path}:tiny')
  path.write_text('def get_config():\n  pass\n')
  with pytest.raises(ConfigError, match='returned None, not a config'):
    overrides.load(str(path))
  path.write_text('')
  with pytest.raises(ConfigError, match='no function get_config'):
    overrides.load(str(path))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('def get_config(:', 'line 1: SyntaxError: invalid syntax'),
    ('import json\njson.loads(3)', 'line 2: TypeError: the JSON object must'),
    ('def get_config():\n  return stepz', "line 2: NameError: name 'stepz'"),
    ('def get_config(size): pass', 'TypeError: get_config() missing 1'),
  ],
)
def test_an_error_in_a_config_file_is_told_with_its_line(
  tmp_path, text, message
):
  path = tmp_path / 'some.py'
  path.write_text(text)
  with pytest.raises(ConfigError) as caught:
    overrides.load(str(path))
  assert str(caught.value).startswith(f'--config={path}')
  assert message in str(caught.value)


def test_a_config_that_is_no_python_is_refused(tmp_path):
  path = tmp_path / 'some.yaml'
  path.write_text('steps: 3')
  with pytest.raises(ConfigError, match='is not a Python file'):
    overrides.load(str(path))


def test_help_names_every_field():
  text = help_lib.text('An experiment.', '--flag')
  assert text.startswith('An experiment.')
  for section, fields in schema.SECTIONS.items():
    for name in fields:
      assert f'  {section}.{name}=' in text
  assert "'adamw'  update rule (adamw | lion" in text


def test_help_lists_the_names_that_a_config_can_use():
  lines = help_lib.text('An experiment.', '--flag').splitlines()
  (image,) = (line for line in lines if line.startswith('  model.image.name  '))
  assert {'vit,', 'resnet,', 'vit-b16,', 'resnet50,'} <= {*image.split()}
  (names,) = (line for line in lines if line.startswith('  tasks  '))
  assert 'captioning' in names


def test_help_describes_settings_of_blocks():
  config = overrides.load(str(CONFIGS / 'contrastive_shapes.py'))
  lines = help_lib.text('An experiment.', '--flag', config).splitlines()
  start = "  model.text.block.norm='layernorm'  'layernorm', 'rmsnorm' or"
  assert any(line.startswith(start) for line in lines)
  assert not any('.block.width' in line for line in lines)


def test_help_with_a_config_shows_its_own_values():
  config = settings.default_config()
  config.model = {'name': 'dual_encoder', 'image': {'width': 7}}
  lines = help_lib.text('An experiment.', '--flag', config).splitlines()
  assert '  model.image.width=7' in lines
  assert lines.index('Values of this config:') < lines.index('  seed=0')


def test_every_setting_of_a_config_has_a_meaning():
  tables = models.BUILT_IN.classes(), models.NESTED, tasks.TASKS
  for table in tables:
    for name, cls in table.items():
      fields = {f.name for f in dataclasses.fields(cls) if f.init}
      known = meanings.of_class(cls)
      assert fields - {'parent', 'name'} <= known.keys(), name
      assert all(len(meaning) > 4 for meaning in known.values()), name


def test_help_with_a_config_shows_what_else_could_be_set():
  config = overrides.load(str(CONFIGS / 'pretrain_shapes.py'))
  lines = help_lib.text('An experiment.', '--flag', config).splitlines()
  assert '  model.decoder.dropout=0.0  rate on the embedded tokens.' in lines
  start = '  tasks.contrastive.tile=0  number of candidates'
  assert any(line.startswith(start) for line in lines)
  given, ids = config.model.to_dict(), {'bos_id': 1, 'eos_id': 2, 'pad_id': 0}
  for part in ('', *(name for name in models.PARTS if given.get(name))):
    path = f'model.{part}' if part else 'model'
    section = given[part] if part else given
    section['widht'] = 3
    with pytest.raises(ValueError, match=f'{path}.widht is unknown') as told:
      models.build(given, models.DataSizes(7, 5, special_ids=ids))
    del section['widht']
    legal, _, hint = str(told.value).partition(' has ')[2].partition(';')
    legal = ast.literal_eval(legal)
    assert not hint or ('did you mean' in hint and 'width' in legal)
    # The data gives these two, if the config doesn't.
    for name in set(legal) - set(section) - {'max_length', 'vocab_size'}:
      assert any(line.startswith(f'  {path}.{name}=') for line in lines)
    shown = [line.split('=')[0] for line in lines if f'  {path}.' in line]
    shown = [line for line in shown if '  ' not in line.strip()]
    names = {line.removeprefix(f'  {path}.').split('.')[0] for line in shown}
    assert names <= {*legal, *models.PARTS, 'name'}
