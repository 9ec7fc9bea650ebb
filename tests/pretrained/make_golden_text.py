"""Writes small language models and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_text.py
"""

from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat', 'is']
PROMPTS = ['a small red circle is', 'cat', 'a large blue square is a cat']
NEW = 12

IDS = {'bos_token_id': 0, 'eos_token_id': 1}
LLAMA = {
  'hidden_size': 16,
  'intermediate_size': 20,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 64,
  **IDS,
}


def main() -> None:
  tokenizer = _tokenizer()
  vocabulary = {'vocab_size': tokenizer.get_vocab_size()}
  gpt2 = transformers.GPT2Config(
    n_embd=12, n_layer=2, n_head=3, n_positions=40, **IDS, **vocabulary
  )
  llama = transformers.LlamaConfig(
    rope_parameters={
      'rope_type': 'llama3',
      'rope_theta': 500.0,
      'factor': 8.0,
      'low_freq_factor': 1.0,
      'high_freq_factor': 4.0,
      'original_max_position_embeddings': 16,
    },
    **LLAMA,
    **vocabulary,
  )
  mistral = transformers.MistralConfig(
    head_dim=6, sliding_window=None, **LLAMA, **vocabulary
  )
  opt = transformers.OPTConfig(
    hidden_size=12,
    ffn_dim=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=40,
    pad_token_id=1,
    **IDS,
    **vocabulary,
  )
  qwen2 = transformers.Qwen2Config(
    tie_word_embeddings=True, **LLAMA, **vocabulary
  )
  qwen3 = transformers.Qwen3Config(head_dim=4, **LLAMA, **vocabulary)
  gemma2 = transformers.Gemma2Config(
    head_dim=6,
    sliding_window=3,
    query_pre_attn_scalar=5,
    attn_logit_softcapping=2.0,
    final_logit_softcapping=9.0,
    **LLAMA,
    **vocabulary,
  )
  gemma3 = transformers.Gemma3TextConfig(
    head_dim=6,
    sliding_window=3,
    query_pre_attn_scalar=5,
    layer_types=['sliding_attention', 'full_attention'],
    **LLAMA,
    **vocabulary,
  )
  write('gemma2', transformers.Gemma2ForCausalLM(gemma2), tokenizer)
  write('gemma3_text', transformers.Gemma3ForCausalLM(gemma3), tokenizer)
  write('gpt2', transformers.GPT2LMHeadModel(gpt2), tokenizer)
  write('llama', transformers.LlamaForCausalLM(llama), tokenizer)
  write('mistral', transformers.MistralForCausalLM(mistral), tokenizer)
  write('opt', transformers.OPTForCausalLM(opt), tokenizer)
  write('qwen2', transformers.Qwen2ForCausalLM(qwen2), tokenizer)
  write('qwen3', transformers.Qwen3ForCausalLM(qwen3), tokenizer)


def write(name, model, tokenizer) -> None:
  """One folder: the model, its tokenizer, and what it computes."""
  folder = FOLDER / name
  torch.manual_seed(0)
  model = model.eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      # Blocks outweigh words, so that what is written varies.
      words = any(part in key for part in ('wte', 'wpe', 'embed', 'lm_head'))
      size = 1.5 if parameter.ndim > 1 and not words else 0.5
      size = 0.1 if key.endswith('bias') else size
      parameter.copy_(torch.randn_like(parameter) * size)
      if 'post_feedforward' in key:
        parameter.add_(9)
  model.save_pretrained(folder)
  tokenizer.save(str(folder / 'tokenizer.json'))
  tokenizer.enable_padding(direction='left', pad_id=1)
  encoded = tokenizer.encode_batch(PROMPTS)
  tokenizer.no_padding()
  ids = torch.tensor([one.ids for one in encoded])
  mask = torch.tensor([one.attention_mask for one in encoded])
  written = model.generate(
    input_ids=ids,
    attention_mask=mask,
    max_new_tokens=NEW,
    do_sample=False,
    pad_token_id=1,
  )[:, ids.shape[1] :]
  with torch.no_grad():
    logits = model(input_ids=ids[-1:, -encoded[-1].attention_mask.count(1) :])
  texts = [tokenizer.decode(row.tolist()) for row in written]
  np.savez(
    folder / 'expected.npz', logits=logits.logits.numpy()[0], texts=texts
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def _tokenizer() -> tokenizers.Tokenizer:
  vocabulary = {word: i for i, word in enumerate(['<s>', '</s>', '?', *WORDS])}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='?')
  )
  tokenizer.add_special_tokens(['<s>', '</s>'])
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', 0)]
  )
  return tokenizer


if __name__ == '__main__':
  main()
