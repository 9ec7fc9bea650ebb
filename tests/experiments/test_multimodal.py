"""One model of any fields is trained on several tasks and used."""

import jax
import numpy as np
import pytest

from benchmarks import fusion_training
from experiments import multimodal
from mmjax.cli import main as cli
from mmjax.config import settings
from mmjax.data import builders, shapes_senses, sources
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.runs import init_from, rebuild
from mmjax.training import program, runner, state

TRANSFORMER = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 8}
SOUND = {'kind': 'sound', 'rate': 4000, 'seconds': 0.3}
ENCODERS = {
  'image': {'name': 'vit', 'patch_size': 8, **TRANSFORMER},
  'sound': {
    'name': 'audio_transformer',
    **TRANSFORMER,
    'spectrogram': {'num_mels': 8, 'n_fft': 128, 'hop': 64},
  },
  'clip': {
    'name': 'frame_encoder',
    'width': 8,
    'image': {'name': 'vit', 'patch_size': 12, **TRANSFORMER},
  },
  'row': {
    'name': 'table_transformer',
    'inputs': ('total', 'event'),
    **TRANSFORMER,
  },
}
TASKS = {
  'align': {'features': ('image', 'sound', 'clip'), 'anchor': 'image'},
  'classify': {'target': 'shape'},
  'regress': {'target': 'sum'},
  'translate': {'target': 'said'},
}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  with pytest.MonkeyPatch.context() as patch:
    sizes = {'train': 12, 'validation': 5, 'test': 5}
    patch.setattr(shapes_senses, '_SIZES', sizes)
    builders.build(
      lambda data_dir: shapes_senses.ShapesSenses(data_dir=data_dir),
      folder,
      progress=False,
    )
  return folder


def make_config(data_dir, **changes):
  features = {
    'sound': SOUND,
    'clip': {'kind': 'video', 'number': 2, 'size': 24},
    'total': {'kind': 'number'},
    'sum': {'kind': 'number', 'field': 'total'},
    'event': {'kind': 'category'},
    'shape': {'kind': 'category', 'field': 'metadata/shape'},
    'said': {'kind': 'text', 'field': 'captions', 'length': 20},
  }
  config = {
    'experiment': 'multimodal',
    'data': {
      'name': 'shapes_senses',
      'data_dir': str(data_dir),
      'image_size': 16,
      'features': features,
    },
    'model': {
      'name': 'multimodal',
      'embed_dim': 4,
      'encoders': ENCODERS,
      'fusion': {'name': 'concat', 'width': 8},
      'decoder': {'name': 'text', **TRANSFORMER},
    },
    'tasks': TASKS,
    'train': {'steps': 2, 'batch_size': 4, 'log_every': 1},
    'eval': {'batch_size': 3},
  }
  for path, value in changes.items():
    section, name = path.split('__')
    config[section] = {**config[section], name: value}
  return settings.complete(config)


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  results = runner.run(make_config(data_dir), multimodal.build, folder)
  return folder, results, rebuild.load(folder)


@pytest.mark.slow
def test_every_task_is_measured_and_drawn(run):
  folder, results, _ = run
  for name in (
    'retrieval_image_sound/image_to_sound_r1',
    'retrieval_image_clip/mean_r1',
    'shape/accuracy',
    'shape/accuracy/only_clip',
    'shape/majority_accuracy',
    'sum/absolute_error',
    'sum/absolute_error/only_total',
    'said/exact',
    'said/exact/only_image',
  ):
    assert np.isfinite(results[f'test/{name}']), name
  drawn = {path.name for path in (folder / 'samples').glob('test_*')}
  assert drawn == {
    f'test_{name}_000002.png'
    for name in (
      'retrieval_image_sound',
      'retrieval_image_clip',
      'shape',
      'sum',
      'said',
    )
  }


@pytest.mark.slow
def test_seeds_of_a_benchmark_train_as_runs_do(run, data_dir):
  _, results, trained = run
  data = fusion_training.read(make_config(data_dir))
  found = fusion_training.train(data, data.model, (1, data.config.seed))
  other, same = found.params
  # Compiled on its own, with sums in another order.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    same,
    trained.params,
  )
  assert found.accuracies['shape'][1] == results['test/shape/accuracy']
  assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, other, same)))


@pytest.mark.slow
def test_a_run_takes_any_of_its_inputs(run, data_dir, tmp_path, capsys):
  folder, _, trained = run
  fields = sources.open_source('shapes_senses', 'test', data_dir=data_dir)[0][
    'fields'
  ]
  image, sound = tmp_path / 'a.png', tmp_path / 'a.wav'
  image.write_bytes(fields['image'])
  sound.write_bytes(fields['sound'])
  assert trained.embed(sound=[sound, sound]).shape == (2, 4)
  (shape,) = trained.classify(image=image, total=7)
  assert shape in shapes_senses.SHAPES
  assert trained.regress(sound=str(sound)).shape == (1, 1)
  assert len(trained.translate(image=image, sound=sound)) == 1
  with pytest.raises(ConfigError, match='the model reads clip, image'):
    trained.classify(shape='star')

  command = ['predict', str(folder), f'--image={image}']
  assert cli.main([*command, '--input', f'sound={sound}']) == 0
  head, *lines = capsys.readouterr().out.splitlines()
  assert head.split() == ['prob', 'shape'] and len(lines) == 4
  assert cli.main([*command, '--input', 'total=many']) == 2
  assert '--input total=many' in capsys.readouterr().err
  assert cli.main(['report', str(folder)]) == 0
  table = capsys.readouterr().out
  for label in (
    'image to clip R@1',
    'shape right',
    'sum absolute',
    'said exact',
  ):
    assert label in table


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'tasks__classify': {'target': 'smell'}},
      "tasks.classify needs 'smell', but data.features makes only",
    ),
    (
      {
        'tasks__regress': {'target': 'shape'},
        'tasks__classify': {'target': 'sum'},
      },
      "the target 'sum' is of the kind number; use one of the kind category",
    ),
    (
      {'tasks__align': {'features': ('image',)}},
      r'tasks.align: features=.* should be two different names',
    ),
    (
      {'model__encoders': {**ENCODERS, 'nose': {'name': 'vit'}}},
      r"model\.encoders\.nose reads the feature 'nose', but there are",
    ),
    (
      {'model__encoders': {k: ENCODERS[k] for k in ('image', 'sound', 'clip')}},
      r'data\.features\.(total|event) is read by nothing: model',
    ),
    (
      {
        'model__encoders': {
          **ENCODERS,
          'row': {'inputs': ('sound', 'total', 'event')},
        }
      },
      'only numbers, vectors and classes are read together',
    ),
    (
      {'model__encoders': {**ENCODERS, 'sound': {'name': 'vit'}}},
      r"sound\.name='vit' does not encode the feature 'sound', which is of the",
    ),
    (
      {
        'tasks__regress': {'target': 'total'},
        'model__encoders': {
          **ENCODERS,
          'row': {
            'name': 'table_transformer',
            'inputs': ('sum', 'total', 'event'),
          },
        },
      },
      "row reads 'total', which a task predicts; remove it",
    ),
    (
      {'model__decoder': None},
      "a task writes 'said', for which Multimodal needs model.decoder",
    ),
    (
      {
        'model__encoders': {
          **ENCODERS,
          'sound': {**ENCODERS['sound'], 'spectrogram': {'n_fft': 4000}},
        }
      },
      r'encoders\.sound cannot read data\.features\.sound: 1200 samples',
    ),
    (
      {'model__fusion': None},
      r'model\.fusion is missing: the encoders clip, image',
    ),
  ],
)
def test_what_does_not_fit_together_is_refused(data_dir, changes, message):
  config = make_config(data_dir, **changes)
  with pytest.raises(ConfigError, match=message):
    built = multimodal.build(config, program.mesh_of(config))
    state.shapes(built.model, built.init_batch)


def test_vectors_of_libraries_are_read_as_rows(data_dir):
  mlp = {'name': 'table_mlp', 'width': 8, 'mlp_dim': 7}
  encoders = {**ENCODERS, 'look': mlp, 'words': mlp}
  config = make_config(data_dir, model__encoders=encoders)
  config.data.features.look = {'kind': 'hog', 'field': 'image', 'size': 16}
  config.data.features.words = {'kind': 'tfidf', 'field': 'captions', 'size': 5}
  built = multimodal.build(config, program.mesh_of(config))
  params = state.shapes(built.model, built.init_batch)
  for name, width in (('look', 36), ('words', 5)):
    kernel = params[f'encoders_{name}']['hidden_0']['dense']['kernel']
    assert kernel.value.shape == (width, 7)


@pytest.mark.slow
def test_an_encoder_starts_from_that_of_a_run(run, data_dir):
  folder, _, trained = run
  config = make_config(data_dir)
  config.data.features.melody = {'kind': 'sound', 'field': 'sound'}
  config.data.features.counted = {'kind': 'number', 'field': 'total'}
  config.model.encoders = {
    'melody': {},
    'clip': {},
    'line': {'inputs': ('counted', 'event')},
  }
  config.init_from = (
    f'encoders.melody={folder}, encoders.clip={folder}#encoders.clip,'
    f'encoders.line={folder}'
  )
  resolved = init_from.resolve(config)
  features = resolved.data.features
  assert (features.melody.rate, features.melody.seconds) == (4000, 0.3)
  # What was computed from the run's training records.
  assert features.counted.mean == trained.preprocessor['total'].mean
  assert features.event.classes == trained.preprocessor['event'].classes
  described, given = resolved.model.encoders, config.model.encoders
  assert described.melody.spectrogram.hop == 64
  assert described.line.inputs == given.line.inputs
  names = {'melody': 'sound', 'clip': 'clip', 'line': 'row'}
  wanted = {
    f'encoders_{ours}': trained.params[f'encoders_{theirs}']
    for ours, theirs in names.items()
  }
  found = tree_paths.unflatten(init_from.load(resolved, wanted))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  config.init_from = str(folder)
  advice = f'its encoders, as in .*encoders.clip={folder}#encoders.clip'
  with pytest.raises(ConfigError, match=advice):
    init_from.resolve(config)
  config.init_from = f'encoders.line={folder}'
  config.model.encoders.line.inputs = ('counted',)
  with pytest.raises(ConfigError, match='reads 2 features, but enc'):
    init_from.resolve(config)
