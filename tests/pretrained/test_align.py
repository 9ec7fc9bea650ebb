"""ALIGN: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import align, checkpoint, tensors

GOLDEN = Path(__file__).parent / 'golden' / 'align'
TEXTS = ['a small red circle', 'cat']
# Products of channels that were normalised, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return np.load(GOLDEN / 'expected.npz')


def test_embeddings_are_those_of_transformers(loaded, expected):
  pixels = expected['pixels']
  images = loaded.encode_image([pixels, pixels[:, ::-1]])
  close(images, expected['image'])
  texts = loaded.encode_text(TEXTS)
  close(texts, expected['text'])
  scale = 1 / loaded.params['scale']['temperature']
  np.testing.assert_allclose(
    scale * images @ texts.T, expected['logits'], rtol=1e-4, atol=1e-4
  )


def test_texts_are_padded_to_64_and_cut_where_the_model_ends(loaded):
  ids, mask = loaded.tokenize(TEXTS)
  assert ids.shape == (2, 64) and mask.sum(axis=1).tolist() == [6, 3]
  assert loaded.tokenize('cat ' * 90)[0].shape == (1, 80)


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


def test_published_size():
  """Without its pooler (590,592), with its statistics (305,600)."""
  shapes = checkpoint.shapes(align.module({}), align.inputs({}))
  number = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert number == 172_117_841 - 590_592 + 305_600


@pytest.mark.parametrize(
  ('section', 'values', 'message'),
  [
    ('', {'architectures': ['AlignTextModel']}, r"is \['AlignTextModel'\]"),
    ('', {'projection_dim': 9}, 'projection_dim is 9, but images have 8'),
    ('vision_config', {'pooling_type': 'max'}, "pooling_type is 'max'"),
    ('vision_config', {'in_channels': [32, 16, 16]}, r'in_channels is \[32'),
    ('vision_config', {'hidden_act': 'mish'}, "hidden_act is 'mish'"),
    (
      'vision_config',
      {'kernel_sizes': [3, 3, 3]},
      r'depthwise_conv.weight is \[24, 1, 5, 5\], not \[24, 1, 3, 3\]',
    ),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, section, values, message):
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(values)
  path.write_text(json.dumps(config))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)
