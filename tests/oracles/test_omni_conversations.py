"""Conversations with all media are prepared and read as Qwen2.5-Omni does."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from transformers import image_utils

from mmjax.data import audio
from tests.data import chat_forms, chat_tokenizer
from tests.oracles import conversations, harness
from tests.oracles import test_video_conversations as videos

RATE, BANDS, LENGTH = 16_000, 10, 1024
PADS = {'image': '<|IMAGE|>', 'video': '<|VIDEO|>', 'audio': '<|AUDIO|>'}
ENDS = {
  'vision_bos_token': '<|vision_bos|>',
  'vision_eos_token': '<|vision_eos|>',
  'audio_bos_token': '<|audio_bos|>',
  'audio_eos_token': '<|audio_eos|>',
}
MARKS = {f'{kind}_token': token for kind, token in PADS.items()} | ENDS
FORM = chat_forms.QWEN_VL.replace(
  videos.WRAPPED,
  """{
    'image': '<|vision_bos|><|IMAGE|><|vision_eos|>',
    'video': '<|vision_bos|><|VIDEO|><|vision_eos|>',
    'audio': '<|audio_bos|><|AUDIO|><|audio_eos|>',
  }[part.type]""",
)
AUDIO = {
  'num_mel_bins': BANDS, 'd_model': 12, 'encoder_layers': 1,
  'encoder_attention_heads': 2, 'encoder_ffn_dim': 8, 'n_window': 10,
  'max_source_positions': 10, 'output_dim': 16,
}  # fmt: skip
NORMAL = {
  'mean': image_utils.OPENAI_CLIP_MEAN,
  'std': image_utils.OPENAI_CLIP_STD,
}


def _draw(rng):
  """A sound, an image or a video."""
  if rng.random() < 0.6:
    return videos.draw(rng)
  # From some tokens of a chunk to the whole window.
  samples = rng.uniform(-1, 1, rng.choice([700, 3_200, 9_999, 32_000]))
  file = audio.encode_wave(samples[rng.integers(50) :], RATE)
  return 'heard', file, {'type': 'audio', 'audio': audio.decode(file)[0]}


def make_processor(tokenizer):
  """A processor of all media, whose video processor lacks torchvision."""

  class WithVideos(transformers.Qwen2_5OmniProcessor):
    def check_argument_for_proper_class(self, name, argument):
      return None

  shared = {'patch_size': 4, **videos.PIXELS}
  return WithVideos(
    transformers.Qwen2VLImageProcessorPil(**shared),
    videos.make_video_processor(
      'Qwen2VL', cap_pixels_per_frame=False, **shared
    ),
    transformers.WhisperFeatureExtractor(feature_size=BANDS, chunk_length=2),
    transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizer,
      extra_special_tokens=MARKS,
      **chat_forms.TOKENS,
    ),
    chat_template=chat_forms.mark(FORM),
  )


def build(folder, tokenizer):
  """Ours of the same."""
  shared = {'patch_size': 4, 'window': 2, **NORMAL, **videos.PIXELS}
  time = {'tokens_per_second': 25.0, 'assumes_fps': True}
  turns = {'length': LENGTH, 'packed': True, 'image': 'photos'}
  turns |= {'video': 'clips', 'sound': 'heard', 'placeholder': PADS['image']}
  turns |= {'video_placeholder': PADS['video']}
  return conversations.build(
    folder,
    tokenizer,
    (chat_forms.mark(FORM), chat_forms.unmark(FORM)),
    {**turns, 'sound_placeholder': PADS['audio']},
    photos={'kind': 'patches', 'tokens': 160, **shared},
    clips={'kind': 'videos', 'tokens': 480, **time, **shared},
    heard={'kind': 'sounds', 'number': 6, 'seconds': 2.0, 'merged': 2},
  )


def make_model(tokenizer):
  """A small model of theirs."""
  ids = {f'{kind}_token_index': token for kind, token in PADS.items()}
  for name, token in ENDS.items():
    kind, end, _ = name.split('_')
    ids[f'{kind}_{ {"bos": "start", "eos": "end"}[end] }_token_id'] = token
  config = transformers.Qwen2_5OmniThinkerConfig(
    text_config=videos.TEXT,
    vision_config={**videos.VISION, **videos.WINDOWS},
    audio_config=AUDIO,
    **{key: tokenizer.token_to_id(token) for key, token in ids.items()},
  )
  torch.manual_seed(0)
  make = transformers.Qwen2_5OmniThinkerForConditionalGeneration
  return harness.randomise(make(config))


def read_theirs(want):
  """What the processor makes of one conversation, as tensors."""
  left_out = ('assistant_masks', 'num_audio_tokens')
  arrays = {k: np.asarray(want[k]) for k in want if k not in left_out}
  return {
    key: torch.tensor(
      array.astype(np.float32) if array.dtype == np.float64 else array
    )
    for key, array in arrays.items()
  }


def check_arrays(want, example, inputs):
  """Patches, and masks of sounds."""
  for name, suffix in (('photos', ''), ('clips', '_videos')):
    real = example[f'{name}_mask']
    if f'pixel_values{suffix}' not in want:
      assert not real.any()
      continue
    pixels = np.asarray(want[f'pixel_values{suffix}'], np.float32)
    np.testing.assert_allclose(inputs[name][0][real], pixels, rtol=0, atol=1e-6)
  frames = np.asarray(want.get('feature_attention_mask', np.zeros((0, 200))))
  heard = example['heard_mask']
  np.testing.assert_array_equal(heard[: len(frames), ::160], frames)
  assert not heard[len(frames) :].any()


def test_conversations_are_those_of_the_processor(tmp_path):
  """Ids, what is learnt, positions, arrays; and the logits of a model.

  One compiled program reads texts with any of the media.
  """
  tokenizer = chat_tokenizer.make()
  tokenizer.add_special_tokens(list(MARKS.values()))
  processor, theirs = make_processor(tokenizer), make_model(tokenizer)
  ours = build(tmp_path, tokenizer)
  loaded = harness.load_saved(theirs, tmp_path)
  prepares = loaded.video_preprocessor
  assert processor.videos_kwargs['size'] == {
    'shortest_edge': prepares.min_pixels,
    'longest_edge': prepares.max_pixels,
  }
  module = loaded.module.clone(
    target_feature='t',
    input_images=('photos',),
    input_videos=('clips',),
    input_sounds=('heard',),
    spectrogram={'num_mels': BANDS},
  )
  compute = jax.jit(
    lambda params, batch: module.apply({'params': params}, batch, train=False)
  )
  numbers = collections.Counter()
  for messages, record in conversations.make_records(_draw):
    videos.set_rates(processor, messages)
    want, example = conversations.compare(processor, messages, ours, record)
    arrays = read_theirs(want)
    ids = arrays['input_ids']
    heard = arrays.get('feature_attention_mask', torch.zeros(0, 1))
    positions, _ = theirs.get_rope_index(
      ids,
      arrays.get('image_grid_thw'),
      arrays.get('video_grid_thw'),
      torch.ones_like(ids),
      False,
      heard.sum(-1).long(),
      arrays.get('video_second_per_grid'),
    )
    np.testing.assert_array_equal(
      example['t_rotary'][example['t_mask']].T, positions[:, 0].numpy()
    )
    inputs = ours.prepare.make_inputs(
      {key: array[None] for key, array in example.items()}
    )
    check_arrays(want, example, inputs)
    fields = record['fields']
    found = tuple(len(fields.get(k, ())) for k in ('photos', 'clips', 'heard'))
    numbers[found] += 1
    if numbers[found] > 1 or len(numbers) > 40:
      continue  # Logits of a few say that all is where the model reads it.
    with torch.no_grad():
      logits = theirs(**arrays).logits[0, :-1]
    batch = jax.tree.map(jnp.asarray, inputs)
    got = compute(loaded.params, batch)['t_logits'][0, : ids.shape[1] - 1]
    harness.check_close(got, logits.numpy())
  assert compute._cache_size() == 1
  assert numbers[0, 0, 0] and any(min(found) for found in numbers)
