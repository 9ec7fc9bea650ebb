"""Small models as GGUF files, as llama.cpp's converter writes them."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np

from mmjax.pretrained import checkpoint, families, keys

CONFIG = {
  'vocab_size': 263,
  'hidden_size': 32,
  'intermediate_size': 64,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 37,
  'rms_norm_eps': 1e-5,
  'rope_theta': 500.0,
  'hidden_act': 'silu',
}
GEMMA3 = {
  'head_dim': 16,
  'hidden_activation': 'gelu_pytorch_tanh',
  'query_pre_attn_scalar': 16,
  'sliding_window': 5,
}
KINDS = {
  'gemma3': ('Gemma3ForCausalLM', True, GEMMA3),
  'llama': ('LlamaForCausalLM', True, {}),
  'qwen2': ('Qwen2ForCausalLM', False, {}),
  'qwen3': ('Qwen3ForCausalLM', True, {'head_dim': 16}),
}
# The characters that stand for bytes, which GPT-2's tokens are written in.
BYTES = sorted(
  chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))
) + [chr(256 + i) for i in range(68)]
TOKENS = [
  '<|endoftext|>',
  *BYTES,
  'he',
  'Ġhe',
  '12',
  '<|image|>',
  '<|user|>',
  'hé'[:1] + 'Ã',
]
MERGES = ['h e', 'Ġ he', '1 2', 'h Ã']


def make_config(kind):
  """The config.json of a small model of a kind of `KINDS`."""
  name, tied, further = KINDS[kind]
  return {
    **CONFIG,
    'model_type': {'gemma3': 'gemma3_text'}.get(kind, kind),
    'architectures': [name],
    'tie_word_embeddings': tied,
    **further,
  }


def _swap(array, heads):
  """The order in which llama.cpp stores the rows of queries and keys."""
  halves = array.reshape(heads, 2, array.shape[0] // heads // 2, -1)
  return halves.swapaxes(1, 2).reshape(array.shape)


def _add_tokenizer(writer, pre='smollm'):
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(TOKENS)
  kinds = [3, *[1] * (len(TOKENS) - 4), 3, 3, 1]
  writer.add_token_types(kinds)
  writer.add_token_merges(MERGES)
  writer.add_bos_token_id(0)
  writer.add_eos_token_id(0)


def write(path, kind, config, tensors, change=lambda writer: None, **tokens):
  """Writes a file as llama.cpp's converter does."""
  writer = gguf.GGUFWriter(path, kind)
  writer.add_context_length(config['max_position_embeddings'])
  writer.add_embedding_length(config['hidden_size'])
  writer.add_block_count(config['num_hidden_layers'])
  writer.add_feed_forward_length(config['intermediate_size'])
  writer.add_head_count(config['num_attention_heads'])
  writer.add_head_count_kv(config['num_key_value_heads'])
  writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
  writer.add_rope_freq_base(config['rope_theta'])
  if 'head_dim' in config:
    writer.add_key_length(config['head_dim'])
  if 'sliding_window' in config:
    writer.add_sliding_window(config['sliding_window'])
  _add_tokenizer(writer, **tokens)
  change(writer)
  for name, (array, quantised) in tensors.items():
    if quantised is None:
      writer.add_tensor(name, array)
    else:
      writer.add_tensor(
        name, gguf.quantize(array, quantised), raw_dtype=quantised
      )
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def make_tensors(kind, config):
  """Random tensors of a file, and the parameters that they should become."""
  family = families.find(config)
  shapes = checkpoint.shapes(
    family.build_module(config, jnp.float32), family.inputs(config)
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
  )
  named = dict(keys.save(family.rules(config), params))
  theirs = gguf.get_tensor_name_map(
    gguf.MODEL_ARCH[kind.upper()], config['num_hidden_layers']
  )
  out, read = {}, {}
  for name, array in named.items():
    stem, _, leaf = name.rpartition('.')
    heads = {'q_proj': 'num_attention_heads', 'k_proj': 'num_key_value_heads'}
    stored, quantised = array, None
    if kind == 'llama' and stem.rpartition('.')[2] in heads:
      stored = _swap(array, config[heads[stem.rpartition('.')[2]]])
    if kind == 'gemma3' and array.ndim == 1:
      stored = array + 1
      array = stored - 1  # As rounded.
    if array.ndim == 2:
      quantised = gguf.GGMLQuantizationType.Q8_0
      if 'up_proj' in name:
        quantised = gguf.GGMLQuantizationType.F16
      rounded = gguf.dequantize(gguf.quantize(array, quantised), quantised)
      array = np.asarray(rounded, np.float32)
    out[f'{theirs.get_name(stem)}.{leaf}'] = stored, quantised
    read[name] = array
  return out, read
