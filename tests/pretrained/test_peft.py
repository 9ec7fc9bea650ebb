"""Folders of adapters: what is written is read again, and what is refused.

That PEFT reads and writes the same is in tests/oracles.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
import safetensors.numpy

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, peft, peft_config

GOLDEN = Path(__file__).parent / 'golden'


def _adapt(name, layers, *, dora=False, seed=0):
  """A published model with random adapters of some layers."""
  model = pretrained.load(GOLDEN / name)
  inputs = checkpoint.families.find(model.config).inputs(model.config)
  with adapters.record_layers() as recorded:
    boxed = checkpoint._boxed_shapes(model.module, inputs)
  chosen = {path: axes for path, axes in recorded.items() if layers in path}
  lora = adapters.Lora(3, 5.0, dora=dora)
  shapes = nn.meta.unbox(adapters.make_shapes(boxed, chosen, lora))
  own = adapters.init(jax.random.key(0), shapes, model.params, lora)
  rng = np.random.default_rng(seed)
  own = {
    path: leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32)
    if adapters.is_trained(path)
    else leaf
    for path, leaf in tree_paths.flatten(own).items()
  }
  params = tree_paths.overlay(model.params, own)
  return dataclasses.replace(model, params=params, base=str(GOLDEN / name))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder of a Llama's adapters."""
  folder = tmp_path_factory.mktemp('adapter')
  pretrained.save_adapter(_adapt('llama', 'attention/'), folder)
  return folder


# Packed matrices, names that differ in memory, and PyTorch's own attention.
@pytest.mark.parametrize(
  ('name', 'layers', 'dora'),
  [
    ('gpt2', 'attention/', True),
    ('qwen2_vl', '/mlp/', False),
    ('llava', 'attention/out', True),
    ('siglip', 'text/blocks', False),
  ],
)
def test_adapters_are_read_as_they_were_written(name, layers, dora, tmp_path):
  model = _adapt(name, layers, dora=dora)
  model = dataclasses.replace(model, tuned=tuple(
    path for path in tree_paths.flatten(model.params)
    if path.endswith('mlp_norm/scale')
  ))  # fmt: skip
  pretrained.save_adapter(model, tmp_path)
  again = pretrained.load(tmp_path)
  assert set(model.tuned) <= set(again.tuned)
  want = tree_paths.flatten(adapters.merge(model.params))
  got = tree_paths.flatten(adapters.merge(again.params))
  assert got.keys() == want.keys()
  for path, leaf in got.items():
    np.testing.assert_allclose(
      leaf, want[path], rtol=0, atol=1e-6, err_msg=path
    )


def test_parts_of_a_packed_matrix_alone_are_written(tmp_path):
  model = _adapt('gpt2', 'attention/value')
  pretrained.save_adapter(model, tmp_path)
  config = json.loads((tmp_path / peft_config.FILE).read_text())
  assert config['target_modules'] == ['c_attn'] and config['fan_in_fan_out']
  want = tree_paths.flatten(adapters.merge(model.params))
  got = tree_paths.flatten(adapters.merge(pretrained.load(tmp_path).params))
  for path, leaf in got.items():
    np.testing.assert_allclose(
      leaf, want[path], rtol=0, atol=1e-6, err_msg=path
    )
  with pytest.raises(ConfigError, match='1 of 3 parts'):
    pretrained.save_adapter(
      _adapt('gpt2', 'attention/value', dora=True), tmp_path
    )


def test_layers_of_one_name_in_two_towers_are_named_in_full(tmp_path):
  pretrained.save_adapter(_adapt('siglip', 'text/blocks/layers/mlp'), tmp_path)
  config = json.loads((tmp_path / peft_config.FILE).read_text())
  assert config['target_modules'] == sorted(
    f'text_model.encoder.layers.{i}.mlp.fc{n}' for i in (0, 1) for n in (1, 2)
  )
  assert (config['r'], config['lora_alpha']) == (3, 5)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'peft_type': 'IA3'}, "peft_type is 'IA3'"),
    ({'bias': 'all'}, "bias is 'all'"),
    ({'init_lora_weights': 'pissa'}, "is 'pissa', which has changed weights"),
    ({'layer_replication': [[0, 2]]}, 'does not know layer_replication='),
    ({'lora_alpha': 'x'}, "lora_alpha is 'x'"),
    ({'base_model_name_or_path': None}, 'does not name the model'),
    ({'base_model_name_or_path': '/no/base'}, 'there is no folder /no/base'),
    (
      {'base_model_name_or_path': str(GOLDEN / 'gpt2')},
      'has no dense layer for base_model',
    ),
    ({'use_dora': True}, 'has no lora_magnitude of'),
  ],
)
def test_what_is_not_known_is_refused(folder, tmp_path, changed, message):
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  path = tmp_path / peft_config.FILE
  path.write_text(json.dumps(json.loads(path.read_text()) | changed))
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda t: t | {'base_model.model.x.lora_A.weight': t[min(t)]},
      r'model\.x',
    ),
    (lambda t: {n: a for n, a in t.items() if 'lora_B' not in n}, 'no lora_b'),
    (lambda t: {n: a[:, :-1] for n, a in t.items()}, 'take the model'),
  ],
)
def test_tensors_that_do_not_fit_are_refused(folder, tmp_path, change, message):
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  path = tmp_path / peft.FILE
  tensors = change(safetensors.numpy.load_file(path))
  tensors = {n: np.ascontiguousarray(a) for n, a in tensors.items()}
  safetensors.numpy.save_file(tensors, path)
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path)


def test_broken_files_are_refused(folder, tmp_path):
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  (tmp_path / peft.FILE).write_bytes(b'x')
  with pytest.raises(ConfigError, match='broken or cut off'):
    pretrained.load(tmp_path)
  (tmp_path / peft.FILE).unlink()
  with pytest.raises(ConfigError, match='safe_serialization'):
    pretrained.load(tmp_path)
  (tmp_path / peft_config.FILE).write_text('[')
  with pytest.raises(ConfigError, match=r'adapter_config\.json is broken'):
    pretrained.load(tmp_path)


def test_a_model_without_adapters_has_none_to_write(tmp_path):
  with pytest.raises(ConfigError, match='has no adapters'):
    pretrained.save_adapter(pretrained.load(GOLDEN / 'llama'), tmp_path)
