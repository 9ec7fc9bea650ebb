"""BERT: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from mmjax import pretrained
from mmjax.pretrained import bert, checkpoint, tensors

GOLDEN = Path(__file__).parent / 'golden'
TEXTS = ['a small red circle', 'cat', 'a large blue square ' * 5]
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def expected():
  return np.load(GOLDEN / 'bert' / 'expected.npz')


def test_an_encoder_gives_what_transformers_gave(expected):
  loaded = pretrained.load(GOLDEN / 'bert')
  ids, mask = expected['ids'], expected['mask']
  got = loaded.compiled('__call__', train=False)(loaded.params, ids, mask)
  close(np.asarray(got.values)[mask], expected['values'][mask])
  close(got.pooled, expected['pooled'])


def test_sentences_are_pooled_as_the_folder_says(expected):
  loaded = pretrained.load(GOLDEN / 'bert')
  got = loaded.encode_text(TEXTS)
  # The third is cut at eight tokens, so the first two alone are compared.
  values, mask = expected['values'], expected['mask'][..., None]
  want = np.sum(values * mask, axis=1) / np.sum(mask, axis=1)
  want /= np.linalg.norm(want, axis=-1, keepdims=True)
  close(got[:2], want[:2])
  assert loaded.tokenize(TEXTS)[1].sum(axis=1).tolist() == [6, 3, 8]


def test_a_filler_gives_what_transformers_gave(expected):
  loaded = pretrained.load(GOLDEN / 'bert_filler')
  ids, mask = expected['ids'], expected['mask']
  got = loaded.compiled('__call__', train=False)(loaded.params, ids, mask)
  close(np.asarray(got)[mask], expected['logits'][mask])
  assert loaded.encode_text(TEXTS).shape == (3, 12)


@pytest.mark.parametrize('name', ['bert', 'bert_filler'])
def test_what_is_saved_is_what_was_loaded(name, tmp_path):
  loaded = pretrained.load(GOLDEN / name)
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  assert tensors.Tensors(tmp_path).names == tensors.Tensors(GOLDEN / name).names


def test_old_names_of_norms(tmp_path):
  shutil.copytree(GOLDEN / 'bert_filler', tmp_path, dirs_exist_ok=True)
  held = safetensors.numpy.load_file(tmp_path / tensors.FILE)
  old = {
    name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
      'LayerNorm.bias', 'LayerNorm.beta'
    ): array
    for name, array in held.items()
  }
  assert old.keys() != held.keys()
  # The pre-training's other task, which the config does not speak of.
  old['cls.seq_relationship.weight'] = np.zeros((2, 12), np.float32)
  old['bert.pooler.dense.bias'] = np.zeros(12, np.float32)
  safetensors.numpy.save_file(old, tmp_path / tensors.FILE)
  want = pretrained.load(GOLDEN / 'bert_filler').params
  got = pretrained.load(tmp_path).params
  jax.tree.map(np.testing.assert_array_equal, got, want)


SIZES = {
  'bert-base-uncased': ({}, 109_482_240),
  'bert-large-uncased': (
    {
      'hidden_size': 1024,
      'intermediate_size': 4096,
      'num_hidden_layers': 24,
      'num_attention_heads': 16,
    },
    335_141_888,
  ),
  'all-MiniLM-L6-v2': (
    {'hidden_size': 384, 'intermediate_size': 1536, 'num_hidden_layers': 6},
    22_713_216,
  ),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  config, number = SIZES[name]
  shapes = checkpoint.shapes(bert.module(config), bert.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


@pytest.mark.parametrize(
  ('file', 'values', 'message'),
  [
    ('config.json', {'is_decoder': True}, 'is_decoder is True'),
    (
      'config.json',
      {'position_embedding_type': 'relative_key'},
      "position_embedding_type is 'relative_key'",
    ),
    (
      'config.json',
      {'architectures': ['BertForQuestionAnswering']},
      'mmjax knows BertModel, BertForMaskedLM',
    ),
    (
      '1_Pooling/config.json',
      {'pooling_mode_mean_tokens': False, 'pooling_mode_max_tokens': True},
      r"not \['pooling_mode_max_tokens'\]",
    ),
  ],
)
def test_what_is_unknown_is_named(tmp_path, file, values, message):
  shutil.copytree(GOLDEN / 'bert', tmp_path, dirs_exist_ok=True)
  path = tmp_path / file
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path).encode_text('cat')
