"""Writes small BLIP-2 models and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_blip2.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
PROMPTS = ['a small', 'cat']
NEW = 8
SPECIAL = ['<pad>', '</s>', '<unk>', '<s>']
IMAGE = len(SPECIAL) + len(WORDS)
NUMBER = 3
VISION = {
  'hidden_size': 8,
  'intermediate_size': 10,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'image_size': 20,
  'patch_size': 10,
}
QUERIES = {
  'hidden_size': 8,
  'intermediate_size': 12,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
}
IDS = {'vocab_size': IMAGE + 1, 'pad_token_id': 0, 'eos_token_id': 1}
TEXTS = {
  'blip2_opt': {
    'model_type': 'opt',
    'hidden_size': 8,
    'ffn_dim': 12,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'max_position_embeddings': 40,
    'bos_token_id': 3,
    **IDS,
  },
  'blip2_t5': {
    'model_type': 't5',
    'd_model': 8,
    'd_kv': 4,
    'd_ff': 12,
    'num_layers': 2,
    'num_heads': 2,
    'decoder_start_token_id': 0,
    'feed_forward_proj': 'gated-gelu',
    **IDS,
  },
}
# With which much is written.
SEEDS = {'blip2_opt': 5, 'blip2_t5': 3}


def main() -> None:
  for name, seed in SEEDS.items():
    write(name, seed)


def write(name: str, seed: int) -> None:
  """One folder: the model, what prepares its inputs, and what it computes."""
  folder = FOLDER / name
  config = transformers.Blip2Config(
    vision_config=VISION,
    qformer_config=QUERIES,
    text_config=TEXTS[name],
    num_query_tokens=NUMBER,
    image_token_index=IMAGE,
  )
  torch.manual_seed(seed)
  model = transformers.Blip2ForConditionalGeneration(config).eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      size = 0.2 if key.endswith('.q.weight') else 1.0
      parameter.copy_(torch.randn_like(parameter) * size)
      if parameter.shape[0] == IMAGE + 1:  # Words alone.
        parameter[: len(SPECIAL)] = parameter[IMAGE] = 0.0
  tokenizer = _tokenizer(name)
  processor = transformers.BlipImageProcessorPil(
    size={'height': 20, 'width': 20}
  )
  model.save_pretrained(folder)
  processor.save_pretrained(folder)
  tokenizer.save(str(folder / 'tokenizer.json'))
  pixels = np.random.default_rng(0).integers(0, 256, (30, 23, 3), np.uint8)
  images = [PIL.Image.fromarray(pixels[:, ::s]) for s in (1, -1)]
  seen = processor(images, return_tensors='pt')['pixel_values']
  ids, texts = [], []
  for i, prompt in enumerate(PROMPTS):
    row = [IMAGE] * NUMBER + tokenizer.encode(prompt).ids
    written = model.generate(
      seen[i : i + 1],
      torch.tensor([row]),
      max_new_tokens=NEW,
      do_sample=False,
    )
    ids.append(row)
    texts.append(tokenizer.decode(written[0, -NEW:].tolist()))
  with torch.no_grad():
    features = model.get_image_features(seen).pooler_output
  np.savez(
    folder / 'expected.npz',
    pixels=pixels,
    features=features.numpy(),
    first_ids=ids[0],
    texts=texts,
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def _tokenizer(name: str) -> tokenizers.Tokenizer:
  vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='<unk>')
  )
  tokenizer.add_special_tokens([*SPECIAL, '<image>'])
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  single = '<s> $A' if name == 'blip2_opt' else '$A </s>'
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single=single, special_tokens=[('<s>', 3), ('</s>', 1)]
  )
  return tokenizer


if __name__ == '__main__':
  main()
