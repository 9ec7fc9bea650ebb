"""Writes small published-like models and what transformers computes with them.

They keep a core of the comparisons running where transformers isn't installed.
Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden.py
"""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat']
TEXTS = ['a small red circle', 'cat', 'a large blue square ' * 5]


TEXT = {
  'hidden_size': 12,
  'intermediate_size': 20,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
  'max_position_embeddings': 9,
  'bos_token_id': 0,
  'eos_token_id': 1,
}
VISION = {
  'hidden_size': 10,
  'intermediate_size': 18,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'image_size': 21,
  'patch_size': 7,
}


def clip() -> None:
  """CLIP with its tokenizer and preprocessing."""
  tokenizer = _tokenizer()
  text = {**TEXT, 'vocab_size': tokenizer.get_vocab_size()}
  config = transformers.CLIPConfig(
    text_config=text, vision_config=VISION, projection_dim=8
  )
  processor = transformers.CLIPImageProcessorPil(
    size={'shortest_edge': 24}, crop_size={'height': 21, 'width': 21}
  )
  _dual_encoder('clip', transformers.CLIPModel(config), processor, tokenizer)


def siglip() -> None:
  """SigLIP, whose texts are read with their padding."""
  tokenizer = _tokenizer()
  text = {**TEXT, 'vocab_size': tokenizer.get_vocab_size()}
  config = transformers.SiglipConfig(
    text_config={**text, 'projection_size': 10}, vision_config=VISION
  )
  processor = transformers.SiglipImageProcessorPil(
    size={'height': 21, 'width': 21}
  )
  _dual_encoder(
    'siglip', transformers.SiglipModel(config), processor, tokenizer
  )


def bert() -> None:
  """BERT as a sentence encoder, and as a filler of gaps."""
  tokenizer = _tokenizer()
  config = transformers.BertConfig(
    vocab_size=tokenizer.get_vocab_size(),
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=9,
  )
  encoded = _encoded(tokenizer)
  ids = torch.tensor([one.ids for one in encoded])
  mask = torch.tensor([one.attention_mask for one in encoded])
  expected = {}
  for name, model in (
    ('bert', transformers.BertModel(config)),
    ('bert_filler', transformers.BertForMaskedLM(config)),
  ):
    _save(name, model, tokenizer)
    with torch.no_grad():
      expected[name] = model(input_ids=ids, attention_mask=mask)
  steps = ('Transformer', ''), ('Pooling', '1_Pooling'), ('Normalize', 'n')
  entries = [
    {'idx': i, 'path': path, 'type': f'sentence_transformers.models.{kind}'}
    for i, (kind, path) in enumerate(steps)
  ]
  folder = FOLDER / 'bert'
  (folder / 'modules.json').write_text(json.dumps(entries))
  (folder / 'sentence_bert_config.json').write_text('{"max_seq_length": 8}')
  (folder / '1_Pooling').mkdir(exist_ok=True)
  (folder / '1_Pooling' / 'config.json').write_text(
    json.dumps(
      {'pooling_mode_cls_token': False, 'pooling_mode_mean_tokens': True}
    )
  )
  np.savez(
    folder / 'expected.npz',
    values=expected['bert'].last_hidden_state.numpy(),
    pooled=expected['bert'].pooler_output.numpy(),
    logits=expected['bert_filler'].logits.numpy(),
    ids=ids.numpy(),
    mask=mask.numpy().astype(bool),
  )


def _save(name, model, tokenizer, processor=None) -> None:
  folder = FOLDER / name
  torch.manual_seed(0)
  model = model.eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.2)
  model.save_pretrained(folder)
  tokenizer.save(str(folder / 'tokenizer.json'))
  if processor is not None:
    processor.save_pretrained(folder)
  for path in folder.iterdir():
    if path.is_file():
      path.chmod(0o644)


def _encoded(tokenizer):
  """The texts, cut or padded to nine tokens."""
  tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
  tokenizer.enable_truncation(9)
  tokenizer.enable_padding(pad_id=1, length=9)
  return tokenizer.encode_batch(TEXTS)


def _dual_encoder(name, model, processor, tokenizer) -> None:
  _save(name, model, tokenizer, processor)
  pixels = np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8)
  images = [PIL.Image.fromarray(pixels), PIL.Image.fromarray(pixels[:, ::-1])]
  encoded = _encoded(tokenizer)
  inputs = {'input_ids': torch.tensor([one.ids for one in encoded])}
  if name == 'clip':
    masks = [one.attention_mask for one in encoded]
    inputs['attention_mask'] = torch.tensor(masks)
  with torch.no_grad():
    out = model(
      **inputs,
      pixel_values=processor(images, return_tensors='pt')['pixel_values'],
    )
  np.savez(
    FOLDER / name / 'expected.npz',
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
  siglip()
  bert()
