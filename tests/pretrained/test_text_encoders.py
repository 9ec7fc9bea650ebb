"""BERT: as transformers computed it, out again, and refused."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  bert,
  checkpoint,
  sentence_steps,
  sentences,
  tensors,
)
from mmjax.runs import weight_source

GOLDEN = Path(__file__).parent / 'golden'
TEXTS = ['a small red circle', 'cat', 'a large blue square ' * 5]
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def expected():
  return np.load(GOLDEN / 'bert' / 'expected.npz')


def test_an_encoder_gives_what_transformers_gave(expected):
  loaded = pretrained.load(GOLDEN / 'bert')
  ids, mask = expected['ids'], expected['mask']
  got = loaded.jit_method('__call__', train=False)(loaded.params, ids, mask)
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
  got = loaded.jit_method('__call__', train=False)(loaded.params, ids, mask)
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
      {'pooling_mode': 'median'},
      r"pooling_mode is \['median'\]; mmjax knows cls, max",
    ),
    ('1_Pooling/config.json', {'new_trick': 1}, 'does not know new_trick'),
    ('sentence_bert_config.json', {'new_trick': 1}, 'does not know new_trick'),
    (
      'sentence_bert_config.json',
      {'transformer_task': 'fill-mask'},
      "transformer_task is 'fill-mask'; mmjax reads only 'feature-extraction'",
    ),
  ],
)
def test_what_is_unknown_is_named(tmp_path, file, values, message):
  shutil.copytree(GOLDEN / 'bert', tmp_path, dirs_exist_ok=True)
  path = tmp_path / file
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path).encode_text('cat')


def sentence_encoder(**files):
  """The golden one with other small files, by name, as objects."""
  model = pretrained.load(GOLDEN / 'bert')
  named = {name: json.dumps(value).encode() for name, value in files.items()}
  return dataclasses.replace(model, files={**model.files, **named})


PROMPTS = {
  'prompts': {'query': 'large blue ', 'none': ''},
  'default_prompt_name': 'query',
  '__version__': {},
}


def test_prompts_stand_before_texts():
  model = sentence_encoder(**{sentence_steps.PROMPTS: PROMPTS})
  text = ['cat', 'red circle']
  plain = model.encode_text(text, prompt='')
  close(model.encode_text(text, prompt_name='none'), plain)
  queried = model.encode_text(text, prompt='large blue ')
  close(model.encode_text(text), queried)
  close(model.encode_text(text, prompt_name='query'), queried)
  assert np.abs(queried - plain).max() > 1e-3
  # A folder without prompts has none.
  close(sentence_encoder().encode_text(text), plain)
  with pytest.raises(ValueError, match=r"no prompt 'other'; it has \['none'"):
    model.encode_text(text, prompt_name='other')
  wrong = {**PROMPTS, 'truncate_dim': 5}
  with pytest.raises(ValueError, match='truncate_dim is 5; mmjax reads only'):
    sentence_encoder(**{sentence_steps.PROMPTS: wrong}).encode_text(text)


def test_texts_become_lower_case_where_the_folder_says_so():
  lower = {
    sentence_steps.SETTINGS: {'do_lower_case': True, 'max_seq_length': 5}
  }
  model = sentence_encoder(**lower)
  ids, mask = model.tokenize(['A small RED circle', 'Cat'])
  assert ids[0, :5].tolist() == [0, 3, 4, 6, 1]
  assert mask.sum(axis=1).tolist() == [5, 3]
  unknown = sentence_encoder().tokenizer.token_to_id('?')
  assert sentence_encoder().tokenize('Cat')[0][0, 1] == unknown


def test_without_a_length_of_its_own_a_tokenizer_says_what_is_read():
  files = {sentence_steps.SETTINGS: {}, 'tokenizer_config.json': {}}
  assert sentence_encoder(**files).max_text_tokens == 9
  files['tokenizer_config.json'] = {'model_max_length': 7}
  assert sentence_encoder(**files).max_text_tokens == 7


# Two texts of three tokens, the first of which are a prompt's.
VALUES = np.asarray(
  [[[1, -1], [2, 6], [3, 1]], [[4, 0], [8, 2], [9, 9]]], float
)
REAL = np.asarray([[1, 1, 1], [1, 1, 0]], bool)


@pytest.mark.parametrize(
  ('mode', 'whole', 'behind'),
  [
    ('cls', [[1, -1], [4, 0]], [[2, 6], [8, 2]]),
    ('max', [[3, 6], [8, 2]], [[3, 6], [8, 2]]),
    ('mean', [[2, 2], [6, 1]], [[2.5, 3.5], [8, 2]]),
    (
      'mean_sqrt_len_tokens',
      [[6 / 3**0.5, 6 / 3**0.5], [12 / 2**0.5, 2 / 2**0.5]],
      [[5 / 2**0.5, 7 / 2**0.5], [8, 2]],
    ),
    ('weightedmean', [[14 / 6, 14 / 6], [20 / 3, 4 / 3]], [[2.6, 3], [8, 2]]),
    ('lasttoken', [[3, 1], [8, 2]], [[3, 1], [8, 2]]),
    (['max', 'cls'], [[3, 6, 1, -1], [8, 2, 4, 0]], None),
  ],
)
def test_pools(mode, whole, behind):
  def pool(**given):
    file = {'1_Pooling/config.json': {'pooling_mode': mode, **given}}
    steps = [
      {'type': 'sentence_transformers.a.Transformer', 'path': ''},
      {'type': 'sentence_transformers.b.Pooling', 'path': '1_Pooling'},
    ]
    model = sentence_encoder(**file, **{sentence_steps.FILE: steps})
    return sentences.read_pooling(model.files)

  values = jnp.asarray(VALUES, jnp.float32)
  close(pool()(values, jnp.asarray(REAL), 1), whole)
  if behind is not None:
    got = pool(include_prompt=False)(values, jnp.asarray(REAL), 1)
    close(got, behind)


@pytest.mark.parametrize(
  'kinds',
  [
    ['Transformer', 'Pooling', 'Normalize', 'Dense'],
    ['Transformer', 'Normalize', 'Pooling'],
    ['Transformer'],
    ['CLIPModel'],
    ['custom_code.Transformer', 'Pooling'],
  ],
)
def test_other_steps_are_named(kinds, tmp_path):
  steps = [
    {'type': k if '.' in k else f'sentence_transformers.models.{k}', 'path': k}
    for k in kinds
  ]
  (tmp_path / 'modules.json').write_text(json.dumps(steps))
  message = f'the steps are {", ".join(kinds)}; mmjax'
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path)


def test_a_step_of_other_inputs_is_refused():
  given = {'module_input_name': 'token_embeddings'}
  model = sentence_encoder(**{'n/config.json': given})
  with pytest.raises(ConfigError, match="'token_embeddings'; mmjax reads only"):
    model.encode_text('cat')


def old_layout(folder):
  """The golden sentence encoder as older releases laid it out."""
  shutil.copytree(GOLDEN / 'bert', folder)
  (folder / '0_Transformer').mkdir()
  (folder / '1_Pooling').rename(folder / 'pooling')
  steps = json.loads((folder / 'modules.json').read_text())
  paths = {'Transformer': '0_Transformer', 'Pooling': 'pooling'}
  for step in steps:
    step['path'] = paths.get(step['type'].rpartition('.')[2], step['path'])
  for name in [
    'config.json',
    'model.safetensors',
    'sentence_bert_config.json',
    'tokenizer.json',
  ]:
    # What an encoder of another kind calls its settings.
    new = name.replace('bert', 'roberta')
    (folder / name).rename(folder / '0_Transformer' / new)
  # These are not of the model, as they are not in its folder.
  (folder / 'vocab.txt').write_text('cat')
  (folder / 'modules.json').write_text(json.dumps(steps))
  return folder


def test_a_model_in_a_subfolder(tmp_path):
  loaded = pretrained.load(old_layout(tmp_path / 'old'))
  want = pretrained.load(GOLDEN / 'bert')
  assert loaded.config == want.config
  assert loaded.files.keys() - {'pooling/config.json'} < want.files.keys()
  jax.tree.map(np.testing.assert_array_equal, loaded.params, want.params)
  pretrained.save(loaded, tmp_path / 'out')
  again = pretrained.load(tmp_path / 'out')
  assert again.files == loaded.files
  for model in (loaded, again):
    assert model.tokenize(TEXTS)[1].sum(axis=1).tolist() == [6, 3, 8]
    assert sentences.read_pooling(model.files) == sentences.read_pooling(
      want.files
    )
  steps = json.loads((tmp_path / 'out' / 'modules.json').read_text())
  assert [step['path'] for step in steps[:2]] == ['', 'pooling']
  file = weight_source.find(str(tmp_path / 'old')).data['tokenizer']
  assert file == str(tmp_path / 'old' / '0_Transformer' / 'tokenizer.json')


@pytest.mark.parametrize(
  ('path', 'why'),
  [
    ('../elsewhere', 'not a folder inside'),
    ('/etc', 'not a folder inside'),
    (None, 'not a folder inside'),
    ('', 'that of the model'),
    ('0_Transformer', 'that of the model'),
  ],
)
def test_a_step_without_a_folder_of_its_own_is_refused(path, why, tmp_path):
  folder = old_layout(tmp_path / 'old')
  steps = json.loads((folder / 'modules.json').read_text())
  steps[1]['path'] = path
  (folder / 'modules.json').write_text(json.dumps(steps))
  with pytest.raises(ValueError, match=f'the path of Pooling is .* {why}'):
    pretrained.load(folder)


def with_tensors(folder, change):
  """The golden sentence encoder with other tensors."""
  shutil.copytree(GOLDEN / 'bert', folder)
  held = safetensors.numpy.load_file(folder / tensors.FILE)
  safetensors.numpy.save_file(change(held), folder / tensors.FILE)
  return folder


def test_without_a_pooler_only_its_vector_is_refused(tmp_path):
  def bare(held):
    return {k: v for k, v in held.items() if not k.startswith('pooler')}

  folder = with_tensors(tmp_path / 'in', bare)
  loaded = pretrained.load(folder)
  assert 'pooler' not in loaded.params
  want = pretrained.load(GOLDEN / 'bert').encode_text(TEXTS)
  np.testing.assert_array_equal(loaded.encode_text(TEXTS), want)
  pretrained.save(loaded, tmp_path / 'out')
  held = tensors.Tensors(folder)
  assert tensors.Tensors(tmp_path / 'out').names == held.names
  assert 'add_pooling_layer' not in (tmp_path / 'out/config.json').read_text()
  (folder / 'modules.json').unlink()
  alone = pretrained.load(folder)
  with pytest.raises(ConfigError, match=r'has no pooler\.dense, which makes'):
    alone.encode_text('cat')
  source = weight_source.find(str(folder))
  for part in ('text', 'question'):
    with pytest.raises(ConfigError, match=r'^init_from: .* no pooler\.dense'):
      source.part(part)
  assert source.part('encoder')[0].width == 12


def test_half_a_pooler_is_not_a_model_without_one(tmp_path):
  def half(held):
    return {k: v for k, v in held.items() if k != 'pooler.dense.weight'}

  with pytest.raises(ValueError, match=r'pooler\.dense\.weight'):
    pretrained.load(with_tensors(tmp_path / 'in', half))


def test_an_id_without_a_vector_is_refused(tmp_path):
  folder = shutil.copytree(GOLDEN / 'bert', tmp_path / 'bert')
  path = folder / 'tokenizer.json'
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.add_tokens(['zebra'])
  tokenizer.save(str(path))
  model = pretrained.load(folder)
  with pytest.raises(ConfigError, match=r"id 11 of 'zebra', but .* of 11 ids"):
    model.encode_text('a zebra')
