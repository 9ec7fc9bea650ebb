"""Runs that start from trained weights, and models from runs."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmjax
from experiments import captioning, contrastive, vqa
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.pretrained import tensors
from mmjax.runs import init_from, rebuild
from mmjax.training import program, runner

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
PICTURE = np.random.default_rng(0).integers(0, 256, (21, 21, 3), np.uint8)
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def _begin(config, build, workdir):
  """A run that learns and evaluates nothing, so that little is compiled."""
  idle = functools.partial(dataclasses.replace, objectives={}, evaluators={})
  runner.run(config, lambda config, mesh: idle(build(config, mesh)), workdir)


@pytest.fixture(scope='module')
def tuned(make_config, tmp_path_factory):
  """A run that began from the whole of a published CLIP."""
  workdir = tmp_path_factory.mktemp('tuned')
  runner.run(make_config(GOLDEN / 'clip'), contrastive.build, workdir)
  return workdir


@pytest.mark.slow
def test_a_run_starts_from_a_whole_published_model(tuned):
  clip = pretrained.load(GOLDEN / 'clip')
  run = rebuild.load(tuned)
  same(run.params, clip.params)
  assert run.config.data.image_size == (21, 21)
  mean, std = clip.preprocessor.mean, clip.preprocessor.std
  array = ((PICTURE / 255 - mean) / std).astype(np.float32)[None]
  np.testing.assert_allclose(
    run.encode_image(PICTURE),
    clip.jit_method('encode_image')(clip.params, array),
    rtol=0,
    atol=1e-5,
  )
  np.testing.assert_allclose(
    run.encode_text('a red cat'),
    clip.encode_text('a red cat'),
    rtol=0,
    atol=1e-5,
  )


@pytest.mark.slow
def test_a_run_that_began_so_is_saved_so(tuned, tmp_path, capsys):
  assert cli.main(['convert', str(tuned), str(tmp_path)]) == 0
  assert '6,165 parameters in 78 tensors' in capsys.readouterr().out
  there, here = tensors.Tensors(GOLDEN / 'clip'), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))
  loaded = mmjax.load(tuned)
  assert loaded.config == pretrained.load(GOLDEN / 'clip').config
  assert loaded.image_size == (21, 21)
  same(loaded.params, mmjax.load(tmp_path).params)


@pytest.mark.slow
def test_what_training_changed_is_what_is_saved(make_config, tmp_path):
  config = make_config(GOLDEN / 'clip')
  config.optimizer.lr, config.train.steps = 0.01, 2
  runner.run(config, contrastive.build, tmp_path / 'run')
  mmjax.save(mmjax.load(tmp_path / 'run'), tmp_path / 'out')
  params = rebuild.load(tmp_path / 'run').params
  same(pretrained.load(tmp_path / 'out').params, params)
  source = tree_paths.flatten(pretrained.load(GOLDEN / 'clip').params)
  moved = [
    p for p, x in tree_paths.flatten(params).items() if (x != source[p]).any()
  ]
  assert len(moved) > 0.9 * len(source)


@pytest.mark.slow
def test_towers_come_from_several_places(make_config, tuned, tmp_path):
  source = f'image={tuned},text={GOLDEN / "bert"}'
  _begin(make_config(source), contrastive.build, tmp_path)
  run = mmjax.load(tmp_path)
  assert isinstance(run, rebuild.Run)
  same(run.params['image'], pretrained.load(GOLDEN / 'clip').params['image'])
  bert = dict(pretrained.load(GOLDEN / 'bert').params)
  del bert['pooler']  # A sentence encoder of means.
  same(run.params['text'], bert)
  assert run.config.data.text_length == 9
  assert run.encode_text(['a cat', 'a red circle']).shape[0] == 2
  with pytest.raises(ValueError, match='the run trained its own DualEncoder'):
    mmjax.save(run, tmp_path / 'out')


def _same_files(here, there):
  here, there = tensors.Tensors(here), tensors.Tensors(there)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


@pytest.mark.slow
def test_two_towers_come_and_go_whole(make_config, tmp_path):
  config = make_config(GOLDEN / 'siglip2')  # Of any aspect ratio.
  config.tasks.contrastive.kind = 'sigmoid'
  config.data.image_size = 20
  _begin(config, contrastive.build, tmp_path / 'run')
  mmjax.save(mmjax.load(tmp_path / 'run'), tmp_path / 'out')
  _same_files(tmp_path / 'out', GOLDEN / 'siglip2')


@pytest.mark.slow
@pytest.mark.parametrize('family', ['blip_captions', 'blip2_t5', 'qwen2_5_vl'])
def test_captioners_train_on(make_config, tmp_path, family):
  config = make_config(GOLDEN / family, 'captioning_shapes.py')
  config.data.text_length = 11
  start = runner.run if family == 'blip2_t5' else _begin
  start(config, captioning.build, tmp_path / 'run')
  run = rebuild.load(tmp_path / 'run')
  published = pretrained.load(GOLDEN / family)
  same(run.params, published.params)
  if family == 'blip_captions':
    assert run.module.bos_id == published.module.bos_id
  if family.startswith('blip'):
    want = published.caption(PICTURE, max_new_tokens=10)
    assert run.caption(PICTURE) == want
  else:
    assert isinstance(run.caption(PICTURE)[0], str)
  mmjax.save(mmjax.load(tmp_path / 'run'), tmp_path / 'out')
  _same_files(tmp_path / 'out', GOLDEN / family)


@pytest.mark.parametrize(
  'family', ['align', 'llava', 'paligemma', 'blip2_opt', 'qwen2_vl']
)
def test_all_weights_have_their_place_in_an_experiment(make_config, family):
  """Of families whose kin are trained in the tests above."""
  experiment = contrastive if family == 'align' else captioning
  name = experiment.__name__.rpartition('.')[2]
  config = init_from.resolve(make_config(GOLDEN / family, f'{name}_shapes.py'))
  made = experiment.build(config, program.mesh_of(config))
  init = functools.partial(made.model.init, train=False)
  wanted = jax.eval_shape(init, jax.random.key(0), made.init_batch)
  found = init_from.load(config, nn.unbox(wanted['params']))
  same(tree_paths.unflatten(found), pretrained.load(GOLDEN / family).params)


@pytest.mark.slow
def test_blip_still_answers(make_config, tmp_path):
  source = GOLDEN / 'blip_answers'
  config = make_config(source, 'vqa_shapes.py:generation')
  runner.run(config, vqa.build, tmp_path)
  run, published = rebuild.load(tmp_path), pretrained.load(source)
  same(run.params, published.params)
  question, length = (
    'is there a cat?',
    run.preprocessor['questions'].max_new_tokens,
  )
  want = published.answer(PICTURE, question, max_new_tokens=length)
  assert run.answer(PICTURE, question) == want


@pytest.mark.slow
def test_a_tower_and_a_language_model_become_one(make_config, tmp_path):
  config = make_config(
    f'vision={GOLDEN / "clip"},decoder={GOLDEN / "llama"}',
    'vlm_2b.py:runlocal',
  )
  with pytest.raises(ConfigError, match='words have width 16; set'):
    _begin(config, captioning.build, tmp_path)
  config.model.projector.width = 16
  _begin(config, captioning.build, tmp_path)
  run = rebuild.load(tmp_path)
  same(run.params['vision'], pretrained.load(GOLDEN / 'clip').params['image'])
  llama = pretrained.load(GOLDEN / 'llama').params
  same(run.params['decoder'], llama.get('decoder', llama))


def test_what_cannot_be_converted_is_refused(tmp_path, capsys):
  shutil.copytree(GOLDEN / 'clip', tmp_path, dirs_exist_ok=True)
  assert cli.main(['convert', str(tmp_path), str(tmp_path)]) == 2
  assert 'IN and OUT are both' in capsys.readouterr().err
  assert cli.main(['convert', str(tmp_path / 'no'), str(tmp_path)]) == 2
  assert 'there is no folder' in capsys.readouterr().err


def _written_in_bfloat16(source, out):
  command = ['convert', str(source), str(out), '--dtype=bfloat16']
  assert cli.main(command) == 0
  held = tensors.Tensors(out)
  assert {str(held.read(name).dtype) for name in held.names} == {'bfloat16'}
  again = mmjax.load(out)
  want = mmjax.load(source).encode_text('a cat')
  np.testing.assert_allclose(again.encode_text('a cat'), want, atol=0.05)
  assert json.loads((out / 'config.json').read_text()) == again.config


def test_tensors_are_written_in_the_type_asked_for(tmp_path):
  _written_in_bfloat16(GOLDEN / 'siglip', tmp_path)


@pytest.mark.slow
def test_those_of_a_run_are_too(tuned, tmp_path):
  _written_in_bfloat16(tuned, tmp_path)
  loaded = mmjax.load(tuned, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
  kinds = {leaf.dtype for leaf in jax.tree.leaves(loaded.params)}
  assert kinds == {jnp.dtype('bfloat16')}
  assert loaded.module.dtype == jnp.bfloat16
  assert mmjax.load(tuned).module.dtype == jnp.float32


def test_a_run_starts_several_others(make_config, tuned, tmp_path):
  for name in 'ab':  # The second finds the arrays that the first gave up.
    _begin(make_config(tuned), contrastive.build, tmp_path / name)
  same(rebuild.load(tmp_path / 'b').params, rebuild.load(tuned).params)


def test_runs_of_before_a_field_was_there_open(tuned, tmp_path):
  shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
  config = json.loads((tmp_path / 'config.json').read_text())
  del config['data']['bos']
  (tmp_path / 'config.json').write_text(json.dumps(config))
  same(rebuild.load(tmp_path).params, rebuild.load(tuned).params)


def test_models_from_runs_do_what_they_were_trained_to(tuned, make_config):
  run = rebuild.load(tuned)
  expected = (
    f'<run of contrastive, step {run.step}: DualEncoder, 6,165 parameters>'
  )
  assert repr(run) == expected
  assert repr(mmjax.load(tuned)) == '<clip: DualEncoder, 6,165 parameters>'
  with pytest.raises(ValueError, match='cannot caption an image; it can embed'):
    run.caption(PICTURE)


def test_a_published_model_is_no_run():
  with pytest.raises(ConfigError, match='published model is opened with mmjax'):
    rebuild.load(GOLDEN / 'clip')
