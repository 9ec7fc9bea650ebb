"""Conversations with images and others, and small models that learn them."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from mmjax import decoders, encoders, models, objectives
from mmjax import nn as mnn
from mmjax.data import audio, preprocess, sources, tokenizers

LENGTH = 61
# What is added to all keys alike changes no attention weight.
UNREACHED = "']['blocks']['layers']['attention']['key']['bias']"
# Tokens of an image, or of a tile, by the kind of a model's images.
TOKENS = {'images': 6, 'patches': 0, 'tiles': 1, 'padded': 4}
TOKENS |= {'videos': 0, 'sounds': 0, 'omni': 0}
# Setting of the conversations' feature that names theirs.
SETTINGS = {'videos': 'video', 'sounds': 'sound', 'omni': 'sound'}
# Kinds that have images beside these.
MIXED = ('videos', 'omni')
RATE = 1000
PLACEHOLDER = '<unk>'  # No text has it: the tokenizer knows all bytes.
OTHER_PLACEHOLDER = '<bos>'  # Nor this.
# Turns of each conversation: texts, and sizes (height, width) of images; videos
# have frames of such sizes, sounds as many samples as these have pixels. Those
# with an odd sum are images beside them.
TALKS = (
  (['hi'], ['a']),
  ([(6, 9)], ['red']),
  (['is', (8, 8), 'or', (5, 12)], ['b']),
  (['what'], ['x'], [(13, 6), 'y'], ['no']),
  (['é'], ['ok']),
  ([(9, 9), (6, 6), 'z'], ['c']),
  (['so'], ['']),
  (['q', (12, 12)], ['d']),
)


def encode_image(height: int, width: int) -> bytes:
  pixels = np.random.default_rng(height * 99 + width).integers(
    0, 256, (height, width, 3), np.uint8
  )
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


def encode_sound(height: int, width: int) -> bytes:
  rng = np.random.default_rng(height * 99 + width)
  return audio.encode_wave(rng.uniform(-1, 1, height * width), RATE)


def encode_video(height: int, width: int) -> bytes:
  rng = np.random.default_rng(height * 99 + width)
  frames = [
    PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    for _ in range(3)
  ]
  file = io.BytesIO()
  frames[0].save(file, 'PNG', save_all=True, append_images=frames[1:])
  return file.getvalue()


def encode(kind: str, height: int, width: int) -> bytes:
  make = {'sounds': encode_sound, 'omni': encode_sound, 'videos': encode_video}
  return make.get(kind, encode_image)(height, width)


def make_record(number: int, talk, kind: str = 'images') -> sources.Record:
  images, stills, turns = [], [], []
  for at, items in enumerate(talk):
    content = []
    for item in items:
      if isinstance(item, tuple) and kind in MIXED and sum(item) % 2:
        stills.append(encode_image(*item))
        item = {'field': 'stills'}
      elif isinstance(item, tuple):
        images.append(encode(kind, *item))
        item = {'field': 'photos'}
      content.append(item)
    turns.append({'role': ('user', 'assistant')[at % 2], 'content': content})
  fields = {'t': turns, 'photos': images, 'stills': stills}
  fields = {key: value for key, value in fields.items() if value}
  return {'id': f'r{number}', 'fields': fields, 'metadata': {}}


def make_source(kind: str, talks=TALKS) -> sources.Source:
  return sources.ListSource(
    [make_record(number, talk, kind) for number, talk in enumerate(talks)],
    kinds={
      't': 'turns',
      'photos': {'videos': 'videos', 'sounds': 'sounds', 'omni': 'sounds'}.get(
        kind, 'images'
      ),
    },
  )


def make_preprocessor(kind: str, **settings) -> preprocess.Preprocessor:
  """The preprocessor of a kind of images, of videos or of sounds."""
  sounds = {
    'kind': 'sounds',
    'number': 3,
    'rate': RATE,
    'seconds': 0.16,
    'step': 8,
    'merged': 2,
  }
  images = {
    'images': {'kind': 'images', 'number': 3, 'size': (4, 6)},
    'patches': {
      'kind': 'patches',
      'tokens': 12,
      'patch_size': 2,
      'window': 2,
      'min_pixels': 16,
      'max_pixels': 64,
    },
    'tiles': {
      'kind': 'tiles',
      'scheme': 'ratio',
      'number': 12,
      'size': 4,
      'most': 4,
      'start': '<',
      'end': '>',
    },
    'padded': {
      'kind': 'tiles',
      'scheme': 'padded',
      'number': 12,
      'size': 4,
      'sizes': ((4, 8), (8, 4), (8, 8)),
      'most': 1,
    },
    'videos': {
      'kind': 'videos',
      'tokens': 24,
      'patch_size': 2,
      'window': 2,
      'min_pixels': 16,
      'max_pixels': 64,
      'min_frames': 2,
    },
    'sounds': sounds,
    'omni': sounds,
  }[kind]
  turns = {
    'kind': 'turns',
    'length': LENGTH,
    SETTINGS.get(kind, 'image'): 'photos',
    'image_tokens': TOKENS[kind],
    'placeholder': PLACEHOLDER,
    'video_placeholder': OTHER_PLACEHOLDER,
    'sound_placeholder': OTHER_PLACEHOLDER,
    'packed': True,
    **settings,
  }
  features = {'t': turns, 'photos': images}
  if kind in MIXED:
    turns = {**turns, 'image': 'stills'}
    stills = {'kind': 'patches', 'tokens': 12, 'patch_size': 2, 'window': 2}
    stills |= {'min_pixels': 16, 'max_pixels': 64}
    features = {'t': turns, 'stills': stills, 'photos': images}
  return preprocess.Preprocessor(
    preprocess.build(features),
    tokenizers.make_byte_tokenizer(),
  )


def make_model(kind: str) -> models.InterleavedVisionLanguage:
  """A small LLaVA, Qwen2.5-VL with levels, SmolVLM, OneVision and so on.

  The one of sounds reads the silence after them too, as Whisper does; the one
  of sounds and images reads chunks, as Qwen2.5-Omni does.
  """
  has_patches = kind in ('patches', *MIXED)
  rope = {'rope': {'sections': (1, 1, 1)}} if has_patches else {}
  grid = (2, 3) if kind == 'images' else None  # Of 4 x 6 pixels.
  vision = encoders.ViT(2, 8, 1, 2, 7, position_grid=grid)
  projector = mnn.Mlp(12, 5)
  if kind == 'tiles':
    projector = mnn.PixelShuffle(12, 2)
  if has_patches:
    projector = projector if kind == 'omni' else None
    vision = encoders.PackedViT(
      8,
      2,
      2,
      7,
      out_width=12,
      patch_size=2,
      window=2,
      window_layers=(0,),
      position_grid=(3, 3),
      level_layers=() if kind == 'omni' else (0,),
      block={'norm': 'rmsnorm'},
    )
  cls, parts = models.InterleavedVisionLanguage, {'vision': vision}
  if SETTINGS.get(kind) == 'sound':
    cls = models.InterleavedAudioLanguage
    alone = kind == 'sounds'
    parts = {
      'vision': None if alone else vision,
      'audio': encoders.AudioTransformer(
        8,
        1,
        2,
        7,
        20,
        merged=2,
        chunk=0 if alone else 6,
        convolves_padding=alone,
      ),
      'spectrogram': {
        'num_mels': 5,
        'n_fft': 8,
        'hop': 4,
        'fills_silence': alone,
      },
      'sample_rate': RATE,
      'input_sounds': ('photos',),
    }
  return cls(
    **parts,
    decoder=decoders.TextDecoder(
      260,
      12,
      2,
      2,
      7,
      LENGTH,
      cross_attention=False,
      positions='none',
      block={
        'rope_theta': 1e4,
        'attention_bias': ('query', 'value'),
        **rope,
      },
    ),
    projector=projector,
    placeholders={'sounds': (1,)}.get(kind, (3, 1) if kind in MIXED else (3,)),
    target_feature='t',
    input_images={
      'sounds': (),
      'videos': ('stills',),
      'omni': ('stills',),
    }.get(kind, ('photos',)),
    input_videos=('photos',) if kind == 'videos' else (),
    image_tokens=TOKENS[kind],
    image_newline=kind == 'padded',
  )


def stack(prepare, examples, batch_size: int) -> dict[str, np.ndarray]:
  """A batch of examples, filled up with ones that are masked."""
  made = [prepare(example) for example in examples]
  blank = {key: np.zeros_like(array) for key, array in made[0].items()}
  made += [blank] * (batch_size - len(made))
  return {key: np.stack([example[key] for example in made]) for key in blank}


def make_measure(model, make_inputs):
  """The function (params, batch, spoils) -> ((loss, count), gradient).

  With `spoils`, NaN stands wherever there is no image.
  """
  objective = objectives.AssistantGeneration(target='t')

  def loss(params, batch, spoils):
    inputs = make_inputs(batch)
    photos, mask = inputs['photos'], inputs['photos_mask']
    mask = mask.reshape(*mask.shape, *(1,) * (photos.ndim - mask.ndim))
    inputs['photos'] = jnp.where(spoils & ~mask, jnp.nan, photos)
    outputs = model.apply({'params': params}, inputs, train=True)
    value, _ = objective(
      outputs, inputs, apply=model.apply, rng=jax.random.key(0)
    )
    return value, objective.count(inputs)

  compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return lambda params, batch, spoils=False: compiled(params, batch, spoils)


def check_close(got, want):
  """Sums of the same terms in another order, in float32."""
  (loss, count), gradient = got
  (other, number), expected = want
  assert count == number > 0
  np.testing.assert_allclose(loss, other, rtol=1e-5)
  by_path = dict(jax.tree.leaves_with_path(gradient))
  for path, leaf in jax.tree.leaves_with_path(expected):
    name = jax.tree_util.keystr(path)
    if UNREACHED in name:
      continue
    scale = np.abs(leaf).max()
    assert scale > 0, name
    np.testing.assert_allclose(
      by_path[path], leaf, rtol=0, atol=1e-5 * scale, err_msg=name
    )


def as_arrays(batch):
  return {key: jnp.asarray(array) for key, array in batch.items()}
