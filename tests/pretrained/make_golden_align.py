"""Writes a small ALIGN and what transformers computes with it.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_align.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden' / 'align'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
SPECIAL = ['[PAD]', '[CLS]', '[SEP]', '[UNK]']
TEXTS = ['a small red circle', 'cat']
TEXT = {
  'vocab_size': len(SPECIAL) + len(WORDS),
  'hidden_size': 12,
  'intermediate_size': 20,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
  'max_position_embeddings': 80,
}
VISION = {
  'width_coefficient': 0.25,
  'depth_coefficient': 1.0,
  'in_channels': [32, 16, 24],
  'out_channels': [16, 24, 32],
  'kernel_sizes': [3, 5, 3],
  'strides': [1, 2, 2],
  'num_block_repeats': [1, 2, 1],
  'expand_ratios': [1, 3, 2],
  'depthwise_padding': [3],
}


def main() -> None:
  torch.manual_seed(0)
  config = transformers.AlignConfig(
    text_config=TEXT,
    vision_config=VISION,
    projection_dim=8,
    temperature_init_value=0.1,
  )
  model = transformers.AlignModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:
        parameter.copy_(torch.randn_like(parameter) * 0.8)
    for name, buffer in model.named_buffers():
      if name.endswith('running_mean'):
        buffer.normal_(0, 0.1)
      elif name.endswith('running_var'):
        buffer.uniform_(0.1, 1.0)
  processor = transformers.EfficientNetImageProcessorPil(
    size={'height': 24, 'width': 24},
    crop_size={'height': 21, 'width': 21},
    do_center_crop=True,
    do_normalize=False,
    include_top=False,
    rescale_factor=2 / 255,
    rescale_offset=True,
    resample=2,
  )
  tokenizer = _tokenizer()
  model.save_pretrained(FOLDER)
  processor.save_pretrained(FOLDER)
  tokenizer.save(str(FOLDER / 'tokenizer.json'))
  pixels = np.random.default_rng(0).integers(0, 256, (30, 23, 3), np.uint8)
  images = [PIL.Image.fromarray(pixels[:, ::s]) for s in (1, -1)]
  seen = processor(images, return_tensors='pt')['pixel_values']
  tokenizer.enable_padding(length=64)
  encoded = tokenizer.encode_batch(TEXTS)
  with torch.no_grad():
    out = model(
      pixel_values=seen,
      input_ids=torch.tensor([one.ids for one in encoded]),
      attention_mask=torch.tensor([one.attention_mask for one in encoded]),
    )
  np.savez(
    FOLDER / 'expected.npz',
    pixels=pixels,
    image=out.image_embeds.numpy(),
    text=out.text_embeds.numpy(),
    logits=out.logits_per_image.numpy(),
  )
  for path in FOLDER.iterdir():
    path.chmod(0o644)


def _tokenizer() -> tokenizers.Tokenizer:
  vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]')
  )
  tokenizer.add_special_tokens(SPECIAL)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
  )
  return tokenizer


if __name__ == '__main__':
  main()
