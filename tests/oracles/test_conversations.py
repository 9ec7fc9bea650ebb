"""Conversations with images are prepared here as processors there do.

MMJAX_CONVERSATIONS sets how many of each family, 40 by default.
"""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import overrides
from mmjax.data import (
  builders,
  chat_templates,
  chat_tokenizers,
  preprocess,
  shapes,
)
from mmjax.runs import rebuild
from mmjax.training import runner
from tests.data import chat_forms, chat_tokenizer
from tests.oracles import harness

NUMBER = int(os.environ.get('MMJAX_CONVERSATIONS', '40'))
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/pretrained/golden'
LENGTH = 2048
VISION = {
  'depth': 1, 'hidden_size': 8, 'num_heads': 1, 'intermediate_size': 8,
  'out_hidden_size': 8, 'patch_size': 4, 'window_size': 16,
  'fullatt_block_indexes': [0],
}  # fmt: skip
TEXT = {
  'vocab_size': 320, 'hidden_size': 8, 'intermediate_size': 8,
  'num_hidden_layers': 1, 'num_attention_heads': 2, 'num_key_value_heads': 1,
  'rope_parameters': {'mrope_section': [1, 1, 0]},
}  # fmt: skip


START, END = '<start_of_image>', '<end_of_image>'
FORMS = {
  **chat_forms.PART_FORMS,
  'onevision': chat_forms.LLAVA,
  'gemma3': chat_forms.LLAVA.replace('<image>', START),
  'janus': chat_forms.SMOLVLM,
}
TOKENS = {'image_token': '<image>', 'boi_token': START, 'eoi_token': END}
SURROUNDED = {'gemma3': TOKENS, 'janus': TOKENS}
# What is written around the tiles of an image.
TILES = ['<fake_token_around_image>', '<global-img>']
TILES += [f'<row_{row}_col_{col}>' for row in (1, 2, 3) for col in (1, 2, 3)]


def _drop_videos(make):
  """A processor without videos, which need torchvision there."""

  class WithoutVideos(make):
    attributes = ('image_processor', 'tokenizer')

    def check_argument_for_proper_class(self, name, argument):
      return None

  return WithoutVideos


def _make_processor(family, tokenizer):
  """A processor, and settings of our features of the same images."""
  names = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    **chat_forms.TOKENS,
    extra_special_tokens=SURROUNDED.get(family, {}),
  )
  template = chat_forms.mark(FORMS[family])
  if family == 'llava':
    images = transformers.CLIPImageProcessorPil(
      size={'height': 21, 'width': 21}, do_center_crop=False
    )
    processor = transformers.LlavaProcessor(
      images,
      names,
      patch_size=7,
      num_additional_image_tokens=1,
      vision_feature_select_strategy='default',
      chat_template=template,
    )
    ours = {'kind': 'images', 'number': 12, 'size': 21}
    turns = {'image_tokens': 9, 'placeholder': '<image>'}
  elif family == 'onevision':
    sizes = [[21, 21], [21, 42], [42, 21], [42, 42], [63, 21]]
    images = transformers.LlavaOnevisionImageProcessorPil(
      size={'height': 21, 'width': 21}, image_grid_pinpoints=sizes
    )
    processor = _drop_videos(transformers.LlavaOnevisionProcessor)(
      images,
      names,
      None,
      num_image_tokens=9,
      vision_feature_select_strategy='full',
      chat_template=template,
      vision_aspect_ratio='anyres_max_2',
    )
    ours = {'kind': 'tiles', 'scheme': 'padded', 'number': 20, 'size': 21}
    ours |= {'sizes': sizes, 'most': 2}
    turns = {'image_tokens': 9, 'placeholder': '<image>'}
  elif family == 'smolvlm':
    images = transformers.SmolVLMImageProcessorPil(
      size={'longest_edge': 60}, max_image_size={'longest_edge': 24}
    )
    # SmolVLM's own needs num2words, for videos alone.
    processor = transformers.Idefics3Processor(
      images, names, image_seq_len=4, chat_template=template
    )
    ours = {'kind': 'tiles', 'number': 150, 'size': 24, 'longest': 60}
    ours['resample'] = 1
    turns = {'image_tokens': 4, 'placeholder': '<image>'}
  elif family in SURROUNDED:
    is_gemma = family == 'gemma3'
    size = {'height': 21, 'width': 21}
    ours = {'kind': 'images', 'number': 12, 'size': 21}
    turns = {'image_tokens': 9, 'placeholder': '<image>'}
    turns['image_text'] = (START, '<image>', END)
    if is_gemma:
      images = transformers.Gemma3ImageProcessorPil(size=size)
      processor = transformers.Gemma3Processor(
        images, names, template, image_seq_length=9
      )
      turns['image_text'] = ('\n\n', *turns['image_text'], '\n\n')
      turns['image_mark'] = START
    else:
      images = transformers.JanusImageProcessorPil(size=size)
      processor = transformers.JanusProcessor(
        images, names, template, num_image_tokens=9
      )
  else:
    images = transformers.Qwen2VLImageProcessorPil(
      patch_size=4, min_pixels=8 * 16, max_pixels=32 * 40
    )
    processor = _drop_videos(transformers.Qwen2_5_VLProcessor)(
      images, names, None, chat_template=template
    )
    ours = {'kind': 'patches', 'tokens': 300, 'patch_size': 4, 'window': 2}
    ours |= {'min_pixels': 8 * 16, 'max_pixels': 32 * 40}
    turns = {'placeholder': '<|image_pad|>'}
  ours |= {'mean': images.image_mean, 'std': images.image_std}
  return processor, ours, turns


def _make_records(number, rng):
  """Messages as transformers reads them, and the same as our records."""
  conversations = chat_forms.make_conversations(number, 11, parts=True)
  for at, messages in enumerate(conversations):
    photos, turns = [], []
    for message in messages:
      order = rng.permutation(len(message['content']))
      parts = [dict(message['content'][i]) for i in order]
      content = []
      for part in parts:
        if part['type'] == 'text':
          content.append(part['text'])
          continue
        size = rng.integers(5, 60, 2)
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        part['image'] = PIL.Image.fromarray(pixels)
        photos.append(_encode(part['image']))
        content.append({'field': 'photos'})
      message['content'] = parts
      turns.append({'role': message['role'], 'content': content})
    fields = {'t': turns, 'photos': photos or None}
    yield messages, {'id': str(at), 'fields': fields, 'metadata': {}}


def _encode(image):
  file = io.BytesIO()
  image.save(file, 'PNG')
  return file.getvalue()


@pytest.mark.parametrize('kind', ['marked', 'plain'])
@pytest.mark.parametrize('family', [*FORMS])
def test_conversations_are_those_of_the_processor(family, kind, tmp_path):
  """Ids, what is learnt, positions of rows and columns, and pixels."""
  tokenizer = chat_tokenizer.make()
  if family == 'smolvlm':
    tokenizer.add_special_tokens(TILES)
  if family in SURROUNDED:
    tokenizer.add_special_tokens([START, END])
    tokenizer.add_tokens(['\n\n', '\n\n\n'])  # As Gemma's.
  processor, images, turns = _make_processor(family, tokenizer)
  make = {'marked': chat_forms.mark, 'plain': chat_forms.unmark}[kind]
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  chat_templates.ChatTemplate(
    {'default': make(FORMS[family])}, chat_forms.TOKENS
  ).save(tmp_path)
  prepare = preprocess.Preprocessor(
    preprocess.build(
      {
        't': {'kind': 'turns', 'length': LENGTH, 'image': 'photos', **turns},
        'photos': images,
      }
    ),
    chat_tokenizers.load(tmp_path / 'tokenizer.json'),
  )
  if family == 'qwen_vl':
    config = transformers.Qwen2_5_VLConfig(
      text_config=TEXT, vision_config=VISION
    )
    with torch.device('meta'):
      model = transformers.Qwen2_5_VLModel(config)
  number_of_images = set()
  for messages, record in _make_records(NUMBER, np.random.default_rng(3)):
    want, example = harness.compare_conversation(
      processor, messages, prepare, record, LENGTH
    )
    mask = example['t_mask']
    ids = want['input_ids'][0]
    inputs = prepare.make_inputs({k: v[None] for k, v in example.items()})
    has_images = 'pixel_values' in want
    number = len(record['fields']['photos'] or ())
    number_of_images.add(number)
    if family in ('onevision', 'smolvlm') and has_images:
      pixels = np.asarray(want['pixel_values'])
      pixels = pixels.reshape(-1, *pixels.shape[2:]).transpose(0, 2, 3, 1)
      assert example['photos_mask'].sum() == len(pixels)
      np.testing.assert_allclose(
        inputs['photos'][0, : len(pixels)], pixels, rtol=0, atol=1e-6
      )
    if family == 'llava' and has_images:
      pixels = np.asarray(want['pixel_values']).transpose(0, 2, 3, 1)
      np.testing.assert_allclose(
        inputs['photos'][0, :number], pixels, rtol=0, atol=1e-6
      )
    if family == 'qwen_vl' and has_images:
      pixels = np.asarray(want['pixel_values'])
      np.testing.assert_allclose(
        inputs['photos'][0, : len(pixels)], pixels, rtol=0, atol=1e-6
      )
      tokens = torch.tensor(want['input_ids'])
      positions, _ = model.get_rope_index(
        tokens,
        (tokens == tokenizer.token_to_id('<|image_pad|>')).int(),
        image_grid_thw=torch.tensor(np.asarray(want['image_grid_thw'])),
      )
      np.testing.assert_array_equal(
        example['t_rotary'][mask].T, positions[:, 0].numpy()
      )
    if family == 'qwen_vl' and not has_images:
      count = np.repeat(np.arange(len(ids))[:, None], 3, axis=1)
      np.testing.assert_array_equal(example['t_rotary'][mask], count)
  assert 0 in number_of_images and max(number_of_images) > 2


def test_a_tuned_model_is_loaded_there(tmp_path):
  """With adapters, on packed conversations; its greedy answers are the same."""
  folder = shutil.copytree(GOLDEN / 'qwen2_5_vl', tmp_path / 'qwen')
  template = chat_forms.unmark(chat_forms.QWEN_VL)
  (folder / 'chat_template.jinja').write_text(template)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  small = shapes.ShapesConfig(
    'tiny', train=8, validation=4, test=4, compositional=4
  )
  builders.build(
    lambda data_dir: shapes.Shapes(config=small, data_dir=data_dir),
    tmp_path / 'data',
    progress=False,
  )
  config = overrides.load(f'{ROOT}/configs/chat_patches.py:runlocal')
  config.init_from = str(folder)
  config.data.update(
    name='shapes/tiny',
    data_dir=str(tmp_path / 'data'),
    eval_split='',
    test_split='',
    extra_splits=(),
  )
  config.data.features.turns.length = 197
  config.data.features.photos.tokens = 40
  config.adapter = {
    'layers': ('attention/(query|key|value|out)$',),
    'rank': 2,
    'frozen_dtype': 'float32',
  }
  config.optimizer.update(lr=0.05, schedule='constant', warmup_steps=0)
  config.train.update(steps=2, batch_size=2, eval_every=0, keep_best='')
  runner.run(config, chat.build, tmp_path / 'run')
  assert (
    cli.main(['convert', str(tmp_path / 'run'), str(tmp_path / 'out')]) == 0
  )
  theirs = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    tmp_path / 'out'
  ).eval()
  before = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    folder
  )
  changed = [
    name
    for (name, one), two in zip(
      before.named_parameters(), theirs.parameters(), strict=True
    )
    if not torch.equal(one, two)
  ]
  assert any('visual' in name for name in changed)
  assert any('language_model' in name for name in changed)
  run = rebuild.load(tmp_path / 'run')
  rng = np.random.default_rng(1)
  image = PIL.Image.fromarray(rng.integers(0, 256, (40, 31, 3), np.uint8))
  content = [{'type': 'image', 'image': image}, {'type': 'text', 'text': 'cat'}]
  messages = [{'role': 'user', 'content': content}]
  processor = _drop_videos(transformers.Qwen2_5_VLProcessor)(
    transformers.Qwen2VLImageProcessorPil.from_pretrained(folder),
    transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(folder / 'tokenizer.json'), eos_token='</s>'
    ),
    None,
    chat_template=template,
  )
  inputs = processor.apply_chat_template(
    messages,
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors='pt',
  )
  written = theirs.generate(
    **inputs, max_new_tokens=6, do_sample=False, pad_token_id=1
  )[0, inputs['input_ids'].shape[1] :]
  want = processor.tokenizer.decode(written, skip_special_tokens=True)
  assert want.strip() and run.chat(messages, max_new_tokens=6) == want.strip()
  assert (
    pretrained.load(tmp_path / 'out').chat(messages, max_new_tokens=6).strip()
    == want.strip()
  )
