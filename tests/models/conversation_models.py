"""Conversations with images or sounds, and small models that learn them."""

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
TOKENS = {'images': 6, 'patches': 0, 'tiles': 1, 'padded': 4, 'sounds': 0}
RATE = 1000
PLACEHOLDER = '<unk>'  # No text has it: the tokenizer knows all bytes.
# Turns of each conversation: texts, and sizes (height, width) of images; sounds
# have as many samples as these have pixels.
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


def encode(kind: str, height: int, width: int) -> bytes:
  make = encode_sound if kind == 'sounds' else encode_image
  return make(height, width)


def make_record(number: int, talk, kind: str = 'images') -> sources.Record:
  images, turns = [], []
  for at, items in enumerate(talk):
    content = []
    for item in items:
      if isinstance(item, tuple):
        images.append(encode(kind, *item))
        item = {'field': 'photos'}
      content.append(item)
    turns.append({'role': ('user', 'assistant')[at % 2], 'content': content})
  fields = {'t': turns, **({'photos': images} if images else {})}
  return {'id': f'r{number}', 'fields': fields, 'metadata': {}}


def make_source(kind: str, talks=TALKS) -> sources.Source:
  return sources.ListSource(
    [make_record(number, talk, kind) for number, talk in enumerate(talks)],
    kinds={'t': 'turns', 'photos': 'sounds' if kind == 'sounds' else 'images'},
  )


def make_preprocessor(kind: str, **settings) -> preprocess.Preprocessor:
  """The preprocessor of images of one size, patches, tiles or sounds."""
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
    'sounds': {
      'kind': 'sounds',
      'number': 3,
      'rate': RATE,
      'seconds': 0.16,
      'step': 8,
      'merged': 2,
    },
  }[kind]
  turns = {
    'kind': 'turns',
    'length': LENGTH,
    'sound' if kind == 'sounds' else 'image': 'photos',
    'image_tokens': TOKENS[kind],
    'placeholder': PLACEHOLDER,
    'packed': True,
    **settings,
  }
  return preprocess.Preprocessor(
    preprocess.build({'t': turns, 'photos': images}),
    tokenizers.make_byte_tokenizer(),
  )


def make_model(kind: str) -> models.InterleavedVisionLanguage:
  """A small LLaVA, Qwen2.5-VL with levels, SmolVLM, OneVision or Qwen2-Audio.

  The one of sounds reads the silence after them too, as Whisper does.
  """
  rope = {'rope': {'sections': (1, 1, 1)}} if kind == 'patches' else {}
  grid = (2, 3) if kind == 'images' else None  # Of 4 x 6 pixels.
  vision = encoders.ViT(2, 8, 1, 2, 7, position_grid=grid)
  projector = mnn.Mlp(12, 5)
  if kind == 'tiles':
    projector = mnn.PixelShuffle(12, 2)
  if kind == 'patches':
    projector = None
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
      level_layers=(0,),
      block={'norm': 'rmsnorm'},
    )
  cls, parts = models.InterleavedVisionLanguage, {'vision': vision}
  if kind == 'sounds':
    cls = models.InterleavedAudioLanguage
    parts = {
      'audio': encoders.AudioTransformer(
        8, 1, 2, 7, 20, merged=2, convolves_padding=True
      ),
      'spectrogram': {
        'num_mels': 5,
        'n_fft': 8,
        'hop': 4,
        'fills_silence': True,
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
    placeholders=(3,),
    output_text='t',
    input_images=() if kind == 'sounds' else ('photos',),
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
