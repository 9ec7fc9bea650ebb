"""Runs of tokenizers with a discriminator, and runs that start from one."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from experiments import draw
from mmjax import models, pretrained
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families
from mmjax.runs import init_from, rebuild
from mmjax.training import runner
from tests.pretrained import test_autoencoders

SIZE = 48
JUDGE = {'name': 'patch', 'width': 2, 'num_layers': 1, 'groups': 2}
PICTURE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def make_tokenizer(make_config, source=''):
  """Config of a tiny tokenizer with an adversarial loss."""
  config = make_config(source, 'tokenize_shapes.py')
  config.model.update(width=4, groups=2, discriminator=JUDGE)
  config.tasks.reconstruct.adversarial = 0.5
  config.train.log_every = 1
  return config


@pytest.fixture(scope='module')
def trained(make_config, tmp_path_factory):
  """Folder and results of a run."""
  folder = tmp_path_factory.mktemp('tokens')
  return folder, runner.run(make_tokenizer(make_config), draw.build, folder)


def make_shapes(config, **batch):
  """Shapes of the parameters of a config's model."""
  module = models.build(config.model, models.DataSizes(13, text_length=7))
  batch['image'] = np.zeros((1, SIZE, SIZE, 3), np.float32)
  init = lambda key, batch: module.init(key, batch, train=False)
  return nn.meta.unbox(jax.eval_shape(init, jax.random.key(0), batch))['params']


@pytest.mark.slow
def test_a_run_is_evaluated_logged_and_used(trained):
  folder, results = trained
  assert np.isfinite(results['test/reconstruct/psnr'])
  line = json.loads((folder / 'metrics.jsonl').read_text().splitlines()[0])
  for name in ('real', 'fake'):
    assert np.isfinite(line[f'reconstruct/{name}_logits'])
  run = rebuild.load(folder)
  assert 'discriminator' in run.params
  ids = run.encode_tokens(PICTURE)
  decoded, whole = run.decode_tokens(ids), run.reconstruct(PICTURE)
  np.testing.assert_allclose(decoded, whole.astype(int), atol=1)  # Rounding.


@pytest.mark.slow
def test_a_run_that_draws_starts_without_the_discriminator(
  trained, make_config
):
  folder, _ = trained
  config = make_config(f'autoencoder={folder}', 'draw_tokens_shapes.py')
  config = init_from.resolve(config)
  assert 'discriminator' not in config.model.autoencoder
  shapes = make_shapes(config, text=np.zeros((1, 7), np.int32))
  params = dict(rebuild.load(folder).params)
  assert params.pop('discriminator')
  found = tree_paths.unflatten(init_from.load(config, shapes))
  same(found, {'autoencoder': params})


@pytest.mark.slow
def test_a_tokenizer_starts_with_the_discriminator_that_its_config_names(
  trained, make_config
):
  folder, _ = trained
  config = init_from.resolve(make_tokenizer(make_config, folder))
  shapes = make_shapes(config)
  assert init_from.find_paths(config, shapes) == set(tree_paths.flatten(shapes))


@pytest.mark.slow
def test_a_published_model_is_tuned_with_one_and_saved_without(
  make_config, tmp_path
):
  values = test_autoencoders.VQ
  family = families.find(values)
  module = family.build_module(values, np.float32)
  shapes = checkpoint.shapes(module, family.inputs(values))
  params = jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), shapes)
  pretrained.save(family.model_class(module, params, values), tmp_path / 'vq')
  config = make_tokenizer(make_config, tmp_path / 'vq')
  runner.run(config, draw.build, tmp_path / 'run')
  run = rebuild.load(tmp_path / 'run')
  assert 'discriminator' in run.params
  saved = init_from.to_pretrained(run, tmp_path / 'run')
  assert 'discriminator' not in saved.params
  pretrained.save(saved, tmp_path / 'again')
  same(pretrained.load(tmp_path / 'again').params, saved.params)
