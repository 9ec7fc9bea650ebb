"""Diffusion transformers: as computed by diffusers, out again, and refused."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, families, tensors

GOLDEN = Path(__file__).parent / 'golden'
NAMES = ('dit', 'pixart', 'sd3', 'prior_transformer')
FILE = f'{tensors.DIFFUSERS}.safetensors'
# What config.json says, and the number of parameters.
PUBLISHED = {
  'DiT-XL/2': (
    {'_class_name': 'DiTTransformer2DModel', 'out_channels': 8},
    749_826_464,
  ),
  'PixArt-alpha of 1024 pixels': (
    {'_class_name': 'PixArtTransformer2DModel', 'caption_channels': 4096},
    611_349_152,
  ),
  'PixArt-sigma': (
    {'_class_name': 'PixArtTransformer2DModel', 'caption_channels': 4096,
     'use_additional_conditions': False},
    610_856_096,
  ),
  'PixArt, silent': ({'_class_name': 'PixArtTransformer2DModel'}, 605_301_152),
  'SD3, silent': ({'_class_name': 'SD3Transformer2DModel'}, 866_776_384),
  'SD3 medium': (
    {'_class_name': 'SD3Transformer2DModel', 'num_layers': 24,
     'num_attention_heads': 24, 'caption_projection_dim': 1536,
     'pos_embed_max_size': 192},
    2_084_951_104,
  ),
  'SD3.5 medium': (
    {'_class_name': 'SD3Transformer2DModel', 'num_layers': 24,
     'num_attention_heads': 24, 'caption_projection_dim': 1536,
     'pos_embed_max_size': 384, 'qk_norm': 'rms_norm',
     'dual_attention_layers': [*range(13)]},
    2_469_663_936,
  ),
  'SD3.5 large': (
    {'_class_name': 'SD3Transformer2DModel', 'num_layers': 38,
     'num_attention_heads': 38, 'caption_projection_dim': 2432,
     'pos_embed_max_size': 192, 'qk_norm': 'rms_norm'},
    8_146_280_768,
  ),
  'Karlo': ({'_class_name': 'PriorTransformer'}, 1_022_030_080),
  'Kandinsky 2.2': (
    {'_class_name': 'PriorTransformer', 'embedding_dim': 1280},
    1_026_225_920,
  ),
}  # fmt: skip


@pytest.fixture(scope='module', params=NAMES)
def loaded(request):
  return pretrained.load(GOLDEN / request.param), GOLDEN / request.param


def test_outputs_are_those_of_diffusers_and_saved_as_loaded(loaded, tmp_path):
  model, folder = loaded
  given = dict(np.load(folder / 'expected.npz'))
  want, times = given.pop('out'), given.pop('times')
  got = model.predict(timesteps=times, **given)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
  pretrained.save(model, tmp_path)
  there, here = tensors.Tensors(folder), tensors.Tensors(tmp_path)
  assert here.names == there.names and (tmp_path / FILE).exists()
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved == json.loads((folder / 'config.json').read_text())


# Those of SD3 take ten seconds to trace; tests/oracles has them.
@pytest.mark.parametrize('name', ('DiT-XL/2', 'PixArt-sigma', 'Kandinsky 2.2'))
def test_published_sizes(name):
  config, number = PUBLISHED[name]
  family = families.find(config)
  module = family.build_module(config, np.float32)
  shapes = checkpoint.shapes(module, family.inputs(config))
  assert number == sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
  ('name', 'values', 'message'),
  [
    ('dit', {'norm_type': 'ada_norm'}, "norm_type is 'ada_norm'; mmjax reads"),
    ('dit', {'activation_fn': 'geglu'}, "activation_fn is 'geglu'; mmjax kno"),
    ('dit', {'attention_head_dim': 5}, r'attention_head_dim is 10; mmjax rea'),
    ('dit', {'new': 1}, 'mmjax does not know new'),
    ('dit', {'_class_name': 'UNet2DModel'}, "_class_name is 'UNet2DModel'"),
    ('pixart', {'cross_attention_dim': 9}, 'but caption_channels are project'),
    ('pixart', {'cross_attention_dim': None}, 'only models with cross-attent'),
    ('pixart', {'attention_type': 'gated'}, "attention_type is 'gated'"),
    ('sd3', {'qk_norm': 'l2'}, "qk_norm is 'l2'; mmjax knows"),
    ('sd3', {'caption_projection_dim': 9}, 'caption_projection_dim is 9; mmj'),
    ('sd3', {'dual_attention_layers': [2]}, 'but there are 2 layers'),
    ('sd3', {'num_layers': 3}, 'transformer_blocks.2.*is missing'),
    ('prior_transformer', {'norm_in_type': 'rms'}, "norm_in_type is 'rms'"),
    ('prior_transformer', {'clip_embed_dim': 9}, 'clip_embed_dim is 9'),
    ('prior_transformer', {'added_emb_type': 'x'}, "added_emb_type is 'x'"),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, name, values, message):
  shutil.copytree(GOLDEN / name, tmp_path, dirs_exist_ok=True)
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | values))
  with pytest.raises(ConfigError, match=message):
    pretrained.load(tmp_path)


def test_conditions_that_are_missing_or_unknown_are_refused():
  model = pretrained.load(GOLDEN / 'sd3')
  latents, text = np.zeros((1, 2, 2, 3)), np.zeros((1, 1, 7))
  with pytest.raises(ConfigError, match='needs text, text_pooled; got text'):
    model.predict(latents, 3, text=text)
  with pytest.raises(ConfigError, match='an image of 6 x 1 patches is too lar'):
    pooled = np.zeros((1, 5))
    model.predict(np.zeros((1, 12, 2, 3)), 3, text=text, text_pooled=pooled)


def test_adapters_of_diffusers_are_refused(tmp_path):
  model = pretrained.load(GOLDEN / 'prior_transformer')
  with pytest.raises(ConfigError, match='PriorTransformer is a model of diff'):
    pretrained.save_adapter(model, tmp_path)
