"""Runs that train adapters beside frozen weights."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmjax
from experiments import contrastive
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.nn import adapters, quantized
from mmjax.ops import tree_paths
from mmjax.runs import checkpoints, init_from, rebuild
from mmjax.training import runner

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
TEXTS = ['a red cat', 'two dogs']
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def _with_adapters(config, steps, **settings):
  config.optimizer.update(lr=0.03, schedule='constant')
  config.train.update(steps=steps, ema_decay=0.5, checkpoint_every=1)
  config.adapter = {
    'layers': ('attention/(query|out)$', 'text/.*mlp', '_projection/'),
    'train': ('log_scale',),
    'rank': 3,
    'alpha': 5.0,
    'dropout': 0.25,
    'dora': True,
    **settings,
  }
  return config


def _train(config, workdir):
  unmeasured = functools.partial(dataclasses.replace, evaluators={})
  runner.run(
    config, lambda *args: unmeasured(contrastive.build(*args)), workdir
  )


@pytest.fixture(scope='module')
def adapted(make_config, tmp_path_factory):
  """A run of two steps whose adapters learn beside a CLIP."""
  workdir = tmp_path_factory.mktemp('adapted')
  _train(_with_adapters(make_config(GOLDEN / 'clip'), 2), workdir)
  return workdir


@pytest.mark.slow
def test_only_adapters_and_what_is_named_are_trained(adapted):
  run = rebuild.load(adapted)
  clip = tree_paths.flatten(pretrained.load(GOLDEN / 'clip').params)
  params = tree_paths.flatten(run.params)
  assert {path for path in params if not adapters.is_adapter(path)} == set(clip)
  for path, leaf in clip.items():
    if 'log_scale' in path:
      assert params[path].dtype == jnp.float32
      assert params[path] != leaf
    else:
      np.testing.assert_array_equal(params[path], leaf.astype(jnp.bfloat16))
  layers = {path.rpartition('/')[0] for path in params if 'lora_b' in path}
  assert 'image/blocks/layers/attention/query' in layers
  assert 'image/blocks/layers/attention/key' not in layers
  assert 'image/blocks/layers/mlp/up' not in layers
  assert 'text/blocks/layers/mlp/up' in layers
  for layer in layers:
    assert (params[f'{layer}/lora_b'] != 0).any(), layer
    np.testing.assert_allclose(params[f'{layer}/lora_scale'], 5 / 3)
    np.testing.assert_array_equal(params[f'{layer}/lora_dropout'], 0.25)
  held = checkpoints._load(adapted / 'checkpoints/2/opt_state')
  moments = {
    path.split('/mu/')[1] for path in tree_paths.flatten(held) if '/mu/' in path
  }
  trained = {path for path in params if adapters.is_trained(path)}
  assert moments == {*trained, 'scale/log_scale'}


@pytest.mark.slow
def test_a_run_resumes_exactly(adapted, make_config, tmp_path):
  config = make_config(GOLDEN / 'clip')
  _train(_with_adapters(config, 1), tmp_path)
  _train(_with_adapters(config, 2), tmp_path)
  for ema in (False, True):
    same(
      checkpoints.load_params(tmp_path, ema=ema),
      checkpoints.load_params(adapted, ema=ema),
    )


@pytest.mark.slow
def test_quantised_kernels_are_kept_resumed_and_merged(make_config, tmp_path):
  quantize = {
    'quantize': 'nf4',
    'double_quantize': True,
    'frozen_dtype': 'float32',
  }
  for folder, steps in (('straight', [2]), ('resumed', [1, 2])):
    for number in steps:
      config = make_config(GOLDEN / 'clip')
      _train(_with_adapters(config, number, **quantize), tmp_path / folder)
  run = rebuild.load(tmp_path / 'resumed')
  same(run.params, rebuild.load(tmp_path / 'straight').params)
  packed = quantized.find(run.params)
  clip = tree_paths.flatten(pretrained.load(GOLDEN / 'clip').params)
  for layer, kernel in packed.items():
    want = clip[f'{layer}/kernel']
    assert kernel.kind == 'nf4' and kernel.scales.dtype == np.uint8
    distance = np.abs(quantized.as_array(kernel) - want)
    # Half of the largest distance of two values of NF4, and a scale's rounding.
    assert distance.max() <= 0.2 * np.abs(want).max()
  # Others have fewer than 16 inputs.
  names = {f'{tower}/blocks/layers/mlp/down' for tower in ('image', 'text')}
  assert packed.keys() == names
  opened = mmjax.load(tmp_path / 'resumed')
  want = tree_paths.flatten(adapters.merge(run.params))
  got = tree_paths.flatten(adapters.merge(opened.params))
  assert got.keys() == clip.keys()
  for path, leaf in got.items():
    np.testing.assert_allclose(leaf, want[path], rtol=0, atol=1e-5)
  np.testing.assert_allclose(
    opened.encode_text(TEXTS), run.encode_text(TEXTS), rtol=0, atol=1e-4
  )
  config = init_from.resolve(
    settings.complete(make_config(tmp_path / 'resumed'))
  )
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32),
    adapters.split(opened.params)[0],
  )
  same(init_from.load(config, shapes), want)


@pytest.fixture(scope='module')
def written(adapted, tmp_path_factory):
  """The run's adapters as a folder of PEFT's, and merged as a model."""
  folder = tmp_path_factory.mktemp('written')
  params = rebuild.load(adapted).params
  # PEFT has no place for a bare parameter that was trained too.
  with pytest.raises(ConfigError, match='no place for scale/log_scale'):
    mmjax.save_adapter(mmjax.load(adapted), folder / 'adapter')
  model = dataclasses.replace(mmjax.load(adapted), tuned=())
  mmjax.save_adapter(model, folder / 'adapter')
  assert cli.main(['convert', str(adapted), str(folder / 'merged')]) == 0
  return folder, params


@pytest.mark.slow
def test_the_run_its_adapter_and_the_merged_model_embed_alike(adapted, written):
  folder, _ = written
  run = rebuild.load(adapted)
  want = run.encode_text(TEXTS)
  clip = pretrained.load(GOLDEN / 'clip')
  assert np.abs(want - clip.encode_text(TEXTS)).max() > 1e-3
  opened = mmjax.load(folder / 'adapter')
  assert opened.base == str(GOLDEN / 'clip')
  for model, tolerance in (
    (mmjax.load(adapted), 1e-5),
    (mmjax.load(folder / 'merged'), 1e-5),
    # Its base is not rounded to bfloat16.
    (opened, 1e-2),
  ):
    np.testing.assert_allclose(
      model.encode_text(TEXTS), want, rtol=0, atol=tolerance
    )
  own = lambda tree: tree_paths.flatten(adapters.split(tree)[1])
  for path, leaf in own(opened.params).items():
    np.testing.assert_allclose(
      leaf, own(run.params)[path], rtol=1e-6, err_msg=path
    )


@pytest.mark.slow
def test_runs_start_from_the_merged_weights(adapted, written, make_config):
  folder, _ = written
  for source in (adapted, folder / 'adapter', folder / 'merged'):
    config = init_from.resolve(settings.complete(make_config(source)))
    model = mmjax.load(source)
    want = tree_paths.flatten(adapters.merge(model.params))
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16),
      adapters.split(model.params)[0],
    )
    found = init_from.load(config, shapes)
    assert found.keys() == want.keys()
    for path, leaf in found.items():
      assert leaf.dtype == jnp.bfloat16
      np.testing.assert_array_equal(leaf, want[path].astype(jnp.bfloat16))


@pytest.mark.parametrize(
  ('init', 'changed', 'message'),
  [
    ('clip', {'layers': ('atention',)}, "'atention' matches no parameter"),
    ('clip', {'layers': ('norm/scale',)}, 'matches no parameter'),
    ('', {}, 'init_from is empty'),
    ('clip', {'train': ('classifier',)}, "'classifier' matches no parameter"),
  ],
)
def test_adapters_that_fit_nothing_are_refused(
  make_config, init, changed, message
):
  config = make_config(GOLDEN / init if init else '')
  with pytest.raises(ConfigError, match=message):
    runner.check(_with_adapters(config, 1, **changed), contrastive.build)
