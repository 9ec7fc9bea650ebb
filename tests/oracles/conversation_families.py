"""Processors of images in conversations, and our features of the same."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tokenizers
import transformers

from tests.data import chat_forms, chat_tokenizer

LENGTH = 2048
SIZE = {'height': 21, 'width': 21}
START, END = '<start_of_image>', '<end_of_image>'
# Gemma 3 resizes with another filter, Janus pads with its mean color.
RESIZED = ('gemma3', 'janus')
QWEN_VL = ('Qwen2VL', 'Qwen2_5_VL', 'Qwen3VL')
FORMS = {
  'llava': chat_forms.LLAVA,
  'onevision': chat_forms.LLAVA,
  'smolvlm': chat_forms.SMOLVLM,
  'internvl': chat_forms.INTERNVL,
  'gemma3': chat_forms.LLAVA.replace('<image>', START),
  'janus': chat_forms.SMOLVLM,
  **dict.fromkeys(QWEN_VL, chat_forms.QWEN_VL),
}
_SURROUNDED = {'image_token': '<image>', 'boi_token': START, 'eoi_token': END}
# Tokens that the processor asks the tokenizer for.
_NAMED = {
  'gemma3': _SURROUNDED,
  'janus': _SURROUNDED,
  'internvl': {
    'start_image_token': '<img>',
    'end_image_token': '</img>',
    'context_image_token': '<IMG_CONTEXT>',
    'video_token': '<video>',
  },
}
# What is written around the tiles of an image.
_TILES = ['<fake_token_around_image>', '<global-img>']
_TILES += [f'<row_{row}_col_{col}>' for row in (1, 2, 3) for col in (1, 2, 3)]
PATCHES = {'patch_size': 4, 'min_pixels': 8 * 16, 'max_pixels': 32 * 40}


@dataclasses.dataclass(frozen=True)
class Family:
  """A family's processor, and how we prepare the same.

  Attributes:
    tokenizer: of both.
    processor: of transformers.
    turns: settings of our conversations.
    photos: settings of our images.
  """

  tokenizer: tokenizers.Tokenizer
  processor: Any
  turns: Mapping[str, Any]
  photos: Mapping[str, Any]


def make(name: str) -> Family:
  """Makes the family of a name of `FORMS`."""
  tokenizer = make_tokenizer(name)
  makers = {
    'llava': _make_llava,
    'onevision': _make_onevision,
    'smolvlm': _make_smolvlm,
    'internvl': _make_internvl,
    'gemma3': _make_gemma3,
    'janus': _make_janus,
  }
  names = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    **chat_forms.TOKENS,
    extra_special_tokens=_NAMED.get(name, {}),
  )
  template = chat_forms.mark(FORMS[name])
  if name in makers:
    processor, turns, photos = makers[name](names, template)
  else:
    processor, turns, photos = _make_qwen(name, names, template)
  images = processor.image_processor
  photos |= {'mean': images.image_mean, 'std': images.image_std}
  turns |= {'image': 'photos', 'length': LENGTH, 'packed': True}
  return Family(tokenizer, processor, turns, photos)


def make_tokenizer(name: str) -> tokenizers.Tokenizer:
  """A tokenizer with the special tokens of a family."""
  tokenizer = chat_tokenizer.make()
  if name == 'smolvlm':
    tokenizer.add_special_tokens(_TILES)
  tokenizer.add_special_tokens(list(_NAMED.get(name, {}).values()))
  if name == 'gemma3':
    tokenizer.add_tokens(['\n\n', '\n\n\n'])  # As the published one.
  return tokenizer


def drop_videos(make_processor):
  """A processor without videos, which need torchvision there."""

  class WithoutVideos(make_processor):
    attributes = ('image_processor', 'tokenizer')

    def check_argument_for_proper_class(self, name, argument):
      return None

  return WithoutVideos


def _make_llava(names, template):
  images = transformers.CLIPImageProcessorPil(size=SIZE, do_center_crop=False)
  processor = transformers.LlavaProcessor(
    images,
    names,
    patch_size=7,
    num_additional_image_tokens=1,
    vision_feature_select_strategy='default',
    chat_template=template,
  )
  turns = {'image_tokens': 9, 'placeholder': '<image>'}
  return processor, turns, {'kind': 'images', 'number': 12, 'size': 21}


def _make_onevision(names, template):
  sizes = [[21, 21], [21, 42], [42, 21], [42, 42], [63, 21]]
  images = transformers.LlavaOnevisionImageProcessorPil(
    size=SIZE, image_grid_pinpoints=sizes
  )
  processor = drop_videos(transformers.LlavaOnevisionProcessor)(
    images,
    names,
    None,
    num_image_tokens=9,
    vision_feature_select_strategy='full',
    chat_template=template,
    vision_aspect_ratio='anyres_max_2',
  )
  turns = {'image_tokens': 9, 'placeholder': '<image>'}
  photos = {'kind': 'tiles', 'scheme': 'padded', 'number': 20, 'size': 21}
  return processor, turns, {**photos, 'sizes': sizes, 'most': 2}


def _make_smolvlm(names, template):
  images = transformers.SmolVLMImageProcessorPil(
    size={'longest_edge': 60}, max_image_size={'longest_edge': 24}
  )
  # SmolVLM's own needs num2words, for videos alone.
  processor = transformers.Idefics3Processor(
    images, names, image_seq_len=4, chat_template=template
  )
  turns = {'image_tokens': 4, 'placeholder': '<image>'}
  photos = {'kind': 'tiles', 'number': 80, 'size': 24, 'longest': 60}
  return processor, turns, {**photos, 'resample': 1}


def _make_internvl(names, template):
  images = transformers.GotOcr2ImageProcessorPil(
    size=SIZE, min_patches=1, max_patches=5
  )
  processor = drop_videos(transformers.InternVLProcessor)(
    images, names, None, image_seq_length=4, chat_template=template
  )
  turns = {'image_tokens': 4, 'placeholder': '<IMG_CONTEXT>'}
  photos = {'kind': 'tiles', 'scheme': 'ratio', 'number': 40, 'size': 21}
  return processor, turns, {**photos, 'least': 1, 'most': 5}


def _make_gemma3(names, template):
  images = transformers.Gemma3ImageProcessorPil(size=SIZE)
  processor = transformers.Gemma3Processor(
    images, names, template, image_seq_length=9
  )
  turns = {'image_tokens': 9, 'placeholder': '<image>', 'image_mark': START}
  turns['image_text'] = ('\n\n', START, '<image>', END, '\n\n')
  return processor, turns, {'kind': 'images', 'number': 12, 'size': 21}


def _make_janus(names, template):
  images = transformers.JanusImageProcessorPil(size=SIZE)
  processor = transformers.JanusProcessor(
    images, names, template, num_image_tokens=9
  )
  turns = {'image_tokens': 9, 'placeholder': '<image>'}
  turns['image_text'] = (START, '<image>', END)
  return processor, turns, {'kind': 'images', 'number': 12, 'size': 21}


def _make_qwen(name, names, template):
  images = transformers.Qwen2VLImageProcessorPil(**PATCHES)
  make_processor = drop_videos(getattr(transformers, f'{name}Processor'))
  processor = make_processor(images, names, None, chat_template=template)
  photos = {'kind': 'patches', 'tokens': 300, 'window': 2, **PATCHES}
  return processor, {'placeholder': '<|image_pad|>'}, photos
