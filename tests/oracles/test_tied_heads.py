"""Heads that differ from the embeddings, whatever config.json says of ties."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from mmjax import pretrained
from mmjax.errors import ConfigError
from tests.oracles import harness

SMALL = {
  'gpt2': {'n_embd': 12, 'n_layer': 1, 'n_head': 3, 'n_positions': 9},
  'qwen2': {
    'hidden_size': 12, 'intermediate_size': 20, 'num_hidden_layers': 1,
    'num_attention_heads': 3, 'num_key_value_heads': 1,
  },
  't5': {
    'd_model': 12, 'd_kv': 4, 'd_ff': 20, 'num_layers': 1, 'num_heads': 3,
    'decoder_start_token_id': 0,
  },
}  # fmt: skip
MODELS = {
  'gpt2': (transformers.GPT2Config, transformers.GPT2LMHeadModel),
  'qwen2': (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
  't5': (transformers.T5Config, transformers.T5ForConditionalGeneration),
}
IDS = np.array([[3, 5, 7, 2, 9]], np.int32)


@pytest.mark.filterwarnings('ignore:config.json ties')
@pytest.mark.parametrize('tied', [True, False, None])
@pytest.mark.parametrize('kind', MODELS)
def test_logits_are_of_the_head_that_transformers_takes(kind, tied, tmp_path):
  torch.manual_seed(0)
  make_config, make_model = MODELS[kind]
  config = make_config(vocab_size=17, tie_word_embeddings=False, **SMALL[kind])
  model = harness.randomise(make_model(config))
  model.save_pretrained(tmp_path)
  # In the file itself: transformers ties those of a new T5 in any case.
  held = safetensors.torch.load_file(tmp_path / 'model.safetensors')
  held['lm_head.weight'] = torch.randn(17, 12)
  safetensors.torch.save_file(held, tmp_path / 'model.safetensors')
  settings = json.loads((tmp_path / 'config.json').read_text())
  settings.pop('tie_word_embeddings', None)
  if tied is not None:
    settings['tie_word_embeddings'] = tied
  (tmp_path / 'config.json').write_text(json.dumps(settings))
  there = make_model.from_pretrained(tmp_path).eval()
  loaded = pretrained.load(tmp_path)
  ids, mask = jnp.asarray(IDS), jnp.ones(IDS.shape, bool)
  given = {'input_ids': torch.tensor(IDS).long()}
  if kind == 't5':
    given['decoder_input_ids'] = given['input_ids']
    batch = {
      'question': ids,
      'question_mask': mask,
      'answer': jnp.pad(ids, ((0, 0), (0, 1))),
      'answer_mask': jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True),
    }
  else:
    batch = {'text': ids, 'text_mask': mask}
  out = loaded.module.apply({'params': loaded.params}, batch, train=False)
  name = 'answer_token_logits' if kind == 't5' else 'text_logits'
  with torch.no_grad():
    want = there(**given).logits
  harness.check_close(out[name], want)


BASES = {
  'gpt2': ('GPT2', 'LMHeadModel', {}),
  'llama': ('Llama', 'ForCausalLM', SMALL['qwen2']),
  'mistral': (
    'Mistral',
    'ForCausalLM',
    SMALL['qwen2'] | {'sliding_window': None},
  ),
  'opt': (
    'OPT',
    'ForCausalLM',
    {'hidden_size': 12, 'word_embed_proj_dim': 12, 'ffn_dim': 20}
    | {'num_hidden_layers': 1, 'num_attention_heads': 3},
  ),
  'qwen2': ('Qwen2', 'ForCausalLM', {}),
  'qwen3': (
    'Qwen3',
    'ForCausalLM',
    SMALL['qwen2'] | {'head_dim': 4},
  ),
}


@pytest.mark.parametrize('kind', BASES)
def test_a_base_without_a_head_is_the_model_whose_head_is_tied(kind, tmp_path):
  name, end, settings = BASES[kind]
  torch.manual_seed(0)
  config = getattr(transformers, f'{name}Config')(
    vocab_size=17, tie_word_embeddings=True, **SMALL.get(kind, {}), **settings
  )
  base = getattr(transformers, f'{name}Model')(config)
  base.save_pretrained(tmp_path / 'base')
  writer = getattr(transformers, f'{name}{end}')
  writer.from_pretrained(tmp_path / 'base').save_pretrained(tmp_path / 'writer')
  got, want = map(pretrained.load, (tmp_path / 'base', tmp_path / 'writer'))
  jax.tree.map(np.testing.assert_array_equal, got.params, want.params)
  path = tmp_path / 'base/config.json'
  path.write_text(
    json.dumps(json.loads(path.read_text()) | {'tie_word_embeddings': False})
  )
  with pytest.raises(ConfigError, match=r'lm_head.weight .* is missing'):
    pretrained.load(tmp_path / 'base')
