"""Images are cut into the tiles of transformers."""

import ast
import json
import math
import pathlib

import numpy as np
import PIL.Image
import pytest
import transformers

from mmjax.ops import anyres
from mmjax.pretrained import idefics3, internvl, llava_onevision, qwen3_vl
from tests.oracles import harness

SIZES = [(50, 31), (31, 50), (5, 5), (20, 190), (97, 24), (24, 24)]
SMALL = {'size': {'longest_edge': 60}, 'max_image_size': {'longest_edge': 24}}
KINDS = {
  'idefics3': (idefics3.Model, transformers.Idefics3ImageProcessorPil, SMALL),
  'idefics3_whole': (
    idefics3.Model,
    transformers.Idefics3ImageProcessorPil,
    {**SMALL, 'do_image_splitting': False},
  ),
  'smolvlm': (
    idefics3.Model,
    transformers.SmolVLMImageProcessorPil,
    {**SMALL, 'do_resize': False, 'image_mean': [0.1, 0.2, 0.3]},
  ),
  'internvl': (
    internvl.Model,
    transformers.GotOcr2ImageProcessorPil,
    {'size': {'height': 18, 'width': 24}, 'max_patches': 7},
  ),
  'onevision': (
    llava_onevision.Model,
    transformers.LlavaOnevisionImageProcessorPil,
    {
      'size': {'height': 24, 'width': 24},
      'image_grid_pinpoints': [[24, 24], [48, 24], [24, 72], [48, 72]],
    },
  ),
}
MORE = {'internvl': {'crop_to_patches': True}, 'onevision': {}}


@pytest.mark.parametrize('kind', KINDS)
def test_tiles_agree(kind, tmp_path):
  ours, make, settings = KINDS[kind]
  theirs = make(**settings)
  theirs.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  prepares = ours.make_preprocessor(config)
  layouts = set()
  for size in SIZES:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = PIL.Image.fromarray(pixels)
    more = MORE.get(kind, {'return_row_col_info': True})
    want = theirs(image, return_tensors='np', **more)
    got, tiles = prepares(image)
    layouts.add((tiles.rows, tiles.columns))
    pixels = want['pixel_values']
    pixels = pixels.reshape(-1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)
    harness.close(got, pixels, atol=1e-6)
    if 'rows' in want:
      assert [[tiles.rows]] == list(want['rows'])
      assert [[tiles.columns]] == list(want['cols'])
    assert prepares.cutter.find_grid(*size) == (tiles.rows, tiles.columns)
  assert kind == 'idefics3_whole' or len(layouts) > 3


def test_images_of_onevision_have_as_many_tokens():
  """Alone and resized, and padded to squares where there are several."""
  ours, make, settings = KINDS['onevision']
  theirs = make(**settings)
  prepares = ours.make_preprocessor(settings)
  images = [
    PIL.Image.fromarray(
      np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    )
    for size in SIZES
  ]
  want = theirs([images], return_tensors='np')['pixel_values']
  for image, pixels in zip(images, want, strict=True):
    got = prepares.whole.cut(image).images[0]
    harness.close(
      prepares.image_preprocessor(got),
      pixels[0].transpose(1, 2, 0),
      atol=1e-6,
    )
  count = transformers.LlavaOnevisionProcessor._get_unpadded_features
  for most in (1, 2, 9):
    for size in SIZES:
      grid = prepares.cutter.find_grid(*size)
      processor = type('', (), {'vision_aspect_ratio': f'anyres_max_{most}'})
      number = sum(count(processor, *size, 5, 5, *grid))
      assert len(anyres.lay_out_tiles(size, *grid, 5, most)) == 25 + number


def test_frames_share_a_budget_of_pixels():
  """Of Qwen3-VL, whose videos need torchvision there, but not this function."""
  folder = pathlib.Path(transformers.__file__).parent / 'models/qwen3_vl'
  tree = ast.parse((folder / 'video_processing_qwen3_vl.py').read_text())
  (found,) = (n for n in tree.body if getattr(n, 'name', '') == 'smart_resize')
  names = {'math': math}
  exec(compile(ast.Module([found], []), 'smart_resize', 'exec'), names)
  resize = names['smart_resize']
  ours = qwen3_vl.VideoPreprocessor(
    None, patch_size=4, min_pixels=2000, max_pixels=9000
  )
  for number in (2, 3, 4, 5, 11):
    for size in ((50, 31), (5, 7), (20, 190), (200, 300)):
      want = resize(number, *size, 2, 8, 2000, 9000)
      assert ours.fit_size(*size, number) == want
