"""Writes small T5 models and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_t5.py
"""

from pathlib import Path

import numpy as np
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
TEXTS = ['a small red circle', 'cat', 'a large blue square is a cat']
NEW = 10
CONFIG = {
  'd_model': 12,
  'd_kv': 5,
  'd_ff': 20,
  'num_layers': 2,
  'num_heads': 3,
  'relative_attention_num_buckets': 8,
  'relative_attention_max_distance': 6,
  'decoder_start_token_id': 0,
}
# By name: what differs, and a seed with which much is written.
MODELS = {
  't5': ({}, 32),
  't5_gated': (
    {'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False},
    38,
  ),
}


def main() -> None:
  tokenizer = _tokenizer()
  for name, (settings, seed) in MODELS.items():
    config = transformers.T5Config(
      vocab_size=len(tokenizer), **CONFIG, **settings
    )
    write(name, transformers.T5ForConditionalGeneration(config), seed)


def write(name, model, seed) -> None:
  """One folder: the model, its tokenizer, and what it computes."""
  folder, tokenizer = FOLDER / name, _tokenizer()
  if not model.config.scale_decoder_outputs:
    # As in published checkpoints, whatever transformers makes of a new model.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.all_tied_weights_keys.pop('lm_head.weight')
  torch.manual_seed(seed)
  model = model.eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      size = 0.2 if key.endswith('.q.weight') else 1.0
      parameter.copy_(torch.randn_like(parameter) * size)
      if key in ('shared.weight', 'lm_head.weight'):
        parameter[:4] = parameter[4 + len(WORDS) :] = 0.0  # Words alone.
  model.save_pretrained(folder)
  tokenizer.save_pretrained(folder)
  given = tokenizer(TEXTS, return_tensors='pt', padding=True)
  written = model.generate(**given, max_new_tokens=NEW, do_sample=False)
  with torch.no_grad():
    values = model.encoder(**given).last_hidden_state
    one = tokenizer(TEXTS[-1], return_tensors='pt')
    logits = model(**one, decoder_input_ids=written[-1:]).logits
  np.savez(
    folder / 'expected.npz',
    ids=given['input_ids'].numpy(),
    mask=given['attention_mask'].numpy().astype(bool),
    values=values.numpy(),
    written=written.numpy(),
    logits=logits.numpy()[0],
    texts=tokenizer.batch_decode(written, skip_special_tokens=True),
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def _tokenizer() -> transformers.T5TokenizerFast:
  words = ['<pad>', '</s>', '<unk>', '▁', *(f'▁{word}' for word in WORDS)]
  vocabulary = [(word, -float(i)) for i, word in enumerate(words)]
  return transformers.T5TokenizerFast(vocab=vocabulary, extra_ids=2)


if __name__ == '__main__':
  main()
