"""Writes a small SigLIP 2 for any aspect ratio and what transformers computes.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_siglip2.py
"""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden' / 'siglip2'
WORDS = ['<pad>', '<eos>', '?', 'a', 'small', 'red', 'circle', 'cat']
TEXTS = ['a small red circle', 'cat']
LENGTH = 6


def siglip2() -> None:
  """With its tokenizer and preprocessing; padding is read like words."""
  shared = {'hidden_size': 12, 'intermediate_size': 20, 'num_hidden_layers': 2}
  text = {
    **shared,
    'num_attention_heads': 3,
    'max_position_embeddings': LENGTH,
    'vocab_size': len(WORDS),
  }
  vision = {
    **shared,
    'num_attention_heads': 2,
    'patch_size': 5,
    'num_patches': 9,
  }
  config = transformers.Siglip2Config(text_config=text, vision_config=vision)
  torch.manual_seed(0)
  model = transformers.Siglip2Model(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.3)
  processor = transformers.Siglip2ImageProcessorPil(
    patch_size=5, max_num_patches=10
  )
  tokenizer = _tokenizer()
  model.save_pretrained(FOLDER)
  processor.save_pretrained(FOLDER)
  tokenizer.save(str(FOLDER / 'tokenizer.json'))
  named = json.dumps({'pad_token': '<pad>'})
  (FOLDER / 'tokenizer_config.json').write_text(named)

  rng = np.random.default_rng(0)
  wide = rng.integers(0, 256, (12, 31, 3), np.uint8)
  tall = rng.integers(0, 256, (40, 23, 3), np.uint8)
  images = [PIL.Image.fromarray(wide), PIL.Image.fromarray(tall)]
  tokenizer.enable_padding(length=LENGTH, pad_id=0)
  ids = [one.ids for one in tokenizer.encode_batch(TEXTS)]
  with torch.no_grad():
    out = model(
      input_ids=torch.tensor(ids), **processor(images, return_tensors='pt')
    )
  np.savez(
    FOLDER / 'expected.npz',
    wide=wide,
    tall=tall,
    image=out.image_embeds.numpy(),
    text=out.text_embeds.numpy(),
  )
  for path in FOLDER.iterdir():
    path.chmod(0o644)


def _tokenizer() -> tokenizers.Tokenizer:
  vocabulary = {word: i for i, word in enumerate(WORDS)}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='?')
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='$A <eos>', special_tokens=[('<eos>', 1)]
  )
  return tokenizer


if __name__ == '__main__':
  siglip2()
