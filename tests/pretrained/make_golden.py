"""Writes small published-like models and what transformers computes with them.

They keep a core of the comparisons running where transformers isn't installed.
Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
TEXTS = ['a small red circle', 'cat', 'a large blue square ' * 5]


def clip() -> None:
  """CLIP with its tokenizer and preprocessing."""
  folder = FOLDER / 'clip'
  tokenizer = _tokenizer()
  config = transformers.CLIPConfig(
    text_config={
      'hidden_size': 12,
      'intermediate_size': 20,
      'num_hidden_layers': 2,
      'num_attention_heads': 3,
      'max_position_embeddings': 9,
      'vocab_size': tokenizer.get_vocab_size(),
      'bos_token_id': 0,
      'eos_token_id': 1,
    },
    vision_config={
      'hidden_size': 10,
      'intermediate_size': 18,
      'num_hidden_layers': 2,
      'num_attention_heads': 2,
      'image_size': 21,
      'patch_size': 7,
    },
    projection_dim=8,
  )
  torch.manual_seed(0)
  model = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:
        parameter.add_(torch.randn_like(parameter) * 0.1)
  model.save_pretrained(folder)
  processor = transformers.CLIPImageProcessorPil(
    size={'shortest_edge': 24}, crop_size={'height': 21, 'width': 21}
  )
  processor.save_pretrained(folder)
  tokenizer.save(str(folder / 'tokenizer.json'))

  pixels = np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8)
  pictures = [PIL.Image.fromarray(pixels), PIL.Image.fromarray(pixels[:, ::-1])]
  tokenizer.enable_truncation(9)
  tokenizer.enable_padding(pad_id=1, length=9)
  encoded = tokenizer.encode_batch(TEXTS)
  with torch.no_grad():
    out = model(
      input_ids=torch.tensor([one.ids for one in encoded]),
      attention_mask=torch.tensor([one.attention_mask for one in encoded]),
      pixel_values=processor(pictures, return_tensors='pt')['pixel_values'],
    )
  np.savez(
    folder / 'expected.npz',
    pixels=pixels,
    image=out.image_embeds.numpy(),
    text=out.text_embeds.numpy(),
  )


def _tokenizer() -> tokenizers.Tokenizer:
  vocabulary = {word: i for i, word in enumerate(['<s>', '</s>', '?', *WORDS])}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='?')
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 1)]
  )
  return tokenizer


if __name__ == '__main__':
  clip()
