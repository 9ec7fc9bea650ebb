"""Conversations with videos are prepared and read here as Qwen-VL does there.

MMJAX_CONVERSATIONS sets how many, 40 by default.
"""

import ast
import io
import math
import os
import pathlib
import warnings
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers
from transformers import image_utils, video_utils

from mmjax.data import (
  chat_templates,
  chat_tokenizers,
  preprocess,
  video_files,
)
from tests.data import chat_forms, chat_tokenizer, video_encoding
from tests.oracles import harness

NUMBER = int(os.environ.get('MMJAX_CONVERSATIONS', '40'))
LENGTH = 512
PADS = ['<|image_pad|>', '<|video_pad|>']
PATCHES = {'patch_size': 4, 'min_pixels': 8 * 16, 'max_pixels': 32 * 40}
VISION = {
  'depth': 2, 'hidden_size': 8, 'num_heads': 2, 'intermediate_size': 8,
  'out_hidden_size': 16, 'patch_size': 4, 'window_size': 16,
  'fullatt_block_indexes': [1],
}  # fmt: skip
TEXT = {
  'vocab_size': 320, 'hidden_size': 16, 'intermediate_size': 8,
  'num_hidden_layers': 2, 'num_attention_heads': 2, 'num_key_value_heads': 1,
  'rope_parameters': {'mrope_section': [1, 1, 2]},
}  # fmt: skip


class Base:
  """What `Qwen2VLVideoProcessor` has of torchvision, with Pillow's resize."""

  num_frames, fps, rates = None, 2.0, ()

  def __init__(self, size, **settings):
    self.size = image_utils.SizeDict(**size)
    for name, value in settings.items():
      setattr(self, name, value)

  def resize(self, image, size, resample):
    def resize_one(frame):
      frame = PIL.Image.fromarray(frame.permute(1, 2, 0).numpy())
      frame = frame.resize((size.width, size.height), resample)
      return torch.tensor(np.asarray(frame)).permute(2, 0, 1)

    return torch.stack([torch.stack(list(map(resize_one, v))) for v in image])

  def rescale_and_normalize(self, videos, _, factor, __, mean, std):
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (mean, std))
    return (videos * factor - mean) / std

  def __call__(self, videos, **unused):
    chosen, metadata = [], []
    for frames, rate in zip(videos[0], self.rates, strict=True):
      own = video_utils.VideoMetadata(len(frames), rate)
      own.frames_indices = self.sample_frames(own).tolist()
      metadata.append(own)
      chosen.append(torch.tensor(frames[own.frames_indices]))
    out = self._preprocess(
      [video.permute(0, 3, 1, 2) for video in chosen],
      True,
      self.size,
      PIL.Image.Resampling.BICUBIC,
      True,
      1 / 255,
      True,
      self.image_mean,
      self.image_std,
      self.patch_size,
      self.temporal_patch_size,
      self.merge_size,
      self.cap_pixels_per_frame,
    )
    return {**out, 'video_metadata': metadata}


def make_video_processor(**settings):
  """Their class, which needs torchvision for its base alone."""
  folder = pathlib.Path(transformers.__file__).parent / 'models/qwen2_vl'
  tree = ast.parse((folder / 'video_processing_qwen2_vl.py').read_text())
  found = {getattr(node, 'name', ''): node for node in tree.body}
  names = {
    'BaseVideoProcessor': Base,
    'BatchFeature': lambda data, tensor_type: data,
    'OPENAI_CLIP_MEAN': image_utils.OPENAI_CLIP_MEAN,
    'OPENAI_CLIP_STD': image_utils.OPENAI_CLIP_STD,
    'PILImageResampling': PIL.Image.Resampling,
    'Qwen2VLVideoProcessorInitKwargs': TypedDict('_', {}),
    'SizeDict': image_utils.SizeDict,
    'TensorType': str,
    'Unpack': list,
    'VideoMetadata': video_utils.VideoMetadata,
    'group_videos_by_shape': video_utils.group_videos_by_shape,
    'math': math,
    'reorder_videos': video_utils.reorder_videos,
    'torch': torch,
    'warnings': warnings,
  }
  body = [found['smart_resize'], found['Qwen2VLVideoProcessor']]
  body[1].decorator_list = []
  exec(compile(ast.Module(body, []), 'qwen2_vl', 'exec'), names)
  return names['Qwen2VLVideoProcessor'](**settings)


def make_processor(family, tokenizer, **settings):
  """A processor with both kinds of media."""

  class WithVideos(getattr(transformers, f'{family}Processor')):
    def check_argument_for_proper_class(self, name, argument):
      return None

  videos = make_video_processor(
    patch_size=4,
    min_pixels=PATCHES['min_pixels'],
    max_pixels=PATCHES['max_pixels'],
    **settings,
  )
  names = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, **chat_forms.TOKENS
  )
  images = transformers.Qwen2VLImageProcessorPil(**PATCHES)
  template = chat_forms.mark(chat_forms.QWEN_VL)
  return WithVideos(images, names, videos, chat_template=template)


def make_preprocessor(folder, tokenizer, form, **settings):
  """Ours of the same, and of no other settings."""
  tokenizer.save(str(folder / 'tokenizer.json'))
  chat_templates.ChatTemplate({'default': form}, chat_forms.TOKENS).save(folder)
  normal = {
    'mean': image_utils.OPENAI_CLIP_MEAN,
    'std': image_utils.OPENAI_CLIP_STD,
  }
  shared = {**PATCHES, **normal, 'window': 2}
  turns = {'kind': 'turns', 'length': LENGTH, 'image': 'photos'}
  turns |= {'video': 'clips', 'placeholder': PADS[0]}
  return preprocess.Preprocessor(
    preprocess.build(
      {
        't': {**turns, 'video_placeholder': PADS[1]},
        'photos': {'kind': 'patches', 'tokens': 120, **shared},
        'clips': {'kind': 'videos', 'tokens': 320, **shared, **settings},
      }
    ),
    chat_tokenizers.load(folder / 'tokenizer.json'),
  )


def make_records(number, rng):
  """Messages as transformers reads them, frame rates, and our records."""
  conversations = chat_forms.make_conversations(number, 11, parts=True)
  for at, messages in enumerate(conversations):
    fields = {'t': [], 'photos': [], 'clips': []}
    rates = []
    for message in messages:
      order = rng.permutation(len(message['content']))
      parts = [dict(message['content'][i]) for i in order]
      content = []
      for part in parts:
        if part['type'] == 'text':
          content.append(part['text'])
          continue
        name = 'clips' if rng.random() < 0.6 else 'photos'
        content.append({'field': name})
        height, width = map(int, rng.integers(3, 30, 2) * 2)
        shape = (rng.integers(2, 10), height, width, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        if name == 'photos':
          part['image'] = PIL.Image.fromarray(pixels[0])
          file = io.BytesIO()
          part['image'].save(file, 'PNG')
          fields[name].append(file.getvalue())
          continue
        rates.append(int(rng.integers(1, 9)))
        fields[name].append(video_encoding.encode(pixels, rates[-1]))
        frames = np.stack(video_files.decode(fields[name][-1]))
        part |= {'type': 'video', 'video': frames}
      message['content'] = parts
      fields['t'].append({'role': message['role'], 'content': content})
    fields = {key: value for key, value in fields.items() if value}
    yield messages, rates, {'id': str(at), 'fields': fields, 'metadata': {}}


def find_ids(tokenizer):
  """The placeholders, by the keys of a config."""
  return {
    f'{kind}_token_id': tokenizer.token_to_id(f'<|{kind}_pad|>')
    for kind in ('image', 'video')
  }


def find_positions(model, want, ids):
  """Theirs [3, T], but what follows a video continues from its last position.

  There it continues from the longer side of the frames, even if the video's
  duration is larger; see `packing.rotary_positions`.
  """
  tokens = torch.tensor(ids)[None]
  pads = [model.config.image_token_id, model.config.video_token_id]
  kinds = (tokens == pads[0]).int() + 2 * (tokens == pads[1]).int()
  more = {
    key: torch.tensor(np.asarray(want[key]))
    for key in ('image_grid_thw', 'video_grid_thw', 'second_per_grid_ts')
    if key in want
  }
  if not hasattr(model.config.vision_config, 'tokens_per_second'):
    more.pop('second_per_grid_ts', None)
  positions, _ = model.get_rope_index(tokens, kinds, **more)
  positions = positions[:, 0].numpy()
  edges = np.flatnonzero(np.diff(kinds[0].numpy(), prepend=0, append=0))
  for first, last in zip(edges[::2], edges[1::2], strict=True):
    spans = np.ptp(positions[:, first:last], axis=1)
    positions[:, last:] += max(0, spans[0] - max(spans[1:]))
  return positions, kinds


def test_conversations_are_those_of_the_processor(tmp_path):
  """Ids, what is learnt, positions, pixels; and the logits of a model.

  One compiled program reads images, videos, both and none.
  """
  tokenizer = chat_tokenizer.make()
  processor = make_processor(
    'Qwen2_5_VL', tokenizer, cap_pixels_per_frame=False
  )
  form = chat_forms.unmark(chat_forms.QWEN_VL)
  torch.manual_seed(0)
  theirs = harness.randomise(
    transformers.Qwen2_5_VLForConditionalGeneration(
      transformers.Qwen2_5_VLConfig(
        text_config=TEXT,
        vision_config=VISION,
        **find_ids(tokenizer),
      )
    )
  )
  prepare = make_preprocessor(tmp_path, tokenizer, form, tokens_per_second=4.0)
  loaded = harness.load_saved(theirs, tmp_path)
  ours = loaded.module.clone(
    target_feature='t', input_images=('photos',), input_videos=('clips',)
  )
  compute = jax.jit(
    lambda params, batch: ours.apply({'params': params}, batch, train=False)
  )
  numbers = set()
  for messages, rates, record in make_records(NUMBER, np.random.default_rng(5)):
    processor.video_processor.rates = rates
    want, example = harness.compare_conversation(
      processor, messages, prepare, record, LENGTH
    )
    mask = example['t_mask']
    ids = want['input_ids'][0]
    positions, kinds = find_positions(theirs.model, want, ids)
    np.testing.assert_array_equal(example['t_rotary'][mask].T, positions)
    batch = {key: jnp.asarray(value)[None] for key, value in example.items()}
    inputs = prepare.make_inputs(batch)
    found = tuple(len(record['fields'].get(k, ())) for k in ('photos', 'clips'))
    numbers.add(found)
    arrays = {}
    for name, suffix, key in (
      ('photos', '', 'image'),
      ('clips', '_videos', 'video'),
    ):
      real = example[f'{name}_mask']
      if f'pixel_values{suffix}' not in want:
        assert not real.any()
        continue
      pixels = np.asarray(want[f'pixel_values{suffix}'], np.float32)
      np.testing.assert_allclose(
        inputs[name][0][real], pixels, rtol=0, atol=1e-6
      )
      arrays[f'pixel_values{suffix}'] = torch.tensor(pixels)
      grids = np.asarray(want[f'{key}_grid_thw'])
      arrays[f'{key}_grid_thw'] = torch.tensor(grids)
    with torch.no_grad():
      logits = theirs(
        input_ids=torch.tensor(ids)[None],
        position_ids=torch.tensor(positions)[:, None],
        mm_token_type_ids=kinds,
        **arrays,
      ).logits[0, :-1]
    got = compute(loaded.params, inputs)['t_logits'][0, : len(ids) - 1]
    harness.check_close(got, logits.numpy())
  assert compute._cache_size() == 1
  assert {(0, 0)} < numbers and max(n for _, n in numbers) > 2
  assert any(min(found) for found in numbers)


@pytest.mark.parametrize('most', [300, 2_000])
def test_frames_share_pixels_and_steps_count(most, tmp_path):
  """Of Qwen2-VL, with `cap_pixels_per_frame`."""
  tokenizer = chat_tokenizer.make()
  processor = make_processor(
    'Qwen2VL', tokenizer, cap_pixels_per_frame=True, max_video_tokens=most // 64
  )
  form = chat_forms.mark(chat_forms.QWEN_VL)
  total = int(most // 64 * 64 * 0.9)
  prepare = make_preprocessor(tmp_path, tokenizer, form, total_pixels=total)
  config = transformers.Qwen2VLConfig(
    text_config=TEXT,
    vision_config={'depth': 1, 'embed_dim': 8, 'num_heads': 1},
    **find_ids(tokenizer),
  )
  with torch.device('meta'):
    model = transformers.Qwen2VLModel(config)
  for messages, rates, record in make_records(8, np.random.default_rng(5)):
    processor.video_processor.rates = rates
    want = processor.apply_chat_template(
      messages, tokenize=True, return_dict=True
    )
    example = prepare(record)
    mask, ids = example['t_mask'], want['input_ids'][0]
    np.testing.assert_array_equal(example['t'][mask], ids)
    positions, _ = find_positions(model, want, ids)
    np.testing.assert_array_equal(example['t_rotary'][mask].T, positions)
