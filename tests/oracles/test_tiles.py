"""Images are cut into the tiles of transformers."""

import json

import numpy as np
import PIL.Image
import pytest
import transformers

from mmjax.pretrained import idefics3, internvl
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
}


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
    more = {'crop_to_patches': True} if kind == 'internvl' else {}
    if kind != 'internvl':
      more['return_row_col_info'] = True
    want = theirs(image, return_tensors='np', **more)
    got, tiles = prepares(image)
    layouts.add((tiles.rows, tiles.columns))
    pixels = want['pixel_values']
    pixels = pixels.reshape(-1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)
    harness.close(got, pixels, atol=1e-6)
    if 'rows' in want:
      assert [[tiles.rows]] == list(want['rows'])
      assert [[tiles.columns]] == list(want['cols'])
  assert kind == 'idefics3_whole' or len(layouts) > 3
