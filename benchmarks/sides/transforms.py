"""JPEG files of 500 by 375 pixels to arrays of 224, on one thread.

Training images are cropped at random, and each has the tokens of a caption.
Those of open_clip are normalised floats; mmjax normalises on the device. Images
of a published CLIP are resized, cropped in the middle and normalised by both.
"""

import io

import numpy as np
import PIL.Image

from benchmarks.sides.work import Work

_NUMBER = 128
_SIZE = 224
# Of an image's first row, what is compared.
_SHOWN = 50


def make_mmjax(tiny: bool) -> Work:
  """mmjax's features of an image and a caption."""
  from mmjax.data import preprocess, tokenizers

  caption = 'a red circle to the left of a blue square'
  tokenizer = tokenizers.make_byte_tokenizer()
  preprocessor = preprocess.Preprocessor(
    preprocess.build(
      {
        'image': {
          'kind': 'image',
          'size': _SIZE,
          'augment': ({'name': 'random_resized_crop', 'scale': (0.9, 1.0)},),
        },
        'text': {'kind': 'text', 'field': 'captions', 'length': 77},
      }
    ),
    tokenizer,
  )
  records = [
    {'fields': {'image': data, 'captions': [caption]}, 'metadata': {}}
    for data in _draw_files(tiny)
  ]

  def run():
    for number, record in enumerate(records):
      preprocessor(record, np.random.default_rng(number))

  return Work(run, {})


def make_open_clip(tiny: bool) -> Work:
  """open_clip's transform and tokenizer, as its DataLoader calls them."""
  import open_clip
  import torch
  from open_clip import transform

  torch.set_num_threads(1)
  transforms = transform.image_transform(_SIZE, is_train=True)
  tokenizer = open_clip.SimpleTokenizer()
  files = _draw_files(tiny)

  def run():
    for data in files:
      transforms(PIL.Image.open(io.BytesIO(data)))
      tokenizer(['a red circle to the left of a blue square'])

  return Work(run, {})


def make_published_mmjax(tiny: bool) -> Work:
  """mmjax's preprocessing of a published CLIP."""
  from mmjax.data import images
  from mmjax.pretrained import clip

  preprocess = clip.Model.make_preprocessor({})
  files = _draw_files(tiny)
  run = lambda: [preprocess(images.decode(data)) for data in files]
  return Work(run, {'output': run()[0][0, :_SHOWN].ravel().tolist()})


def make_published_transformers(tiny: bool) -> Work:
  """transformers' image processor of CLIP, by Pillow."""
  import transformers

  process = transformers.CLIPImageProcessorPil()
  files = _draw_files(tiny)

  def run():
    return [
      process(PIL.Image.open(io.BytesIO(data)), return_tensors='np')
      for data in files
    ]

  pixels = run()[0]['pixel_values'][0]  # [3, H, W]
  shown = pixels[:, 0, :_SHOWN].T
  return Work(run, {'output': shown.ravel().tolist()})


def _draw_files(tiny: bool) -> list[bytes]:
  """JPEG files of smooth random images."""
  rng = np.random.default_rng(0)
  files = []
  for _ in range(4 if tiny else _NUMBER):
    small = rng.integers(0, 256, (15, 20, 3), np.uint8)
    image = PIL.Image.fromarray(small).resize((500, 375), PIL.Image.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=90)
    files.append(buffer.getvalue())
  return files
