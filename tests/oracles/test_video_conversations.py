"""Conversations with videos are prepared and read as Qwen-VL does there."""

import ast
import collections
import io
import math
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

from mmjax.data import video_files
from tests.data import chat_forms, chat_tokenizer, video_encoding
from tests.oracles import conversations, harness

LENGTH = 1024
PADS = ['<|image_pad|>', '<|video_pad|>']
PIXELS = {'min_pixels': 8 * 16, 'max_pixels': 32 * 40}
WHOLE = {'min_pixels': 8 * 64, 'max_pixels': 32 * 160}
BUDGETS = {
  'Qwen2VL': PIXELS,
  'Qwen2_5_VL': PIXELS,
  'Qwen3VL': {
    'size': {
      'shortest_edge': WHOLE['min_pixels'],
      'longest_edge': WHOLE['max_pixels'],
    }
  },
}
TIMED = {'scheme': 'whole', 'time_text': '<{:.1f} seconds>', **WHOLE}
# Of Qwen3-VL, each step has its own start and end. Its first processor wrote
# these for those of the template, and so do we; 5.24 writes them inside.
WRAPPED = "'<|vision_start|><|' + part.type + '_pad|><|vision_end|>'"
UNWRAPPED = f"({WRAPPED} if part.type == 'image' else '<|video_pad|>')"
VISION = {
  'depth': 2, 'hidden_size': 8, 'num_heads': 2, 'intermediate_size': 8,
  'out_hidden_size': 16, 'patch_size': 4,
}  # fmt: skip
WINDOWS = {'window_size': 16, 'fullatt_block_indexes': [1]}
DEEP = {'num_position_embeddings': 16, 'deepstack_visual_indexes': [0]}
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


def make_video_processor(family, **settings):
  """Their class, which needs torchvision for its base alone."""
  name, cls = 'qwen2_vl', 'Qwen2VLVideoProcessor'
  if family == 'Qwen3VL':
    name, cls = 'qwen3_vl', 'Qwen3VLVideoProcessor'
  folder = pathlib.Path(transformers.__file__).parent / 'models' / name
  tree = ast.parse((folder / f'video_processing_{name}.py').read_text())
  found = {getattr(node, 'name', ''): node for node in tree.body}
  names = {
    'BaseVideoProcessor': Base,
    'BatchFeature': lambda data, tensor_type: data,
    'IMAGENET_STANDARD_MEAN': image_utils.IMAGENET_STANDARD_MEAN,
    'IMAGENET_STANDARD_STD': image_utils.IMAGENET_STANDARD_STD,
    'OPENAI_CLIP_MEAN': image_utils.OPENAI_CLIP_MEAN,
    'OPENAI_CLIP_STD': image_utils.OPENAI_CLIP_STD,
    'PILImageResampling': PIL.Image.Resampling,
    f'{cls}InitKwargs': TypedDict('_', {}),
    'SizeDict': image_utils.SizeDict,
    'TensorType': str,
    'Unpack': list,
    'VideoMetadata': video_utils.VideoMetadata,
    'group_videos_by_shape': video_utils.group_videos_by_shape,
    'math': math,
    'np': np,
    'reorder_videos': video_utils.reorder_videos,
    'torch': torch,
    'warnings': warnings,
  }
  body = [found['smart_resize'], found[cls]]
  body[1].decorator_list = []
  exec(compile(ast.Module(body, []), name, 'exec'), names)
  return names[cls](**settings)


def make_processor(family, tokenizer, **settings):
  """A processor with both kinds of media."""

  class WithVideos(getattr(transformers, f'{family}Processor')):
    def check_argument_for_proper_class(self, name, argument):
      return None

  videos = make_video_processor(
    family,
    patch_size=4,
    image_mean=image_utils.OPENAI_CLIP_MEAN,
    image_std=image_utils.OPENAI_CLIP_STD,
    **BUDGETS[family],
    **settings,
  )
  names = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, **chat_forms.TOKENS
  )
  images = transformers.Qwen2VLImageProcessorPil(patch_size=4, **PIXELS)
  template = chat_forms.QWEN_VL
  if family == 'Qwen3VL':
    template = template.replace(WRAPPED, UNWRAPPED)
  template = chat_forms.mark(template)
  return WithVideos(images, names, videos, chat_template=template)


def build(folder, tokenizer, window=2, **settings):
  """Ours of the same, and of no other settings."""
  normal = {
    'mean': image_utils.OPENAI_CLIP_MEAN,
    'std': image_utils.OPENAI_CLIP_STD,
  }
  shared = {'patch_size': 4, **normal, 'window': window}
  turns = {'length': LENGTH, 'packed': True, 'image': 'photos'}
  turns |= {'video': 'clips', 'placeholder': PADS[0]}
  form = chat_forms.QWEN_VL
  return conversations.build(
    folder,
    tokenizer,
    (chat_forms.mark(form), chat_forms.unmark(form)),
    {**turns, 'video_placeholder': PADS[1]},
    photos={'kind': 'patches', 'tokens': 160, **shared, **PIXELS},
    clips={'kind': 'videos', 'tokens': 480, **shared, **PIXELS, **settings},
  )


def draw(rng):
  """A video, with its frame rate beside, or an image."""
  is_video = rng.random() < 0.6
  height, width = map(int, rng.integers(3, 30, 2) * 2)
  shape = (rng.integers(2, 10), height, width, 3)
  pixels = rng.integers(0, 256, shape, np.uint8)
  if is_video:
    rate = int(rng.integers(1, 9))
    file = video_encoding.encode(pixels, rate)
    frames = np.stack(video_files.decode(file))
    return 'clips', file, {'type': 'video', 'video': frames, 'rate': rate}
  image, file = PIL.Image.fromarray(pixels[0]), io.BytesIO()
  image.save(file, 'PNG')
  return 'photos', file.getvalue(), {'type': 'image', 'image': image}


def set_rates(processor, messages):
  """Has the processor of videos know their frame rates."""
  processor.video_processor.rates = [
    part['rate']
    for message in messages
    for part in message['content']
    if part['type'] == 'video'
  ]


def find_ids(tokenizer):
  """The placeholders, by the keys of a config."""
  return {
    f'{kind}_token_id': tokenizer.token_to_id(f'<|{kind}_pad|>')
    for kind in ('image', 'video')
  }


def find_positions(model, want):
  """Theirs [3, T], but what follows a video continues from its last position.

  There it continues from the longer side of the frames, even if the video's
  duration is larger; see `packing.rotary_positions`.
  """
  tokens = torch.tensor(want['input_ids'])
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


def make_model(family, tokenizer):
  """A small model of theirs."""
  text, vision = TEXT, {**VISION, **WINDOWS}
  if family == 'Qwen3VL':
    text, vision = {**TEXT, 'head_dim': 8}, {**VISION, **DEEP}
  torch.manual_seed(0)
  config = getattr(transformers, f'{family}Config')(
    text_config=text, vision_config=vision, **find_ids(tokenizer)
  )
  model = getattr(transformers, f'{family}ForConditionalGeneration')(config)
  return harness.randomise(model)


@pytest.mark.parametrize(
  ('family', 'window', 'settings'),
  [('Qwen2_5_VL', 2, {'tokens_per_second': 4.0}), ('Qwen3VL', 0, TIMED)],
)
def test_conversations_are_those_of_the_processor(
  family, window, settings, tmp_path
):
  """Ids, what is learnt, positions, pixels; and the logits of a model.

  One compiled program reads images, videos, both and none.
  """
  tokenizer = chat_tokenizer.make()
  processor = make_processor(family, tokenizer, cap_pixels_per_frame=False)
  theirs = make_model(family, tokenizer)
  ours = build(tmp_path, tokenizer, window=window, **settings)
  loaded = harness.load_saved(theirs, tmp_path)
  module = loaded.module.clone(
    target_feature='t', input_images=('photos',), input_videos=('clips',)
  )
  compute = jax.jit(
    lambda params, batch: module.apply({'params': params}, batch, train=False)
  )
  numbers = collections.Counter()
  for messages, record in conversations.make_records(draw):
    set_rates(processor, messages)
    want, example = conversations.compare(processor, messages, ours, record)
    positions, kinds = find_positions(theirs.model, want)
    np.testing.assert_array_equal(
      example['t_rotary'][example['t_mask']].T, positions
    )
    inputs = ours.prepare.make_inputs(
      {key: array[None] for key, array in example.items()}
    )
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
    found = tuple(len(record['fields'].get(k, ())) for k in ('photos', 'clips'))
    numbers[found] += 1
    if numbers[found] > 1:
      continue  # Logits of a few say that all is where the model reads it.
    ids = torch.tensor(want['input_ids'])
    with torch.no_grad():
      logits = theirs(
        input_ids=ids,
        position_ids=torch.tensor(positions)[:, None],
        mm_token_type_ids=kinds,
        **arrays,
      ).logits[0, :-1]
    batch = jax.tree.map(jnp.asarray, inputs)
    got = compute(loaded.params, batch)['t_logits'][0, : ids.shape[1] - 1]
    harness.check_close(got, logits.numpy())
  assert compute._cache_size() == 1
  assert numbers[0, 0] and max(n for _, n in numbers) > 2
  assert any(min(found) for found in numbers)


@pytest.mark.parametrize(
  ('family', 'tokens', 'settings'),
  [
    ('Qwen2VL', 4, {'total_pixels': int(4 * 64 * 0.9)}),
    ('Qwen2VL', 31, {'total_pixels': int(31 * 64 * 0.9)}),
    ('Qwen3VL', 3, {**TIMED, 'frame_pixels': 3 * 64}),
  ],
)
def test_frames_share_pixels(family, tokens, settings, tmp_path):
  """With `cap_pixels_per_frame`; steps of Qwen2-VL count."""
  tokenizer = chat_tokenizer.make()
  processor = make_processor(
    family, tokenizer, cap_pixels_per_frame=True, max_video_tokens=tokens
  )
  ours = build(tmp_path, tokenizer, **settings)
  model = getattr(transformers, f'{family}Model')
  more = DEEP if family == 'Qwen3VL' else {'embed_dim': 8}
  config = model.config_class(
    text_config=TEXT,
    vision_config={'depth': 1, 'num_heads': 1, **more},
    **find_ids(tokenizer),
  )
  with torch.device('meta'):
    rope = model(config)
  for messages, record in conversations.make_records(draw, 150):
    set_rates(processor, messages)
    want, example = conversations.compare(processor, messages, ours, record)
    positions, _ = find_positions(rope, want)
    np.testing.assert_array_equal(
      example['t_rotary'][example['t_mask']].T, positions
    )


def test_steps_stand_inside_what_the_template_wraps_there(tmp_path):
  """Of Qwen3-VL with its own template: what transformers 5.24 does, not we.

  Its first processor (4.57, of the model's authors) wrote `<0.1 seconds>` and
  the start and end of each step in the place of the template's start and end,
  and so the model was trained.
  """
  tokenizer = chat_tokenizer.make()
  processor = make_processor('Qwen3VL', tokenizer, cap_pixels_per_frame=False)
  ours = build(tmp_path, tokenizer, **TIMED)
  ends = ('<|vision_start|>', '<|vision_end|>')
  for messages, record in conversations.make_records(draw, 10):
    set_rates(processor, messages)
    want = processor.apply_chat_template(
      messages,
      chat_template=chat_forms.unmark(chat_forms.QWEN_VL),
      tokenize=True,
      return_dict=True,
    )['input_ids'][0]
    example = ours.prepare(record)
    got = example['t'][example['t_mask']].tolist()
    number = len(record['fields'].get('clips', ()))
    for token_id in map(tokenizer.token_to_id, ends):
      assert want.count(token_id) == got.count(token_id) + number
