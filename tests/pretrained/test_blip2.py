"""BLIP-2: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import blip2, checkpoint, tensors

GOLDEN = Path(__file__).parent / 'golden'
PROMPTS = ['a small', 'cat']
NEW = 8
# A ViT, two blocks of queries and a projection in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module', params=['blip2_opt', 'blip2_t5'])
def golden(request):
  return GOLDEN / request.param


@pytest.fixture(scope='module')
def loaded(golden):
  return pretrained.load(golden)


@pytest.fixture(scope='module')
def expected(golden):
  return np.load(golden / 'expected.npz')


@pytest.fixture(scope='module')
def images(expected):
  return [expected['pixels'], expected['pixels'][:, ::-1]]


def test_images_are_seen_as_transformers_does(loaded, expected, images):
  batch, _ = loaded.prepare_batch(images, PROMPTS)
  seen = loaded.jit_method('encode_images')(loaded.params, batch)
  close(seen.values, expected['features'])
  length = len(expected['first_ids'])
  assert batch['text'][0, :length].tolist() == expected['first_ids'].tolist()


def test_what_is_written_is_what_transformers_writes(loaded, expected, images):
  written = loaded.generate(images, PROMPTS, max_new_tokens=NEW)
  assert written == expected['texts'].tolist()
  assert len(set(written)) == 2
  captions = loaded.caption(images[0], PROMPTS[0], max_new_tokens=NEW)
  assert captions == written[:1]


def test_what_is_saved_is_what_was_loaded(golden, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(golden), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def change_config(folder, section, **values):
  shutil.copytree(GOLDEN / 'blip2_opt', folder, dirs_exist_ok=True)
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(values)
  path.write_text(json.dumps(config))
  return folder


def test_older_configs_name_no_placeholder(tmp_path, images):
  folder = change_config(tmp_path, '', image_token_index=None)
  old, new = pretrained.load(folder), pretrained.load(GOLDEN / 'blip2_opt')
  few = {'max_new_tokens': 2}
  assert old.caption(images, **few) == new.caption(images, **few)


@pytest.mark.parametrize(
  ('section', 'values', 'message'),
  [
    ('', {'architectures': ['Blip2Model']}, r"is \['Blip2Model'\]; of"),
    ('text_config', {'model_type': 'llama'}, "model_type is 'llama'; mmjax"),
    ('vision_config', {'qkv_bias': False}, 'qkv_bias is False'),
    (
      'qformer_config',
      {'use_qformer_text_input': True},
      'use_qformer_text_input is True',
    ),
    (
      'qformer_config',
      {'cross_attention_frequency': 1},
      r'layer.1.crossattention.* is missing',
    ),
    ('', {'num_query_tokens': 4}, r'query_tokens is \[1, 3, 8\], not \[1, 4'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, section, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, section, **values))


OPT = {
  'model_type': 'opt',
  'hidden_size': 2560,
  'ffn_dim': 10240,
  'num_hidden_layers': 32,
  'num_attention_heads': 32,
}
FLAN = {
  'model_type': 't5',
  'd_model': 2048,
  'd_ff': 5120,
  'num_layers': 24,
  'num_heads': 32,
  'feed_forward_proj': 'gated-gelu',
  'tie_word_embeddings': False,
}
# Parameters of the published checkpoints.
SIZES = {
  'OPT 2.7B': (OPT, {}, 3_744_679_936),
  'Flan-T5 xl': (FLAN, {'separate_head': True}, 3_942_446_592),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  text, found, number = SIZES[name]
  config = {'text_config': text, **found}
  shapes = checkpoint.shapes(blip2.module(config), blip2.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number
