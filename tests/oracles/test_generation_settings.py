"""Texts under the settings of generation_config.json are transformers'."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from mmjax import pretrained
from tests.oracles import harness

VOCAB, EOS, PAD, NEW = 31, 5, 0, 16
REPEATS = {
  'repetition_penalty': 1.6,
  'no_repeat_ngram_size': 2,
  'min_new_tokens': 9,
}
WORDS = {
  'bad_words_ids': [[7], [EOS], [11, 12], [3, 9, 8]],
  'sequence_bias': [[[13], 2.5], [[13, 14], -4.0], [[14], 3.0]],
  'suppress_tokens': [2, 4],
  'begin_suppress_tokens': [14, 13],
  'forced_eos_token_id': EOS,
}
SETTINGS = {
  'repeats': REPEATS,
  'words': WORDS,
  'all': {'no_repeat_ngram_size': 3, **WORDS, 'repetition_penalty': 0.7},
}
LENGTHS = np.asarray([9, 4, 6])


def original(kind):
  torch.manual_seed(0)
  ids = {'vocab_size': VOCAB, 'eos_token_id': EOS, 'pad_token_id': PAD}
  if kind == 't5':
    config = transformers.T5Config(
      **ids, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3,
      decoder_start_token_id=PAD,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
  else:
    config = transformers.Qwen2Config(
      **ids, hidden_size=18, intermediate_size=25, num_hidden_layers=2,
      num_attention_heads=3, num_key_value_heads=3, bos_token_id=1,
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config)
  return harness.randomise(model, 0.3)


@pytest.fixture(scope='module', params=['qwen2', 't5'])
def pair(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  original(request.param).save_pretrained(folder)
  return request.param, folder


def texts(kind):
  mask = np.arange(LENGTHS.max())[None] < LENGTHS[:, None]
  ids = np.random.default_rng(3).integers(6, VOCAB, mask.shape)
  return np.where(mask, ids, PAD), mask


def generate_theirs(kind, folder, ids, mask):
  auto = {
    't5': transformers.T5ForConditionalGeneration,
    'qwen2': transformers.Qwen2ForCausalLM,
  }[kind]
  model = auto.from_pretrained(folder).eval()
  if kind == 'qwen2':  # It wants padding in front.
    ids, mask = (
      np.stack([np.roll(r, -n) for r, n in zip(a, mask.sum(1), strict=True)])
      for a in (ids, mask)
    )
  out = model.generate(
    input_ids=torch.tensor(ids),
    attention_mask=torch.tensor(mask).long(),
    max_new_tokens=NEW,
  )
  out = out[:, 1 if kind == 't5' else ids.shape[1] :].numpy()
  return np.pad(out, ((0, 0), (0, NEW - out.shape[1])))


def generate_ours(kind, folder, ids, mask):
  loaded = pretrained.load(folder)
  name, kinds = (
    ('question', {'text_kind': 'answer'}) if kind == 't5' else ('text', {})
  )
  asked = loaded.generation_arguments(NEW, int(mask.sum(1).max()), kinds)
  batch = {name: jnp.asarray(ids), f'{name}_mask': jnp.asarray(mask)}
  return np.asarray(
    loaded.jit_method('generate', **asked)(loaded.params, batch).tokens
  )


BEAMS = [
  {'num_beams': 3},
  {'num_beams': 3, 'early_stopping': True, 'length_penalty': 2.0},
  {'num_beams': 4, 'early_stopping': 'never', 'length_penalty': 0.5},
  {'num_beams': 2, 'early_stopping': 'never', 'length_penalty': -1.0},
  {'num_beams': 3, 'length_penalty': 0.0, 'eos_token_id': [EOS, 8, 12]},
  {'num_beams': 3, 'repetition_penalty': 1.3, 'min_new_tokens': 4},
]


@pytest.mark.parametrize('settings', BEAMS)
def test_beams_agree(pair, settings):
  kind, folder = pair
  ids, mask = texts(kind)
  plain = {'eos_token_id': EOS, 'pad_token_id': PAD}
  if kind == 't5':
    plain['decoder_start_token_id'] = PAD
  # So that some texts end before they have to.
  plain['sequence_bias'] = [[[EOS], 1.5]]
  path = folder / 'generation_config.json'
  path.write_text(json.dumps({**plain, **settings}))
  got = generate_ours(kind, folder, ids, mask)
  want = generate_theirs(kind, folder, ids, mask)
  # With several beams, transformers fills up with an end where padding is 0.
  ends = np.isin(want, settings.get('eos_token_id', EOS))
  want = np.where(np.cumsum(ends, axis=1) - ends > 0, PAD, want)
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('name', [*SETTINGS, 'lengths'])
def test_greedy_texts_agree(pair, name):
  kind, folder = pair
  ids, mask = texts(kind)
  settings = SETTINGS.get(name, {})
  if name == 'lengths':
    # There, padding counts: give both texts that have none.
    ids, mask = ids[:1].repeat(2, 0), mask[:1].repeat(2, 0)
    ids[1] = ids[1, ::-1]
    settings = {'min_length': 14, 'forced_bos_token_id': 6}
    settings['sequence_bias'] = [[[EOS], 30.0]]
  path = folder / 'generation_config.json'
  plain = {'eos_token_id': EOS, 'pad_token_id': PAD}
  if kind == 't5':
    plain['decoder_start_token_id'] = PAD
  path.write_text(json.dumps(plain))
  before = generate_ours(kind, folder, ids, mask)
  path.write_text(json.dumps({**plain, **settings}))
  got = generate_ours(kind, folder, ids, mask)
  np.testing.assert_array_equal(got, generate_theirs(kind, folder, ids, mask))
  assert np.any(got != before)
