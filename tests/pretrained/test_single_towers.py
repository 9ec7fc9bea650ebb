"""One tower of two is the same that it is in the whole model."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from mmjax import pretrained
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, tensors
from mmjax.runs import weight_source

GOLDEN = Path(__file__).parent / 'golden'
KINDS = {
  'clip_vision_model': ('clip', 'vision', 'CLIPVisionModelWithProjection'),
  'clip_text_model': ('clip', 'text', 'CLIPTextModel'),
  'siglip_vision_model': ('siglip', 'vision', 'SiglipVisionModel'),
}


def tower(folder, kind, prefix=True):
  """A tower of a golden folder, with or without the prefix of its names."""
  whole, part, name = KINDS[kind]
  shutil.copytree(GOLDEN / whole, folder, dirs_exist_ok=True)
  settings = json.loads((folder / 'config.json').read_text())
  settings = settings[f'{part}_config'] | {
    'model_type': kind,
    'architectures': [name],
  }
  (folder / 'config.json').write_text(json.dumps(settings))
  held = safetensors.numpy.load_file(folder / tensors.FILE)
  before = f'{part}_model.'
  cut = {
    k if prefix else k.removeprefix(before): v
    for k, v in held.items()
    if k.startswith(before)
  }
  if 'Projection' in name:
    cut['visual_projection.weight'] = held['visual_projection.weight']
  safetensors.numpy.save_file(cut, folder / tensors.FILE)
  return folder


@pytest.mark.parametrize('prefix', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_a_tower_is_that_of_the_whole(kind, prefix, tmp_path):
  whole, part, _ = KINDS[kind]
  folder = tower(tmp_path / 'in', kind, prefix)
  model = pretrained.load(folder)
  ours = {'vision': 'image', 'text': 'text'}[part]
  got = model.params.get('encoder', model.params)
  want = pretrained.load(GOLDEN / whole)
  jax.tree.map(np.testing.assert_array_equal, got, want.params[ours])
  pretrained.save(model, tmp_path / 'out')
  there = tensors.Tensors(tmp_path / 'out')
  held = tensors.Tensors(tower(tmp_path / 'again', kind))
  assert there.names == held.names
  source = weight_source.find(str(folder))
  module, inside = source.part(ours)
  assert type(module) is type(getattr(want.module, ours))
  shapes = tree_paths.flatten(source.shapes)
  read = tree_paths.flatten(source.read(source.shapes))
  assert read.keys() == shapes.keys()
  assert all(path.startswith(inside) for path in shapes)


@pytest.mark.parametrize('kind', KINDS)
def test_the_tensors_of_the_whole_may_be_there(kind, tmp_path):
  alone = tower(tmp_path / 'alone', kind)
  whole = tower(tmp_path / 'whole', kind)
  shutil.copy(GOLDEN / KINDS[kind][0] / tensors.FILE, whole / tensors.FILE)
  _, _, want = checkpoint.read_folder(alone)
  with pytest.warns(UserWarning, match='does not read; they are left out'):
    _, _, got = checkpoint.read_folder(whole)
  assert got.names - {'text_projection.weight'} == want.names


def test_texts_are_read_up_to_what_the_tower_reads(tmp_path):
  model = pretrained.load(tower(tmp_path, 'clip_text_model'))
  ids, mask = model.tokenize(['a cat', 'cat ' * 200])
  most = model.config['max_position_embeddings']
  assert ids.shape == mask.shape == (2, most)
  assert mask.sum(axis=1)[1] == most


def test_a_head_that_changes_the_width_of_texts_is_refused():
  config = {
    'model_type': 'siglip_text_model',
    'hidden_size': 12,
    'projection_size': 10,
  }
  with pytest.raises(ValueError, match='projection_size is 10; mmjax reads'):
    families.find(config).build_module(config)


def test_texts_of_siglip_are_padded_to_all_that_the_tower_reads(tmp_path):
  shutil.copytree(GOLDEN / 'siglip', tmp_path, dirs_exist_ok=True)
  settings = json.loads((tmp_path / 'config.json').read_text())['text_config']
  settings |= {'architectures': ['SiglipTextModel'], 'projection_size': 12}
  (tmp_path / 'config.json').write_text(json.dumps(settings))
  held = safetensors.numpy.load_file(tmp_path / tensors.FILE)
  held = {k: v for k, v in held.items() if k.startswith('text_model.')}
  held['text_model.head.weight'] = np.eye(12, dtype=np.float32)
  held['text_model.head.bias'] = np.zeros(12, np.float32)
  safetensors.numpy.save_file(held, tmp_path / tensors.FILE)
  model = pretrained.load(tmp_path)
  ids, mask = model.tokenize(['a cat', 'cat ' * 200])
  assert ids.shape == mask.shape == (2, 9)
  np.testing.assert_array_equal(ids[0][~mask[0]], 1)
  # The head is the identity here, and the last token is that of padding.
  tokens = model.encode_tokens('a cat')
  np.testing.assert_allclose(tokens.pooled, tokens.values[:, -1], atol=1e-6)
