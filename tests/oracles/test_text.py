"""Language models here equal those of transformers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from tests.oracles import harness

# One of them ends texts that the model writes, another fills them up.
IDS = {'vocab_size': 61, 'eos_token_id': 5, 'bos_token_id': 1}
PAD = 0
LLAMA3 = {
  'rope_type': 'llama3',
  'rope_theta': 500.0,
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16,
}
LOCAL = 'sliding_attention'
CONFIGS = {
  'gemma2_odd': {
    'hidden_size': 18, 'intermediate_size': 25, 'num_hidden_layers': 3,
    'num_attention_heads': 3, 'num_key_value_heads': 1, 'head_dim': 10,
    'query_pre_attn_scalar': 7, 'sliding_window': 3,
    'attn_logit_softcapping': 2.0, 'final_logit_softcapping': 4.0,
  },
  'gemma2_free': {
    'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2,
    'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 6,
    'attn_logit_softcapping': None, 'final_logit_softcapping': None,
    'rope_parameters': {'rope_theta': 50.0, 'rope_type': 'default'},
  },
  'gemma3_odd': {
    'hidden_size': 18, 'intermediate_size': 25, 'num_hidden_layers': 3,
    'num_attention_heads': 3, 'num_key_value_heads': 1, 'head_dim': 10,
    'query_pre_attn_scalar': 7, 'sliding_window': 3,
    'layer_types': ['full_attention', LOCAL, LOCAL],
  },
  'gemma3_deep': {
    'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 7,
    'num_attention_heads': 4, 'num_key_value_heads': 2, 'head_dim': 6,
    'query_pre_attn_scalar': 6, 'sliding_window': 5, 'rms_norm_eps': 1e-3,
    'rope_parameters': {
      LOCAL: {'rope_theta': 50.0, 'rope_type': 'default'},
      'full_attention': {
        'rope_theta': 1e4, 'rope_type': 'linear', 'factor': 8.0,
      },
    },
  },
  'gemma3_whole': {
    'hidden_size': 20, 'intermediate_size': 12, 'num_hidden_layers': 1,
    'num_attention_heads': 2, 'num_key_value_heads': 2, 'head_dim': 8,
    'attention_bias': True, 'tie_word_embeddings': False,
    'layer_types': ['full_attention'],
  },
  'gpt2_odd': {'n_embd': 15, 'n_layer': 2, 'n_head': 3, 'n_positions': 41},
  'gpt2_gelu': {
    'n_embd': 20, 'n_layer': 3, 'n_head': 1, 'n_positions': 33,
    'n_inner': 41, 'activation_function': 'gelu', 'layer_norm_epsilon': 1e-3,
  },
  'gpt2_relu': {
    'n_embd': 28, 'n_layer': 1, 'n_head': 7, 'n_positions': 60,
    'activation_function': 'relu',
  },
  'opt_odd': {
    'hidden_size': 15, 'ffn_dim': 23, 'num_hidden_layers': 2,
    'num_attention_heads': 3, 'max_position_embeddings': 41,
  },
  'opt_gelu': {
    'hidden_size': 20, 'ffn_dim': 12, 'num_hidden_layers': 3,
    'num_attention_heads': 1, 'max_position_embeddings': 33,
    'activation_function': 'gelu',
  },
  'opt_untied': {
    'hidden_size': 28, 'ffn_dim': 40, 'num_hidden_layers': 1,
    'num_attention_heads': 7, 'max_position_embeddings': 60,
    'tie_word_embeddings': False,
  },
  'llama_odd': {
    'hidden_size': 12, 'intermediate_size': 23, 'num_hidden_layers': 2,
    'num_attention_heads': 6, 'num_key_value_heads': 2,
  },
  'llama_scaled': {
    'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 3,
    'num_attention_heads': 4, 'num_key_value_heads': 1, 'head_dim': 10,
    'attention_bias': True, 'tie_word_embeddings': True,
    'rope_parameters': LLAMA3, 'rms_norm_eps': 1e-3,
  },
  'llama_linear': {
    'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 1,
    'num_attention_heads': 2, 'mlp_bias': True, 'hidden_act': 'gelu',
    'rope_parameters': {
      'rope_type': 'linear', 'rope_theta': 100.0, 'factor': 3.0,
    },
  },
  'mistral_odd': {
    'hidden_size': 12, 'intermediate_size': 23, 'num_hidden_layers': 2,
    'num_attention_heads': 6, 'num_key_value_heads': 2, 'head_dim': 4,
    'sliding_window': None,
  },
  'mistral_window': {
    'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 3,
    'num_attention_heads': 4, 'num_key_value_heads': 1, 'head_dim': None,
    'tie_word_embeddings': True, 'rope_parameters': {'rope_theta': 1e6},
    'max_position_embeddings': 48, 'sliding_window': 5, 'rms_norm_eps': 1e-3,
  },
  'qwen2_odd': {
    'hidden_size': 18, 'intermediate_size': 25, 'num_hidden_layers': 2,
    'num_attention_heads': 3, 'num_key_value_heads': 3,
    'tie_word_embeddings': True, 'rope_parameters': {'rope_theta': 1e6},
  },
  'qwen2_grouped': {
    'hidden_size': 40, 'intermediate_size': 48, 'num_hidden_layers': 3,
    'num_attention_heads': 10, 'num_key_value_heads': 5,
    'use_sliding_window': True, 'sliding_window': 4, 'max_window_layers': 1,
  },
  'qwen2_one_group': {
    'hidden_size': 12, 'intermediate_size': 36, 'num_hidden_layers': 1,
    'num_attention_heads': 2, 'num_key_value_heads': 1, 'rms_norm_eps': 1e-4,
  },
  'qwen3_odd': {
    'hidden_size': 18, 'intermediate_size': 25, 'num_hidden_layers': 2,
    'num_attention_heads': 3, 'num_key_value_heads': 1, 'head_dim': 10,
    'tie_word_embeddings': True, 'rope_parameters': {'rope_theta': 1e6},
  },
  'qwen3_bias': {
    'hidden_size': 16, 'intermediate_size': 48, 'num_hidden_layers': 3,
    'num_attention_heads': 4, 'num_key_value_heads': 4, 'head_dim': 2,
    'attention_bias': True,
  },
  'qwen3_grouped': {
    'hidden_size': 20, 'intermediate_size': 12, 'num_hidden_layers': 1,
    'num_attention_heads': 6, 'num_key_value_heads': 2, 'head_dim': 16,
    'rms_norm_eps': 1e-3,
  },
}  # fmt: skip
FAMILIES = {
  'gemma2': (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
  'gemma3': (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
  'gpt2': (transformers.GPT2Config, transformers.GPT2LMHeadModel),
  'llama': (transformers.LlamaConfig, transformers.LlamaForCausalLM),
  'mistral': (transformers.MistralConfig, transformers.MistralForCausalLM),
  'opt': (transformers.OPTConfig, transformers.OPTForCausalLM),
  'qwen2': (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
  'qwen3': (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
LENGTHS = np.asarray([13, 7, 4])


def original(name):
  torch.manual_seed(0)
  make_config, make_model = FAMILIES[name.split('_')[0]]
  config = make_config(**IDS, **CONFIGS[name])
  model = harness.randomise(make_model(config), 0.3)
  for name, parameter in model.named_parameters():
    # Words outweighed by their blocks, or each would be followed by itself.
    if parameter.ndim > 1 and not re.search('wte|wpe|embed|lm_head', name):
      parameter.data *= 3 if name.startswith('transformer') else 1.5
    elif 'post_feedforward' in name:
      parameter.data += 3
  return model


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def texts(left=False):
  """Ids and mask with padding on either side."""
  steps = np.arange(LENGTHS.max())[None]
  mask = steps < LENGTHS[:, None]
  ids = np.random.default_rng(0).integers(6, 61, mask.shape)
  ids = np.where(mask, ids, PAD)
  if left:
    ids, mask = (
      np.stack(
        [np.roll(row, -n) for row, n in zip(array, LENGTHS, strict=True)]
      )
      for array in (ids, mask)
    )
  return ids, mask


def ours(ids, mask):
  return {'text': jnp.asarray(ids), 'text_mask': jnp.asarray(mask)}


def theirs(ids, mask):
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
  }


def test_outputs_agree(pair):
  model, loaded = pair
  ids, mask = texts()
  with torch.no_grad():
    want = model(**theirs(ids, mask)).logits.numpy()
  got = loaded._forward(loaded.params, ours(ids, mask))['text_logits']
  assert want[mask].std(axis=0).min() > 0.1
  harness.check_close(np.asarray(got)[mask], want[mask])


def test_gradients_agree(pair):
  model, loaded = pair
  ids, mask = texts()

  def loss(params):
    out = loaded.module.apply({'params': params}, ours(ids, mask), train=False)
    return jnp.mean(out['text_logits'][mask] ** 2)

  def their_loss(model):
    return (model(**theirs(ids, mask)).logits[torch.tensor(mask)] ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


def test_greedy_writing_agrees(pair):
  model, loaded = pair
  want = model.generate(
    **theirs(*texts(left=True)),
    max_new_tokens=20,
    do_sample=False,
    pad_token_id=PAD,
  )[:, LENGTHS.max() :]
  program = loaded.jit_method(
    'generate', text_kind='continue', max_new_tokens=20, eos_id=(5,), pad_id=PAD
  )
  for padded in (texts(), texts(left=True)):
    got = program(loaded.params, ours(*padded)).tokens
    want = np.pad(want, ((0, 0), (0, 20 - want.shape[1])))
    np.testing.assert_array_equal(got, want)
  assert len(np.unique(np.asarray(got))) > 5


def test_sampling_keeps_to_its_key(pair):
  _, loaded = pair
  program = loaded.jit_method(
    'generate', text_kind='continue', max_new_tokens=5, temperature=1.0, top_k=7
  )
  batch = ours(*texts())
  first, again, other = (
    program(loaded.params, batch, rng=jax.random.key(seed)).tokens
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.any(np.asarray(first) != np.asarray(other))
