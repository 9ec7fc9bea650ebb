"""Writes a small model that sees and hears and what transformers computes.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_omni.py
"""

import json
import shutil
import string
from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden/qwen2_5_omni'
MARKS = {
  'image_token': '<|IMAGE|>',
  'audio_token': '<|AUDIO|>',
  'video_token': '<|VIDEO|>',
  'vision_bos_token': '<|vision_bos|>',
  'vision_eos_token': '<|vision_eos|>',
  'audio_bos_token': '<|audio_bos|>',
  'audio_eos_token': '<|audio_eos|>',
}
SPECIAL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', *MARKS.values(), '?']
IDS = {word: i for i, word in enumerate([*SPECIAL, *string.ascii_lowercase])}
SEEN = '<|vision_bos|><|IMAGE|><|vision_eos|>'
HEARD = '<|audio_bos|><|AUDIO|><|audio_eos|>'
PROMPTS = [f'{SEEN} a {HEARD} b', f'c {HEARD} a {SEEN}']
LEAST, MOST = 8 * 16, 32 * 40
# Of a published file, besides those of sounds and these.
IMAGE_KEYS = ('image_mean', 'image_processor_type', 'image_std', 'merge_size')
IMAGE_KEYS += ('patch_size', 'temporal_patch_size')
SECONDS, NEW = 2, 12
TEMPLATE = """\
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' -}}
  {%- if message.content is string -%}
    {{- message.content -}}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'image' -%}
        {{- '<|vision_bos|><|IMAGE|><|vision_eos|>' -}}
      {%- elif part.type == 'video' -%}
        {{- '<|vision_bos|><|VIDEO|><|vision_eos|>' -}}
      {%- elif part.type == 'audio' -%}
        {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' -}}
      {%- else -%}
        {{- part.text -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


class WithoutVideos(transformers.Qwen2_5OmniProcessor):
  """Videos need torchvision there."""

  def check_argument_for_proper_class(self, name, argument):
    return None


def make_model() -> transformers.Qwen2_5OmniThinkerForConditionalGeneration:
  config = transformers.Qwen2_5OmniThinkerConfig(
    text_config={
      'vocab_size': len(IDS),
      'hidden_size': 16,
      'intermediate_size': 20,
      'num_hidden_layers': 2,
      'num_attention_heads': 2,
      'num_key_value_heads': 1,
      'max_position_embeddings': 256,
      'rope_parameters': {'mrope_section': [1, 1, 2]},
    },
    vision_config={
      'depth': 2,
      'hidden_size': 8,
      'num_heads': 2,
      'patch_size': 4,
      'intermediate_size': 12,
      'out_hidden_size': 16,
      'window_size': 16,
      'fullatt_block_indexes': [1],
    },
    audio_config={
      'num_mel_bins': 10,
      'd_model': 12,
      'encoder_layers': 2,
      'encoder_attention_heads': 3,
      'encoder_ffn_dim': 20,
      'max_source_positions': 50,
      'n_window': 10,
      'output_dim': 16,
    },
    image_token_index=IDS['<|IMAGE|>'],
    video_token_index=IDS['<|VIDEO|>'],
    audio_token_index=IDS['<|AUDIO|>'],
    audio_start_token_id=IDS['<|audio_bos|>'],
    audio_end_token_id=IDS['<|audio_eos|>'],
    vision_start_token_id=IDS['<|vision_bos|>'],
    vision_end_token_id=IDS['<|vision_eos|>'],
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
  )
  torch.manual_seed(0)
  make = transformers.Qwen2_5OmniThinkerForConditionalGeneration
  model = make(config).eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      # Blocks outweigh words, so that what is written varies.
      words = 'embed_tokens' in key or 'lm_head' in key
      size = 1.0 if parameter.ndim > 1 and not words else 0.5
      size = 0.1 if key.endswith('bias') else size
      parameter.copy_(torch.randn(parameter.shape) * size)
  model.generation_config.eos_token_id = 0
  return model


def make_processor() -> transformers.Qwen2_5OmniProcessor:
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(IDS, unk_token='?'))
  made.add_special_tokens(SPECIAL)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return WithoutVideos(
    transformers.Qwen2VLImageProcessorPil(
      patch_size=4, min_pixels=LEAST, max_pixels=MOST
    ),
    None,
    transformers.WhisperFeatureExtractor(
      feature_size=10, chunk_length=SECONDS, return_attention_mask=True
    ),
    transformers.PreTrainedTokenizerFast(
      tokenizer_object=made,
      pad_token=SPECIAL[0],
      eos_token=SPECIAL[0],
      extra_special_tokens=MARKS,
    ),
  )


def save(model, processor) -> None:
  """The folder, whose preprocessors are in one file, as published."""
  shutil.rmtree(FOLDER, ignore_errors=True)
  model.save_pretrained(FOLDER)
  processor.feature_extractor.save_pretrained(FOLDER)
  path = FOLDER / 'preprocessor_config.json'
  images = processor.image_processor.to_dict()
  settings = {key: images[key] for key in IMAGE_KEYS}
  settings |= {'min_pixels': LEAST, 'max_pixels': MOST}
  settings |= json.loads(path.read_text())
  path.write_text(json.dumps(settings, indent=2, sort_keys=True))
  processor.tokenizer.backend_tokenizer.save(str(FOLDER / 'tokenizer.json'))
  (FOLDER / 'chat_template.jinja').write_text(TEMPLATE)


def main() -> None:
  model, processor = make_model(), make_processor()
  save(model, processor)
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (40, 31, 3), np.uint8)
  sounds = [
    np.round(rng.normal(0, 3000, size)).astype(np.int16)
    for size in (5000, 3000)
  ]
  inputs = processor(
    images=[PIL.Image.fromarray(p) for p in (pixels, pixels[:19])],
    audio=[sound / np.float32(32768) for sound in sounds],
    text=PROMPTS,
    padding=True,
    return_tensors='pt',
  )
  with torch.no_grad():
    logits = model(**inputs).logits.numpy()
  written = model.generate(
    **inputs, max_new_tokens=NEW, do_sample=False, pad_token_id=0
  )[:, inputs['input_ids'].shape[1] :]
  np.savez_compressed(
    FOLDER / 'expected.npz',
    pixels=pixels,
    first=sounds[0],
    second=sounds[1],
    logits=logits,
    mask=inputs['attention_mask'].numpy(),
    texts=processor.batch_decode(written, skip_special_tokens=True),
  )
  for path in FOLDER.iterdir():
    path.chmod(0o644)


if __name__ == '__main__':
  main()
