"""A folder's config.json says of its tensors what they are."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import configs, tensors

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def types(folder):
  """The types of a folder's tensors, and those that its config names."""
  held = tensors.Tensors(folder)
  config = json.loads((folder / 'config.json').read_text())
  parts = [config, config['text_config'], config['vision_config']]
  named = {part.get(key) for part in parts for key in configs.DTYPES}
  return {held.read(name).dtype.name for name in held.names}, named - {None}


@pytest.mark.parametrize('stored', ['bfloat16', 'float32'])
@pytest.mark.parametrize('kept', ['bfloat16', 'float32'])
def test_what_is_saved_is_named_by_the_config(tmp_path, stored, kept):
  source = shutil.copytree(GOLDEN / 'llava', tmp_path / 'in')
  path = source / 'config.json'
  config = json.loads(path.read_text())
  config['torch_dtype'] = config.pop('dtype')
  config['text_config']['torch_dtype'] = 'float16'
  path.write_text(json.dumps(configs.set_dtype(config, stored)))
  model = pretrained.load(source, param_dtype=kept)
  pretrained.save(model, tmp_path / 'out')
  assert types(tmp_path / 'out') == ({kept}, {kept})


def test_of_several_types_the_widest_is_named(tmp_path):
  model = pretrained.load(GOLDEN / 'llava', param_dtype='bfloat16')
  leaves, tree = jax.tree.flatten(model.params)
  leaves[0] = leaves[0].astype(np.float32)
  mixed = jax.tree.unflatten(tree, leaves)
  pretrained.save(
    type(model)(model.module, mixed, model.config, model.files), tmp_path
  )
  assert types(tmp_path) == ({'bfloat16', 'float32'}, {'float32'})
