"""Writes small BLIP models and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_blip.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
TEXTS = ['a small red circle', 'cat']
BOS = 15
TEXT = {
  'hidden_size': 8,
  'intermediate_size': 12,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'max_position_embeddings': 15,
  'vocab_size': 16,
  'bos_token_id': BOS,
  'sep_token_id': 2,
  'pad_token_id': 0,
}
VISION = {
  'hidden_size': 8,
  'intermediate_size': 10,
  'num_hidden_layers': 2,
  'num_attention_heads': 1,
  'image_size': 20,
  'patch_size': 10,
}


def captions() -> None:
  """A captioner, without and with a prompt."""
  model, given, _ = _start(transformers.BlipForConditionalGeneration, 17)
  pixels = given['pixel_values']
  prompt = torch.tensor([[BOS, 4, 5, 2]] * 2)
  _write(
    'blip_captions',
    model,
    captions=model.generate(pixels, max_new_tokens=6)[:, 1:],
    prompted=model.generate(pixels, prompt, max_new_tokens=6)[:, 1:],
  )


def answers() -> None:
  """One that answers, question by question."""
  model, given, encoded = _start(transformers.BlipForQuestionAnswering, 22)
  for i, one in enumerate(encoded):
    written = model.generate(
      torch.tensor([one.ids]),
      given['pixel_values'][i : i + 1],
      max_new_tokens=6,
    )
    given[f'answer{i}'] = written[:, 1:]
  del given['pixel_values']
  _write('blip_answers', model, **given)


def matches() -> None:
  """One that matches and embeds."""
  model, given, encoded = _start(transformers.BlipForImageTextRetrieval)
  ids = torch.zeros(2, max(len(one.ids) for one in encoded), dtype=torch.long)
  mask = torch.zeros_like(ids)
  for row, one in enumerate(encoded):
    ids[row, : len(one.ids)] = torch.tensor(one.ids)
    mask[row, : len(one.ids)] = 1
  given |= {'input_ids': ids, 'attention_mask': mask}
  with torch.no_grad():
    matched = model(**given).itm_score.softmax(-1)[:, 1]
    similarity = model(**given, use_itm_head=False).itm_score
  _write('blip_matches', model, matched=matched, similarity=similarity)


def _start(make, seed=0):
  """A model, two images for it and two texts; not all seeds write much."""
  config = transformers.BlipConfig(
    text_config=TEXT, vision_config=VISION, image_text_hidden_size=7
  )
  torch.manual_seed(seed)
  model = make(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      # Or each word and place were as good as another.
      scale = 2.0 if 'embedding' in name else 0.7
      parameter.copy_(torch.randn_like(parameter) * scale)
      if 'predictions.bias' in name:
        parameter[4 + len(WORDS) :] = -50.0  # Words alone.
  images = [PIL.Image.fromarray(_pixels()[:, ::s]) for s in (1, -1)]
  inputs = _processor()(images, return_tensors='pt')
  encoded = _tokenizer().encode_batch(TEXTS)
  return model, {'pixel_values': inputs['pixel_values']}, encoded


def _write(name, model, **expected) -> None:
  folder = FOLDER / name
  model.save_pretrained(folder)
  _processor().save_pretrained(folder)
  _tokenizer().save(str(folder / 'tokenizer.json'))
  arrays = {key: value.numpy() for key, value in expected.items()}
  np.savez(folder / 'expected.npz', pixels=_pixels(), **arrays)
  for path in folder.iterdir():
    path.chmod(0o644)


def _pixels() -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (30, 23, 3), np.uint8)


def _processor() -> transformers.BlipImageProcessorPil:
  return transformers.BlipImageProcessorPil(size={'height': 20, 'width': 20})


def _tokenizer() -> tokenizers.Tokenizer:
  special = ['[PAD]', '[CLS]', '[SEP]', '[UNK]']
  vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]')
  )
  tokenizer.add_special_tokens(special)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
  )
  return tokenizer


if __name__ == '__main__':
  captions()
  answers()
  matches()
