"""Writes small models that see and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_vision_language.py
"""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
WORDS = ['a', 'small', 'large', 'red', 'blue', 'circle', 'square', 'cat', 'is']
SPECIAL = ['<s>', '</s>', '?', '<image>', '<|vision_start|>', '<|vision_end|>']
SPECIAL += ['<|image_pad|>', '<|video_pad|>']
NEW = 12

IDS = {'bos_token_id': 0, 'eos_token_id': 1}
TEXT = {
  'vocab_size': len(SPECIAL) + len(WORDS),
  'hidden_size': 16,
  'intermediate_size': 20,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'num_key_value_heads': 1,
  'max_position_embeddings': 64,
  **IDS,
}
CLIP = {
  'hidden_size': 12,
  'intermediate_size': 18,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'image_size': 21,
  'patch_size': 7,
}
QWEN = {
  'image_token_id': SPECIAL.index('<|image_pad|>'),
  'video_token_id': SPECIAL.index('<|video_pad|>'),
  'vision_start_token_id': SPECIAL.index('<|vision_start|>'),
  'vision_end_token_id': SPECIAL.index('<|vision_end|>'),
}
SEEN = '<|vision_start|><|image_pad|><|vision_end|>'
PROMPTS = {
  'gemma3': ['<|vision_start|> a small red', 'a <|vision_start|> cat is'],
  'idefics3': ['<image> a small red', 'a <image> cat is'],
  'internvl': ['<image> a small red', 'a <image> cat is'],
  'llava': ['<image> a small red', 'a <image> cat is'],
  'llava_onevision': ['<image> a small red', 'a <image> cat is'],
  'paligemma': ['a small red', 'a cat is'],
  'smolvlm': ['<image> a small red', 'a <image> cat is'],
  'qwen2_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
  'qwen2_5_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
  'qwen3_vl': [f'{SEEN} a small red', f'a {SEEN} cat is'],
}


def gemma3() -> None:
  config = transformers.Gemma3Config(
    text_config=transformers.Gemma3TextConfig(
      **TEXT,
      head_dim=8,
      layer_types=['sliding_attention', 'full_attention'],
      sliding_window=6,
    ),
    vision_config=transformers.SiglipVisionConfig(
      **{**CLIP, 'image_size': 24, 'patch_size': 4}, vision_use_head=False
    ),
    mm_tokens_per_image=9,
    boi_token_index=SPECIAL.index('<|vision_start|>'),
    eoi_token_index=SPECIAL.index('<|vision_end|>'),
    image_token_index=SPECIAL.index('<image>'),
    **IDS,
  )
  images = transformers.Gemma3ImageProcessorPil(
    size={'height': 24, 'width': 24}
  )
  words = tokenizer()
  names = {'boi': '<|vision_start|>', 'eoi': '<|vision_end|>'}
  for name, token in {**names, 'image': '<image>'}.items():
    setattr(words, f'{name}_token', token)
    setattr(words, f'{name}_token_id', SPECIAL.index(token))
  processor = transformers.Gemma3Processor(images, words, image_seq_length=9)
  write(
    'gemma3', transformers.Gemma3ForConditionalGeneration(config), processor
  )


def idefics3() -> None:
  kinds = {
    'idefics3': (
      transformers.Idefics3Config,
      transformers.Idefics3ForConditionalGeneration,
      transformers.Idefics3ImageProcessorPil,
      True,
    ),
    'smolvlm': (
      transformers.SmolVLMConfig,
      transformers.SmolVLMForConditionalGeneration,
      transformers.SmolVLMImageProcessorPil,
      False,
    ),
  }
  places = [f'<row_{row}_col_{column}>' for row in (1, 2) for column in (1, 2)]
  more = ['<fake_token_around_image>', '<end_of_utterance>', '<global-img>']
  for name, (make_config, make, make_images, splits) in kinds.items():
    words = tokenizer(*more, *places)
    config = make_config(
      text_config=transformers.LlamaConfig(
        **{**TEXT, 'vocab_size': len(words), 'max_position_embeddings': 128}
      ),
      vision_config={**CLIP, 'image_size': 24, 'patch_size': 4},
      image_token_id=SPECIAL.index('<image>'),
      scale_factor=3,
      **IDS,
    )
    images = make_images(
      size={'longest_edge': 48},
      max_image_size={'longest_edge': 24},
      do_image_splitting=splits,
    )
    # SmolVLM's own needs num2words, for videos alone.
    processor = transformers.Idefics3Processor(images, words, image_seq_len=4)
    write(name, make(config), processor)


def internvl() -> None:
  words = tokenizer()
  names = {'start_image': '<|vision_start|>', 'end_image': '<|vision_end|>'}
  names |= {'context_image': '<image>', 'video': '<|video_pad|>'}
  for name, token in names.items():
    setattr(words, f'{name}_token', token)
    setattr(words, f'{name}_token_id', SPECIAL.index(token))
  config = transformers.InternVLConfig(
    text_config=transformers.Qwen2Config(
      **{**TEXT, 'max_position_embeddings': 128}
    ),
    vision_config={**CLIP, 'image_size': 24, 'patch_size': 6},
    image_token_id=SPECIAL.index('<image>'),
    image_seq_length=4,
    **IDS,
  )
  images = transformers.GotOcr2ImageProcessorPil(
    size={'height': 24, 'width': 24}, max_patches=4
  )

  make = without_videos(transformers.InternVLProcessor)
  processor = make(images, words, None, image_seq_length=4)
  model = transformers.InternVLForConditionalGeneration(config)
  write('internvl', model, processor)
  path = FOLDER / 'internvl/tokenizer_config.json'
  kept = {
    key: names[key.removesuffix('_token')]
    for key in ('start_image_token', 'end_image_token')
  }
  path.write_text(json.dumps(kept))


def llava() -> None:
  config = transformers.LlavaConfig(
    text_config=transformers.LlamaConfig(**TEXT),
    vision_config=transformers.CLIPVisionConfig(**CLIP),
    image_token_index=SPECIAL.index('<image>'),
    **IDS,
  )
  images = transformers.CLIPImageProcessorPil(
    size={'shortest_edge': 24}, crop_size={'height': 21, 'width': 21}
  )
  processor = transformers.LlavaProcessor(
    images,
    tokenizer(),
    patch_size=7,
    num_additional_image_tokens=1,
    vision_feature_select_strategy='default',
  )
  model = transformers.LlavaForConditionalGeneration(config)
  write('llava', model, processor)


def llava_onevision() -> None:
  sizes = [[24, 24], [24, 48], [48, 24], [48, 48], [72, 24]]
  config = transformers.LlavaOnevisionConfig(
    text_config=transformers.Qwen2Config(
      **{**TEXT, 'max_position_embeddings': 256}
    ),
    vision_config=transformers.SiglipVisionConfig(
      **{**CLIP, 'image_size': 24, 'patch_size': 6}, vision_use_head=False
    ),
    image_token_index=SPECIAL.index('<image>'),
    video_token_index=SPECIAL.index('<|video_pad|>'),
    image_grid_pinpoints=sizes,
    vision_aspect_ratio='anyres_max_2',
    **IDS,
  )
  images = transformers.LlavaOnevisionImageProcessorPil(
    size={'height': 24, 'width': 24}, image_grid_pinpoints=sizes
  )
  processor = without_videos(transformers.LlavaOnevisionProcessor)(
    images,
    tokenizer(),
    None,
    num_image_tokens=16,
    vision_feature_select_strategy='full',
    vision_aspect_ratio='anyres_max_2',
  )
  model = transformers.LlavaOnevisionForConditionalGeneration(config)
  write('llava_onevision', model, processor)


def paligemma() -> None:
  config = transformers.PaliGemmaConfig(
    text_config=transformers.GemmaConfig(**TEXT, head_dim=8),
    vision_config=transformers.SiglipVisionConfig(
      **CLIP, vision_use_head=False
    ),
    projection_dim=16,
    image_token_index=SPECIAL.index('<image>'),
    **IDS,
  )
  images = transformers.SiglipImageProcessorPil(
    size={'height': 21, 'width': 21}
  )
  images.image_seq_length = 9
  words = tokenizer()
  words.image_token, words.image_token_id = '<image>', SPECIAL.index('<image>')
  # Its own tokens for places in images would not fit in the small vocabulary.
  words.add_tokens = lambda tokens: 0
  processor = transformers.PaliGemmaProcessor(images, words)
  # What the published tokenizer does.
  words.backend_tokenizer.post_processor = (
    tokenizers.processors.TemplateProcessing(single='$A', special_tokens=[])
  )
  model = transformers.PaliGemmaForConditionalGeneration(config)
  write('paligemma', model, processor)


def qwen2_vl() -> None:
  vision = {'depth': 2, 'embed_dim': 8, 'num_heads': 2, 'hidden_size': 16}
  config = transformers.Qwen2VLConfig(
    text_config={**TEXT, 'rope_parameters': {'mrope_section': [1, 1, 2]}},
    vision_config={**vision, 'mlp_ratio': 2, 'patch_size': 4},
    tie_word_embeddings=True,
    **QWEN,
  )
  model = transformers.Qwen2VLForConditionalGeneration(config)
  write('qwen2_vl', model, qwen_processor(transformers.Qwen2VLProcessor))


def qwen2_5_vl() -> None:
  vision = {'depth': 3, 'hidden_size': 8, 'num_heads': 2, 'patch_size': 4}
  config = transformers.Qwen2_5_VLConfig(
    text_config={**TEXT, 'rope_parameters': {'mrope_section': [1, 1, 2]}},
    vision_config={
      **vision,
      'intermediate_size': 12,
      'out_hidden_size': 16,
      'window_size': 16,
      'fullatt_block_indexes': [1],
    },
    **QWEN,
  )
  model = transformers.Qwen2_5_VLForConditionalGeneration(config)
  write('qwen2_5_vl', model, qwen_processor(transformers.Qwen2_5_VLProcessor))


def qwen3_vl() -> None:
  rope = {'mrope_section': [2, 1, 1], 'rope_type': 'default'}
  config = transformers.Qwen3VLConfig(
    text_config={**TEXT, 'head_dim': 8, 'rope_parameters': rope},
    vision_config={
      'depth': 2,
      'hidden_size': 8,
      'num_heads': 2,
      'patch_size': 4,
      'intermediate_size': 12,
      'out_hidden_size': 16,
      'num_position_embeddings': 9,
      'deepstack_visual_indexes': [0],
    },
    **QWEN,
  )
  model = transformers.Qwen3VLForConditionalGeneration(config)
  write('qwen3_vl', model, qwen_processor(transformers.Qwen3VLProcessor))


def qwen_processor(make):
  images = transformers.Qwen2VLImageProcessorPil(
    patch_size=4, min_pixels=8 * 16, max_pixels=32 * 40
  )
  return without_videos(make)(images, tokenizer(), None)


def without_videos(make):
  class WithoutVideos(make):
    """Videos need torchvision there."""

    attributes = ('image_processor', 'tokenizer')

    def check_argument_for_proper_class(self, name, argument):
      return None

  return WithoutVideos


def write(name, model, processor) -> None:
  """One folder: the model, its files, and what it computes."""
  folder = FOLDER / name
  torch.manual_seed(0)
  model = model.eval()
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      # Blocks outweigh words, so that what is written varies.
      words = 'embed' in key or 'lm_head' in key
      size = 1.0 if parameter.ndim > 1 and not words else 0.5
      size = 0.1 if key.endswith('bias') else size
      parameter.copy_(torch.randn_like(parameter) * size)
      if 'post_feedforward' in key:
        parameter.add_(9)
  model.save_pretrained(folder)
  processor.image_processor.save_pretrained(folder)
  processor.tokenizer.backend_tokenizer.save(str(folder / 'tokenizer.json'))

  pixels = np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8)
  images = [[PIL.Image.fromarray(p)] for p in (pixels, pixels[:19])]
  inputs = processor(
    images=images,
    text=PROMPTS[name],
    padding=True,
    padding_side='left',
    return_tensors='pt',
  )
  written = model.generate(
    **inputs, max_new_tokens=NEW, do_sample=False, pad_token_id=1
  )[:, inputs['input_ids'].shape[1] :]
  alone = processor(
    images=images[:1], text=PROMPTS[name][:1], return_tensors='pt'
  )
  with torch.no_grad():
    logits = model(**alone).logits.numpy()[0]
  np.savez(
    folder / 'expected.npz',
    pixels=pixels,
    logits=logits,
    texts=processor.batch_decode(written, skip_special_tokens=True),
  )
  for path in folder.iterdir():
    path.chmod(0o644)


def tokenizer(*more: str) -> transformers.PreTrainedTokenizerFast:
  vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS, *more])}
  made = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='?')
  )
  made.add_special_tokens([*SPECIAL, *more])
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', 0)]
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, pad_token='</s>', bos_token='<s>', eos_token='</s>'
  )


if __name__ == '__main__':
  gemma3()
  idefics3()
  internvl()
  llava()
  llava_onevision()
  paligemma()
  qwen2_vl()
  qwen2_5_vl()
  qwen3_vl()
