"""SigLIP 2 for any aspect ratio: as computed there, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.ops import packing
from mmjax.pretrained import checkpoint, siglip2, tensors

GOLDEN = Path(__file__).parent / 'golden' / 'siglip2'
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


def test_embeddings_are_those_of_transformers(loaded):
  expected = np.load(GOLDEN / 'expected.npz')
  wide, tall = expected['wide'], expected['tall']
  close(loaded.encode_image([wide, tall]), expected['image'])
  close(loaded.encode_image(tall), expected['image'][1:])
  # Texts are read in lower case.
  close(loaded.encode_text(['A small RED circle', 'cat']), expected['text'])


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def test_published_size():
  # B/16 for any aspect ratio.
  config = {'text_config': {'vocab_size': 256_000}, 'vision_config': {}}
  shapes = checkpoint.shapes(siglip2.module(config), siglip2.inputs(config))
  number = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert number == 375_234_050


@pytest.mark.parametrize(
  ('height', 'width', 'size'),
  [(100, 100, (256, 256)), (10, 1000, (32, 2048)), (3, 5, (192, 320))],
)
def test_images_get_the_largest_size(height, width, size):
  assert packing.fit_tokens(height, width, 16, 256) == size


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'num_patches': 10}, 'num_patches is 10; mmjax reads only squares'),
    ({'vision_use_head': False}, 'vision_use_head is False'),
    ({'patch_size': 4}, 'patch_embedding.weight is'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, values, message):
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  config['vision_config'].update(values)
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)
