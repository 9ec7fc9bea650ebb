"""VideoMAE: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from mmjax import pretrained
from mmjax.pretrained import checkpoint, tensors, videomae

GOLDEN = Path(__file__).parent / 'golden' / 'videomae'
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return np.load(GOLDEN / 'expected.npz')


def test_outputs_are_those_of_transformers(loaded, expected):
  pixels, logits = expected['pixels'], expected['logits']
  assert not np.allclose(logits[0], logits[1], atol=1e-2)
  close(loaded.class_logits(pixels), logits)
  frames = [PIL.Image.fromarray(frame) for frame in pixels[1]]
  names = ['clapping', 'running', 'swimming']
  (found,) = loaded.classify([frames], top=3)
  assert [name for name, _ in found] == [
    names[i] for i in np.argsort(-logits[1])
  ]
  tokens = loaded.encode_video(pixels)
  assert tokens.values.shape == (2, 2 * 2 * 2, 12)
  assert tokens.pooled.shape == (2, 12)
  with pytest.raises(ValueError, match='has 3 frames, but the model reads 4'):
    loaded.encode_video(pixels[:, :3])


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


_LARGE = {
  'hidden_size': 1024,
  'intermediate_size': 4096,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
}
# Parameters of the published checkpoints, with the 400 classes of Kinetics.
SIZES = {'videomae B': ({}, 86_534_800), 'videomae L': (_LARGE, 304_270_736)}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  settings, number = SIZES[name]
  config = {
    'architectures': ['VideoMAEForVideoClassification'],
    'id2label': {str(i): str(i) for i in range(400)},
    **settings,
  }
  shapes = checkpoint.shapes(videomae.module(config), videomae.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'architectures': ['VideoMAEForPreTraining']}, "'VideoMAEForPreTraining'"),
    ({'qkv_bias': False}, 'q_bias is left over'),
    ({'use_mean_pooling': False}, 'fc_norm.weight is left over'),
    ({'tubelet_size': 4}, 'projection.weight is'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, values, message):
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)
