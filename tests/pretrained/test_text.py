"""Language models: as transformers computed them, out again, and refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import checkpoint, families, tensors

GOLDEN = Path(__file__).parent / 'golden'
PROMPTS = ['a small red circle is', 'cat', 'a large blue square is a cat']
NEW = 12


@pytest.fixture(
  scope='module',
  params=[
    'gemma3_text',
    'gpt2',
    'llama',
    'mistral',
    'opt',
    'qwen2',
    'qwen3',
  ],
  name='golden',
)
def golden_folder(request):
  return GOLDEN / request.param


@pytest.fixture(scope='module')
def loaded(golden):
  return pretrained.load(golden)


def test_logits_and_texts_are_those_of_transformers(golden, loaded):
  expected = np.load(golden / 'expected.npz')
  logits = loaded.logits(PROMPTS)
  want = expected['logits']
  # Logits up to 10, after two blocks in float32.
  np.testing.assert_allclose(logits[-1, : len(want)], want, rtol=0, atol=1e-4)
  written = loaded.generate(PROMPTS, max_new_tokens=NEW)
  assert [text.strip() for text in written] == expected['texts'].tolist()
  alone = loaded.generate(PROMPTS[1], max_new_tokens=NEW)
  assert alone == written[1:2]


def test_what_is_saved_is_what_was_loaded(golden, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  there, here = tensors.Tensors(golden), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def test_gpt2_as_it_was_first_published(tmp_path):
  """Without the prefix, and with buffers."""
  shutil.copytree(GOLDEN / 'gpt2', tmp_path, dirs_exist_ok=True)
  source = tensors.Tensors(GOLDEN / 'gpt2')
  old = {
    name.removeprefix('transformer.'): source.read(name)
    for name in source.names
  }
  old['h.0.attn.bias'] = np.ones((1, 1, 40, 40), np.float32)
  old['h.1.attn.masked_bias'] = np.ones((), np.float32)
  tensors.write(tmp_path, old.items())
  want = pretrained.load(GOLDEN / 'gpt2').params
  got = pretrained.load(tmp_path).params
  jax.tree.map(np.testing.assert_array_equal, got, want)


def change_config(folder, name, **values):
  shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  return folder


def test_special_ids(tmp_path):
  model = pretrained.load(change_config(tmp_path, 'llama', eos_token_id=[3, 4]))
  ids = {'eos_token_id': 7, 'pad_token_id': -1}
  generation = {'generation_config.json': json.dumps(ids).encode()}
  again = dataclasses.replace(model, files=generation)
  assert again.eos_ids == (7,) and again.pad_id == 7
  nothing = dataclasses.replace(model, files={})
  assert nothing.eos_ids == (3, 4) and nothing.pad_id == 3
  config = {**model.config, 'eos_token_id': None, 'pad_token_id': 5}
  other = dataclasses.replace(model, files={}, config=config)
  assert other.eos_ids == () and other.pad_id == 5


@pytest.mark.parametrize(
  ('name', 'values', 'message'),
  [
    ('gpt2', {'scale_attn_by_inverse_layer_idx': True}, 'layer_idx is True'),
    ('gpt2', {'activation_function': 'mish'}, "activation_function is 'mish'"),
    (
      'gpt2',
      {'architectures': ['GPT2ForSequenceClassification']},
      r"architectures is \['GPT2F",
    ),
    ('llama', {'rope_parameters': {'rope_type': 'yarn'}}, "is 'yarn'"),
    ('llama', {'attention_bias': True}, 'q_proj.bias .* is missing'),
    ('opt', {'do_layer_norm_before': False}, 'norm_before is False; mmjax'),
    ('opt', {'word_embed_proj_dim': 8}, 'word_embed_proj_dim is 8; mmjax'),
    (
      'qwen2',
      {'layer_types': ['sliding_attention'], 'use_sliding_window': True},
      r"layer_types is \['sliding_attention'\], but num_hidden_layers is 2",
    ),
    (
      'qwen2',
      {'tie_word_embeddings': False, 'architectures': ['Qwen2Model']},
      r'lm_head.weight .* is missing(.|\n)*take a checkpoint of the model that',
    ),
    (
      'llama',
      {'layer_types': ['sliding_attention'] * 2, 'sliding_window': 8},
      r"layers have \['sliding_attention'\]; of this family",
    ),
    ('mistral', {'sliding_window': 0}, 'sliding_window is 0; mmjax reads an'),
    ('gemma2', {'attn_logit_softcapping': 0}, 'softcapping is 0; mmjax reads'),
    ('gemma3_text', {'layer_types': ['full', 'x']}, 'layer_types has full, x'),
    ('gemma3_text', {'final_logit_softcapping': 30.0}, 'softcapping is 30.0'),
    (
      'gemma3_text',
      {'rope_parameters': {'rope_theta': 1e4}},
      'rope_parameters has rope_theta; .* one part for each of full_attention',
    ),
    ('qwen3', {'head_dim': 6}, r'q_norm.weight is \[4\], not \[6\]'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, name, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, name, **values))


def gpt2(width, depth, heads):
  return {'n_embd': width, 'n_layer': depth, 'n_head': heads}


def llama(vocabulary, width, hidden, depth, heads, groups, **more):
  return {
    'vocab_size': vocabulary,
    'hidden_size': width,
    'intermediate_size': hidden,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
    'num_key_value_heads': groups,
    **more,
  }


TIED = {'tie_word_embeddings': True}
SMALL_QWEN = (151936, 896, 4864, 24, 14, 2)
# Parameters of the published checkpoints.
SIZES = {
  'gpt2 small': (gpt2(768, 12, 12), 124_439_808),
  'gpt2 medium': (gpt2(1024, 24, 16), 354_823_168),
  'gpt2 large': (gpt2(1280, 36, 20), 774_030_080),
  'gpt2 xl': (gpt2(1600, 48, 25), 1_557_611_200),
  'llama 2 7B': (llama(32000, 4096, 11008, 32, 32, 32), 6_738_415_616),
  'llama 3.2 1B': (
    llama(128256, 2048, 8192, 16, 32, 8, head_dim=64, **TIED),
    1_235_814_400,
  ),
  'gemma2 2B': (
    llama(256000, 2304, 9216, 26, 8, 4, head_dim=256),
    2_614_341_888,
  ),
  'gemma3_text 270M': (
    llama(262144, 640, 2048, 18, 4, 1, head_dim=256),
    268_098_176,
  ),
  'gemma3_text 1B': (
    llama(262144, 1152, 6912, 26, 4, 1, head_dim=256),
    999_885_952,
  ),
  'mistral 7B 0.1': (
    llama(32000, 4096, 14336, 32, 32, 8, sliding_window=4096),
    7_241_732_096,
  ),
  'opt 125M': ({}, 125_239_296),
  'opt 2.7B': (
    {
      'hidden_size': 2560,
      'ffn_dim': 10240,
      'num_hidden_layers': 32,
      'num_attention_heads': 32,
    },
    2_651_596_800,
  ),
  'qwen2 0.5B': (llama(*SMALL_QWEN, **TIED), 494_032_768),
  'qwen2 7B': (llama(152064, 3584, 18944, 28, 28, 4), 7_615_616_512),
  'qwen3 0.6B': (
    llama(151936, 1024, 3072, 28, 16, 8, head_dim=128, **TIED),
    596_049_920,
  ),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  config, number = SIZES[name]
  family = families.find({'model_type': name.split()[0]})
  shapes = checkpoint.shapes(family.build_module(config), family.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number
