"""DALL-E 2's stages, one after the other, and what the last run can do."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from experiments import dalle2
from mmjax.cli import main as cli
from mmjax.config import overrides, settings
from mmjax.data import builders, shapes
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.runs import rebuild
from mmjax.training import experiment

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'dalle2_shapes.py'
STACK = {'width': 8, 'num_heads': 2, 'mlp_dim': 11, 'depth': 1}
TRAIN = {
  'steps': 2, 'batch_size': 4, 'log_every': 1, 'eval_every': 0,
  'keep_best': '', 'ema_decay': 0.0,
}  # fmt: skip


def shrink(section):
  section.train.update(TRAIN)
  section.optimizer.warmup_steps = 1
  for part in section.model.values():
    if hasattr(part, 'update'):
      part.update({k: v for k, v in STACK.items() if k in part})


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  tiny = shapes.ShapesConfig(
    'tiny', train=12, validation=3, test=3, compositional=3
  )
  builders.build(
    lambda data_dir: shapes.Shapes(config=tiny, data_dir=data_dir),
    folder,
    progress=False,
  )
  config = settings.complete(overrides.load(f'{CONFIG}:runlocal'))
  with config.unlocked():
    config.data.update(
      name='shapes/tiny', data_dir=str(folder), extra_splits=()
    )
    config.eval.update(batch_size=3, num_examples=3)
    for section in (config, config.stages.towers, config.stages.prior):
      shrink(section)
    config.stages.towers.model.update(embed_dim=6)
    config.stages.towers.model.image.update(width=16, stages=(1,))
    config.stages.prior.model.prior.embed_dim = 6
    chosen = {'steps': 2, 'guidance': 1.0}
    config.tasks.unclip.update(chosen, drop_condition=0.0)
    for tasks in (config.tasks.unclip.prior, config.stages.prior.tasks.prior):
      tasks.update(chosen, candidates=1)
  settings.validate(config)
  return config


@pytest.fixture(scope='module')
def folder(config, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  by_split = experiment.by_split
  with pytest.MonkeyPatch.context() as patch:
    # Each split compiles its own programs; one is enough.
    only_test = lambda splits, measures: by_split(
      [split for split in splits if split == 'test'], measures
    )
    patch.setattr(experiment, 'by_split', only_test)
    results = dalle2.run(config, dalle2.build, folder)
  assert {'test/drawings/right', 'test/variations/true'} <= set(results)
  return folder


@pytest.fixture(scope='module')
def run(folder):
  return rebuild.load(folder)


def image(color):
  return np.full((48, 48, 3), color, np.uint8)


def test_stages_start_from_those_before_and_leave_them_as_they_are(folder, run):
  towers, prior = (rebuild.load(folder / name) for name in ('towers', 'prior'))
  found = json.loads((folder / 'prior' / 'results.json').read_text())
  assert {'test/prior/cosine', 'test/prior/text_r1'} <= set(found)
  flat = [tree_paths.flatten(x.params) for x in (towers, prior, run)]
  for path, leaf in flat[0].items():
    for other in flat[1:]:
      np.testing.assert_array_equal(other[f'towers/{path}'], leaf)
  moved = {path for path in flat[1] if path.startswith('prior/')}
  assert moved and all(np.array_equal(flat[1][p], flat[2][p]) for p in moved)
  # What was drawn can be opened without the experiment's file.
  assert 'stages' not in run.config
  assert 'prior' not in towers.config.model


def test_drawings_are_functions_of_seed_and_text(run):
  texts = ['a red circle'] * 2
  drawn = run.draw(texts, seed=3)
  assert drawn.shape == (2, 48, 48, 3) and drawn.dtype == np.uint8
  np.testing.assert_array_equal(run.draw(texts, seed=4)[0], drawn[1])
  cells = run.tasks['unclip'].predict_use.draw(run, {}, texts, seed=3)
  np.testing.assert_array_equal([image for image, _ in cells], drawn)


def test_variations_are_functions_of_seed_and_image(run):
  varied = run.vary(image(30), number=3, seed=5)
  assert varied.shape == (1, 3, 48, 48, 3)
  again = run.vary(image(30), number=3, seed=6)
  np.testing.assert_array_equal(again[0, :2], varied[0, 1:])


def test_between_two_images_are_both(run):
  images = [image(30), image(220)]
  between = run.interpolate(*images, number=3)
  assert between.shape == (3, 48, 48, 3)
  back = run.interpolate(*images[::-1], number=3)
  np.testing.assert_allclose(back[::-1].astype(int), between, atol=1)
  # The first is the image itself, out of its own noise.
  changed = run.change(images[0], 'a red circle', 'a blue circle', number=3)
  np.testing.assert_allclose(changed[0].astype(int), between[0], atol=1)


def test_an_image_with_one_text_is_refused(folder, tmp_path, capsys):
  PIL.Image.fromarray(image(30)).save(tmp_path / 'in.png')
  command = ['predict', str(folder), f'--output={tmp_path / "out.png"}']
  command += [f'--image={tmp_path / "in.png"}', '--text=a red circle']
  assert cli.main(command) == 2
  assert 'an image and 1 texts' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda run: run.draw('a red circle ' * 20), 'tokens, but the model reads'),
    (lambda run: run.draw('a', guidance=-1), 'guidance=-1 is not legal'),
    (lambda run: run.vary(image(0), number=0), 'number=0 is not legal'),
    (lambda run: run.vary(image(0), steps=0), 'steps=0 is not legal'),
    (lambda run: run.interpolate(image(0), image(1), number=1), 'number=1 is'),
    (lambda run: run.change(image(0), 'a', 'b', most=2), 'most=2 is not legal'),
    (lambda run: run.change(image(0), 'a', 'a ' * 99), 'but the model reads'),
  ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(run, call, message):
  with pytest.raises(ConfigError, match=message):
    call(run)


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('tasks.unclip.prior.schedule', 'flat', 'tasks.unclip.prior: schedule'),
    ('tasks.unclip.prior.stepz', 3, 'tasks.unclip.prior.stepz is unknown'),
    (
      'model.generator.embedding_feature',
      'x',
      "generator.embedding_feature='x'",
    ),
    ('model.prior.embed_dim', 5, 'but the towers embed in 6 numbers'),
  ],
)
def test_settings_that_do_not_fit_are_refused(
  config, folder, tmp_path, path, value, message
):
  changed = config.copy_and_resolve_references()
  name = 'prior' if path.startswith('model.prior') else ''
  with changed.unlocked():
    if name:
      changed.update(changed.stages.prior)
    section, _, field = path.rpartition('.')
    target = changed
    for key in section.split('.'):
      target = target[key]
    target[field] = value
    del changed['stages']
    changed.init_from = f'towers={folder / "towers"}'
    if not name:
      changed.init_from += f',prior={folder / "prior"}'
  with pytest.raises(ConfigError, match=message):
    dalle2.run(changed, dalle2.build, tmp_path / 'run')
