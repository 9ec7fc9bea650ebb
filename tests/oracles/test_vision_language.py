"""Language models that see or hear, here, equal those of transformers."""

import dataclasses
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax import pretrained
from mmjax.pretrained import (
  configs,
  patches,
  qwen_vl,
)
from tests.oracles import harness
from tests.oracles import vision_language_batches as batches
from tests.oracles import vision_language_classes as classes
from tests.oracles import vision_language_configs as models

GOLDEN = pathlib.Path(__file__).parents[1] / 'pretrained/golden'


def original(name):
  torch.manual_seed(0)
  make, make_model, make_text, make_vision, more = classes.FAMILIES[
    name.split('_')[0]
  ]
  text, vision, both = models.CONFIGS[name]
  config = make(
    text_config=make_text(**text),
    vision_config=make_vision(**vision),
    **more,
    **both,
  )
  model = harness.randomise(make_model(config), 0.3)
  for key, parameter in model.named_parameters():
    # Words outweighed by their blocks, or each would be followed by itself.
    if parameter.ndim > 1 and not re.search('embed|lm_head|vis', key):
      parameter.data *= 2
    elif 'post_feedforward' in key:
      parameter.data += 3
  return model


@pytest.fixture(scope='module', params=models.CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def test_outputs_agree(pair):
  model, loaded = pair
  theirs, ours = batches.make(loaded)
  mask = np.asarray(ours['text_mask'])
  with torch.no_grad():
    want = model(**theirs).logits.numpy()
  got = loaded._forward(loaded.params, ours)['text_logits']
  assert want[mask].std(axis=0).min() > 0.1
  harness.check_close(np.asarray(got)[mask], want[mask])


def test_gradients_agree(pair):
  model, loaded = pair
  theirs, ours = batches.make(loaded)
  mask = np.asarray(ours['text_mask'])

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    return jnp.mean(out['text_logits'][mask] ** 2)

  def their_loss(model):
    return (model(**theirs).logits[torch.tensor(mask)] ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


def test_greedy_writing_agrees(pair):
  model, loaded = pair
  theirs, _ = batches.make(loaded, left=True)
  want = model.generate(
    **theirs, max_new_tokens=20, do_sample=False, pad_token_id=models.PAD
  )[:, theirs['input_ids'].shape[1] :]
  want = np.pad(want, ((0, 0), (0, 20 - want.shape[1])))
  program = loaded.jit_method(
    'generate',
    text_kind='continue',
    max_new_tokens=20,
    eos_id=(models.EOS,),
    pad_id=models.PAD,
  )
  for left in (False, True):
    ours = batches.make(loaded, left)[1]
    ours.pop('prefix_mask', None)  # All of a prompt is its prefix.
    got = program(loaded.params, ours).tokens
    np.testing.assert_array_equal(got, want)
  assert len(np.unique(want)) > 5


def test_the_thinker_of_a_whole_model_is_read(tmp_path):
  model = original('qwen25omni_odd')
  whole = transformers.Qwen2_5OmniForConditionalGeneration(
    transformers.Qwen2_5OmniConfig(
      thinker_config=model.config.to_dict(), enable_audio_output=False
    )
  )
  whole.thinker.load_state_dict(model.state_dict())
  loaded = harness.load_saved(whole, tmp_path / 'whole')
  want = harness.load_saved(model, tmp_path / 'thinker')
  jax.tree.map(np.testing.assert_array_equal, loaded.params, want.params)
  harness.check_saved(model, loaded, tmp_path / 'out')


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (5, 5), (20, 190)])
def test_images_are_cut_alike(size, tmp_path):
  processor = transformers.Qwen2VLImageProcessorPil(
    patch_size=4, min_pixels=8 * 16, max_pixels=32 * 40
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')
  ours = patches.PatchPreprocessor.from_config(
    config, qwen_vl.QwenVL.image_defaults
  )
  got, grid = ours([image])
  shape = [[grid.times, 2 * grid.rows, 2 * grid.columns]]
  np.testing.assert_array_equal(want['image_grid_thw'], shape)
  harness.close(got, want['pixel_values'], atol=1e-6)


def test_what_a_model_in_bfloat16_was_tuned_by_arrives(tmp_path):
  """In float32, whatever its config said; changes of 0.1% are seen there."""
  source = shutil.copytree(GOLDEN / 'llava', tmp_path / 'in')
  path = source / 'config.json'
  config = json.loads(path.read_text())
  path.write_text(json.dumps(configs.set_dtype(config, 'bfloat16')))
  loaded = pretrained.load(source)
  tuned = jax.tree.map(lambda leaf: leaf * 1.001, loaded.params)
  tuned = dataclasses.replace(loaded, params=tuned)
  pretrained.save(tuned, tmp_path / 'out')
  theirs = transformers.LlavaForConditionalGeneration.from_pretrained(
    tmp_path / 'out'
  )
  theirs.save_pretrained(tmp_path / 'back')
  back = pretrained.load(tmp_path / 'back').params
  jax.tree.map(np.testing.assert_array_equal, back, tuned.params)
