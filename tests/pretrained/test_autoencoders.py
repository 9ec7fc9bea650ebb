"""Published autoencoders: their sizes, older names, and what is refused."""

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, families, keys, sections, tensors

FOUR = {
  'down_block_types': ['DownEncoderBlock2D'] * 4,
  'up_block_types': ['UpDecoderBlock2D'] * 4,
  'block_out_channels': [128, 256, 512, 512],
  'layers_per_block': 2,
}
# What config.json says, and the number of parameters.
PUBLISHED = {
  'Stable Diffusion 1': (
    {'_class_name': 'AutoencoderKL', **FOUR},
    83_653_863,
  ),
  'Stable Diffusion 3': (
    {'_class_name': 'AutoencoderKL', **FOUR, 'latent_channels': 16,
     'use_quant_conv': False, 'use_post_quant_conv': False,
     'scaling_factor': 1.5305, 'shift_factor': 0.0609},
    83_819_683,
  ),
  'KL, silent': ({'_class_name': 'AutoencoderKL'}, 563_175),
  'VQ, silent': ({'_class_name': 'VQModel'}, 560_414),
  'Janus': ({'model_type': 'janus_vqgan'}, 71_883_403),
}  # fmt: skip
TINY = {
  'down_block_types': ['DownEncoderBlock2D'] * 2,
  'up_block_types': ['UpDecoderBlock2D'] * 2,
  'block_out_channels': [2, 4],
  'norm_num_groups': 2,
}
KL = {'_class_name': 'AutoencoderKL', **TINY}
VQ = {'_class_name': 'VQModel', **TINY}
JANUS = {'model_type': 'janus_vqgan', 'base_channels': 32}


@pytest.mark.parametrize('name', ('Stable Diffusion 3', 'Janus'))
def test_published_sizes(name):
  config, number = PUBLISHED[name]
  family = families.find(config)
  module = family.build_module(config, np.float32)
  shapes = checkpoint.shapes(module, family.inputs(config))
  assert number == sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
  ('config', 'values', 'message'),
  [
    (KL, {'out_channels': 4}, 'in_channels is 3 and out_channels 4'),
    (KL, {'block_out_channels': [2, 3]}, 'only multiples of the first here'),
    (KL, {'block_out_channels': [2]}, 'as often as there are block_out_chann'),
    (KL, {'act_fn': 'relu'}, "act_fn is 'relu'; mmjax reads only 'silu'"),
    (KL, {'use_quant_conv': False}, 'use_quant_conv is False; mmjax reads on'),
    (KL, {'shift_factor': 'a'}, "shift_factor is 'a'; mmjax reads only a num"),
    (KL, {'latents_mean': [0.1]}, r'latents_mean is \[0.1\]; mmjax reads only'),
    (VQ, {'norm_type': 'spatial'}, "norm_type is 'spatial'; mmjax reads only"),
    (VQ, {'new': 1}, 'mmjax does not know new'),
    (JANUS, {'double_latent': True}, 'double_latent is True; mmjax reads only'),
    (JANUS, {'out_channels': 1}, 'in_channels is 3 and out_channels 1'),
    (JANUS, {'new': 1}, 'mmjax does not know new'),
  ],
)
def test_what_does_not_fit_is_named(config, values, message):
  config = config | values
  family = families.find(config)
  with pytest.raises(ConfigError, match=message):
    sections.check(config, family.sections)
    family.build_module(config, np.float32)


def test_a_folder_with_older_names_of_attention_is_read(tmp_path):
  family = families.find(VQ)
  module = family.build_module(VQ, np.float32)
  rng = np.random.default_rng(0)
  shapes = checkpoint.shapes(module, family.inputs(VQ))
  params = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
  )
  model = family.model_class(module, params, VQ)
  pretrained.save(model, tmp_path / 'new')
  older = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value'}
  older |= {'to_out.0': 'proj_attn'}

  def rename(name):
    for new, old in older.items():
      name = name.replace(f'attentions.0.{new}.', f'attentions.0.{old}.')
    return name

  named = [(rename(n), a) for n, a in keys.save(family.rules(VQ), params)]
  assert any('proj_attn' in name for name, _ in named)
  tensors.write(tmp_path / 'old', named, 10**6, tensors.DIFFUSERS)
  content = (tmp_path / 'new' / 'config.json').read_text()
  (tmp_path / 'old' / 'config.json').write_text(content)
  for name in ('new', 'old'):
    loaded = pretrained.load(tmp_path / name)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
  with pytest.raises(ConfigError, match='has tokens; use encode_tokens'):
    loaded.encode_latents(np.zeros((1, 4, 4, 3)))
