"""Every experiment trains, evaluates, draws, and lives on in its folder."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from experiments import (
  captioning,
  contrastive,
  dalle2,
  grpo,
  multimodal,
  pretrain,
  vqa,
)
from mmjax.cli import main as cli
from mmjax.config import experiment_file, overrides, settings
from mmjax.data import builders, shapes, sources, tfds_source
from mmjax.errors import ConfigError
from mmjax.inference import encoders, opened
from mmjax.runs import rebuild
from mmjax.training import baseline, program, runner

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
EXPERIMENTS = {
  'contrastive': contrastive,
  'captioning': captioning,
  'vqa': vqa,
  'pretrain': pretrain,
}
# What makes any of the models small; fields that a config lacks are left out.
SMALL = {
  'embed_dim': 8,
  'width': 16,
  'stages': (1,),
  'depth': 1,
  'unimodal_depth': 1,
  'num_heads': 2,
  'mlp_dim': 16,
}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A data set of the shapes kind with a few scenes."""
  folder = tmp_path_factory.mktemp('data')
  config = shapes.ShapesConfig(
    'tiny', train=24, validation=7, test=7, compositional=5
  )
  make = lambda data_dir: shapes.Shapes(config=config, data_dir=data_dir)
  builders.build(make, folder, progress=False)
  return folder


def small_config(name: str, data_dir: pathlib.Path, argument: str = ''):
  config = overrides.load(str(CONFIGS / f'{name}.py') + argument)
  with config.unlocked():
    config.data.update(name='shapes/tiny', data_dir=str(data_dir))
    config.train.update(
      steps=3, batch_size=4, log_every=1, eval_every=0, keep_best=''
    )
    config.optimizer.warmup_steps = 1
    config.eval.update(batch_size=4, num_examples=5)
    for part in (config.model, *config.model.values()):
      if hasattr(part, 'update'):
        part.update({k: v for k, v in SMALL.items() if k in part})
  return config


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  """(config's name, argument) -> config, folder and results of a run."""

  @functools.cache
  def train(name, argument=''):
    config = small_config(name, data_dir, argument)
    # Blind baselines are the same whatever is trained.
    config.train.blind_baseline = name == 'pretrain_shapes'
    folder = tmp_path_factory.mktemp(name)
    build = EXPERIMENTS[config.experiment].build
    return config, folder, baseline.run(config, build, folder)

  return train


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'argument', 'numbers', 'samples'),
  [
    (
      'contrastive_shapes',
      '',
      ['retrieval/image_to_text_r1', 'retrieval/chance_r1'],
      ['retrieval'],
    ),
    (
      'captioning_shapes',
      '',
      ['captions/exact', 'captions/attribute/color'],
      ['captions'],
    ),
    (
      'vqa_shapes',
      ':generation',
      ['vqa/accuracy', 'vqa/accuracy/color'],
      ['vqa'],
    ),
    (
      'pretrain_shapes',
      '',
      [
        'retrieval/mean_r1',
        'captions/exact',
        'vqa/accuracy',
        'vqa/blind_accuracy',
        'vqa/blind_accuracy/color',
      ],
      ['retrieval', 'captions', 'vqa'],
    ),
  ],
)
def test_trains_and_is_rebuilt(name, argument, numbers, samples, trained):
  config, folder, results = trained(name, argument)
  for number in numbers:
    for split in ('val', 'test', 'test/compositional'):
      assert np.isfinite(results[f'{split}/{number}']), (split, number)
  assert results == json.loads((folder / 'results.json').read_text())
  # After the first step, nothing is compiled.
  assert 'compilations' not in (folder / 'metrics.jsonl').read_text()
  for sample in samples:
    assert (folder / f'samples/test_{sample}_000003.png').stat().st_size

  run = rebuild.load(folder)
  mesh = program.mesh_of(config)
  built = EXPERIMENTS[config.experiment].build(config, mesh)
  batch = built.init_batch
  seen = jax.jit(
    lambda params, batch: run.module.apply(
      {'params': params}, batch, train=False
    )
  )(run.params, batch)
  assert set(seen) == set(
    jax.eval_shape(
      lambda b: built.model.init_with_output(jax.random.key(0), b, train=False)[
        0
      ],
      batch,
    )
  )
  assert run.preprocessor.to_dict() == json.loads(
    (folder / 'preprocess.json').read_text()
  )


def test_images_are_not_written_over_a_random_autoencoder(data_dir, tmp_path):
  config = small_config('unified_shapes', data_dir)
  with pytest.raises(ConfigError, match='what a random autoencoder makes'):
    runner.run(config, pretrain.build, tmp_path)


@pytest.mark.slow
def test_predict_and_report(trained, data_dir, tmp_path, capsys):
  _, folder, _ = trained('pretrain_shapes')
  image = tmp_path / 'scene.png'
  scene = sources.open_source('shapes/tiny', 'test', data_dir=data_dir)[0]
  image.write_bytes(scene['fields']['image'])
  ask = ['predict', str(folder), f'--image={image}']
  capsys.readouterr()

  assert cli.main([*ask, '--question=what color is the circle?']) == 0
  output = capsys.readouterr()
  assert f'{folder}: EMA of the weights of step 3' in output.err
  head, *answers = output.out.splitlines()
  assert head.split() == ['prob', 'answer']
  assert len(answers) == 3
  assert all('%' in line for line in answers)

  assert cli.main([*ask, '--text=a red circle', '--text=a blue star']) == 0
  ranked = capsys.readouterr().out
  assert ranked.startswith('cosine  text\n')
  assert 'a red circle' in ranked
  assert 'a blue star' in ranked

  assert cli.main(ask) == 0
  assert capsys.readouterr().out.strip()

  run = opened.open_model(str(folder))
  encoder = encoders.choose_encoder(run, 'image')
  found = encoder.encode([encoder.prepare(str(image))])
  np.testing.assert_allclose(found, run.model.embed(image=image), rtol=1e-6)

  assert cli.main(['report', str(folder)]) == 0
  table = capsys.readouterr().out
  assert 'right answers' in table
  assert 'test_retrieval_000003.png' in table


@pytest.mark.slow
def test_evaluate_repeats_the_test_results(trained, data_dir, tmp_path, capsys):
  config, folder, results = trained('pretrain_shapes')
  where = ['--data=shapes/tiny', f'--data_dir={data_dir}']
  sizes = [
    f'--{name}={config.eval[name]}' for name in ('batch_size', 'num_examples')
  ]
  output = f'--output={tmp_path / "out"}'
  command = ['evaluate', str(folder), *where, *sizes, output]
  assert cli.main(command) == 0
  table = capsys.readouterr().out
  assert all(m in table for m in ('image to text R@1', 'right answers'))
  written = json.loads((tmp_path / 'out/evaluation.json').read_text())
  expected = {
    name.removeprefix('test/'): value
    for name, value in results.items()
    if name.startswith('test/') and 'blind' not in name
  }
  own = {k: v for k, v in expected.items() if not k.startswith('compositional')}
  assert written['results'] == pytest.approx(own, abs=1e-6)
  assert (tmp_path / 'out/captions.png').stat().st_size

  target = '--target=metadata/none'
  assert cli.main([*command, '--task=zero_shot', target]) == 2
  assert 'metadata/none: no record has that' in capsys.readouterr().err


CHOICES = {
  'clip': ('b16,', 'l14,'),
  'stamps': ('align,', 'align_without_voice,', 'classify,', 'translate,'),
  'classify_senses': ('', 'regress,'),
  'translate_names': ('', 'image,'),
  'fusion_senses': tuple(
    f'{name},'
    for name in (
      'feature',
      'model',
      'layer',
      'linear',
      'joint',
      'align',
      'fusion',
    )
  ),
}


def _configs():
  """Every config file, with each of the sizes that it has to choose from."""
  for path in sorted(CONFIGS.glob('[!_]*.py')):
    if path.stem != 'shapes_base':
      sizes = CHOICES.get(path.stem, ('',))
      yield from ((path, size) for size in sizes)


@pytest.mark.parametrize(
  'path, size',
  list(_configs()),
  ids=lambda value: getattr(value, 'stem', value),
)
def test_configs_are_legal(path, size):
  for argument in ('', 'runlocal'):
    config = overrides.load(f'{path}:{size}{argument}')
    settings.validate(config)
    found = experiment_file.find(config.experiment)
    known = (*EXPERIMENTS.values(), multimodal, dalle2, grpo)
    assert found in [module.build for module in known]
  assert config.train.steps <= 400
  with pytest.raises(ConfigError, match=r"'nonsense' is unknown.*runlocal"):
    overrides.load(f'{path}:nonsense')


def test_a_small_run_can_write_answers():
  config = overrides.load(str(CONFIGS / 'vqa_shapes.py:generation,runlocal'))
  assert 'vqa_generation' in config.tasks
  assert config.data.name == 'shapes/small'


def test_a_setting_that_a_model_lacks_is_named(data_dir, tmp_path):
  config = small_config('contrastive_shapes', data_dir)
  with config.unlocked():
    config.model.image.pathc_size = 4
  with pytest.raises(ConfigError, match=r'model\.image\.pathc_size'):
    runner.run(config, contrastive.build, tmp_path)


@pytest.mark.parametrize('name', [*EXPERIMENTS])
@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('model.image.width', 0, r'model\.image\.width must be more than 0'),
    ('model.image.width', 8.5, r'model\.image\.width must be int, got 8\.5'),
    ('data.augment', ({'name': 'flipp'},), "augmentation 'flipp' is unknown"),
    ('tasks.nosuch', {}, r'tasks\.nosuch is unknown'),
  ],
)
def test_mistakes_raise_before_data_is_read(
  name, path, value, message, tmp_path
):
  config = overrides.load(str(CONFIGS / f'{name}_shapes.py'))
  config.data.data_dir = str(tmp_path)
  section, field = path.rpartition('.')[::2]
  with config.unlocked():
    if field in config[section]:
      del config[section][field]  # It may have another type.
    config[section][field] = value
  with pytest.raises(ConfigError, match=message):
    runner.run(config, EXPERIMENTS[name].build, tmp_path / 'run')


@pytest.mark.parametrize(
  ('name', 'lacks', 'message'),
  [
    ('contrastive_shapes', 'captions', 'contrastive needs .* none of 24 recor'),
    ('captioning_shapes', 'captions', 'captioning needs .* a caption, but'),
    (
      'vqa_shapes',
      'questions',
      'vqa_classification needs .* a question and an',
    ),
    ('vqa_shapes:generation', 'questions', 'vqa_generation needs .* an answer'),
    ('pretrain_shapes', 'questions', 'vqa_classification needs'),
    ('pretrain_shapes', 'captions', 'needs records with an image and a cap'),
  ],
)
def test_data_that_an_objective_cannot_use_are_refused(
  name, lacks, message, data_dir, tmp_path, monkeypatch
):
  whole = tfds_source.TfdsRecords.read

  def read(self, *args, **kwargs):
    record = whole(self, *args, **kwargs)
    record['fields'].pop(lacks, None)
    return record

  monkeypatch.setattr(tfds_source.TfdsRecords, 'read', read)
  name, _, argument = name.partition(':')
  argument = f':{argument}' if argument else ''
  config = small_config(name, data_dir, argument)
  build = EXPERIMENTS[config.experiment].build
  with pytest.raises(ConfigError, match=message):
    baseline.run(config, build, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_may_have_nothing_to_validate_on(data_dir, tmp_path):
  config = small_config('contrastive_shapes', data_dir)
  config.data.train_split = 'train+validation'
  config.data.eval_split = ''
  results = runner.run(config, contrastive.build, tmp_path)
  kinds = {name.rpartition('/')[0] for name in results}
  assert kinds - {''} == {'test/retrieval', 'test/compositional/retrieval'}


def test_a_batch_larger_than_the_data_is_noted(make_config):
  for batch_size, is_noted in ((8, False), (16, True)):
    config = make_config('')
    config.train.batch_size = batch_size
    build = EXPERIMENTS['contrastive'].build
    notes = build(config, program.mesh_of(config)).notes
    assert any('more than the 8 records' in n for n in notes) == is_noted
