"""Autoencoders of images here equal those of diffusers and transformers."""

import inspect
import math

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.janus import modeling_janus

from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, keys
from tests.oracles import harness
from tests.pretrained import test_autoencoders

BLOCKS = {
  'down_block_types': ('DownEncoderBlock2D',) * 2,
  'up_block_types': ('UpDecoderBlock2D',) * 2,
  'block_out_channels': (4, 8),
  'layers_per_block': 1,
  'norm_num_groups': 2,
}


def make_kl(**settings):
  return diffusers.AutoencoderKL(**BLOCKS, latent_channels=3, **settings)


def make_vq(**settings):
  return diffusers.VQModel(
    **BLOCKS,
    latent_channels=5,
    vq_embed_dim=3,
    num_vq_embeddings=13,
    **settings,
  )


def make_janus():
  config = modeling_janus.JanusVQVAEConfig(
    embed_dim=3,
    num_embeddings=13,
    latent_channels=5,
    base_channels=32,
    channel_multiplier=[1, 2],
    num_res_blocks=1,
    num_patches=4,
  )
  return modeling_janus.JanusVQVAE(config)


ROWS = {
  'kl': lambda: make_kl(shift_factor=0.1, scaling_factor=0.7),
  'kl_plain': lambda: make_kl(
    use_quant_conv=False,
    use_post_quant_conv=False,
    mid_block_add_attention=False,
  ),
  'vq': make_vq,
  'janus': make_janus,
}


@pytest.fixture(scope='module', params=ROWS)
def pair(request, tmp_path_factory):
  torch.manual_seed(0)
  model = harness.randomise(ROWS[request.param]())
  return model, harness.load_saved(model, tmp_path_factory.mktemp('model'))


def draw_images():
  rng = np.random.default_rng(0)
  return rng.normal(size=(2, 8, 8, 3)).astype(np.float32) / 2


def to_theirs(images):
  return torch.tensor(images).movedim(-1, 1)


def reconstruct(model, images):
  """Images [B, H, W, C] as the model gives them back."""
  out = model(to_theirs(images))
  is_janus = isinstance(model, modeling_janus.JanusVQVAE)
  return (out[0] if is_janus else out.sample).movedim(1, -1)


def encode(model, images):
  """Ids [B, h, w]."""
  with torch.no_grad():
    if isinstance(model, diffusers.VQModel):
      latents = model.encode(to_theirs(images)).latents
      ids = model.quantize(latents)[2][2]
    else:
      ids = model.encode(to_theirs(images)).image_tokens
  return ids.reshape(2, 4, 4).numpy()


def decode(model, ids):
  """Images [B, H, W, C] of ids [B, h, w]."""
  ids = torch.tensor(ids)
  if isinstance(model, diffusers.VQModel):
    vectors = model.quantize.get_codebook_entry(ids, (2, 4, 4, 3))
    out = model.decode(vectors, force_not_quantize=True).sample
  else:
    out = model.decode(ids.reshape(2, -1))
  return out.movedim(1, -1)


def test_reconstructions_tokens_and_latents_agree(pair):
  model, loaded = pair
  images = draw_images()
  with torch.no_grad():
    want = reconstruct(model, images).numpy()
  harness.check_close(loaded.reconstruct(images), want)
  if loaded.module.codebook.size:
    ids = encode(model, images)
    assert len(np.unique(ids)) > 2
    np.testing.assert_array_equal(loaded.encode_tokens(images), ids)
    ids = np.random.default_rng(1).integers(0, 13, (2, 4, 4))
    with torch.no_grad():
      want = decode(model, ids).numpy()
    harness.check_close(loaded.decode_tokens(ids), want)
    return
  with torch.no_grad():
    mean = model.encode(to_theirs(images)).latent_dist.mean
  config = model.config
  mean = (mean - (config.shift_factor or 0)) * config.scaling_factor
  latents = loaded.encode_latents(images)
  harness.check_close(latents, mean.movedim(1, -1))
  harness.check_close(loaded.decode_latents(latents), want)


def vector_loss(model, images):
  """What draws inputs and vectors to each other, with a commitment of 0.25."""
  inputs = model.encode(to_theirs(images)).latents
  nearest = model.quantize.embedding(torch.tensor(encode(model, images)))
  nearest = nearest.movedim(-1, 1)
  gap = lambda a, b: ((a - b.detach()) ** 2).mean()
  return 0.25 * gap(inputs, nearest) + gap(nearest, inputs)


def test_gradients_agree(pair):
  model, loaded = pair
  images = draw_images()
  ids = np.random.default_rng(1).integers(0, 13, (2, 4, 4))
  apply = loaded.module.apply

  def loss(params):
    if isinstance(model, modeling_janus.JanusVQVAE):
      # Its own forward pass decodes ids, so that its encoder gets no gradient.
      out = apply({'params': params}, jnp.asarray(ids), method='decode_tokens')
      return jnp.mean(out**2)
    batch = {'image': jnp.asarray(images)}
    found = apply({'params': params}, batch, method='reconstruct')
    total = jnp.mean(found.values**2)
    is_kl = found.codes.ids is None
    return total if is_kl else total + jnp.mean(found.codes.loss)

  def their_loss(model):
    if isinstance(model, modeling_janus.JanusVQVAE):
      return (decode(model, ids) ** 2).mean()
    total = (reconstruct(model, images) ** 2).mean()
    if isinstance(model, diffusers.VQModel):
      total = total + vector_loss(model, images)
    return total

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


@pytest.mark.parametrize('name', test_autoencoders.PUBLISHED)
def test_shapes_are_those_of_the_library(name):
  """Also of a config that says nothing: the defaults are the same."""
  config, number = test_autoencoders.PUBLISHED[name]
  family = families.find(config)
  named = {k: v for k, v in config.items() if k[0] != '_' and k != 'model_type'}
  with torch.device('meta'):
    if 'model_type' in config:
      settings = modeling_janus.JanusVQVAEConfig(**named)
      model = modeling_janus.JanusVQVAE(settings)
    else:
      cls = getattr(diffusers, config['_class_name'])
      fields = set(inspect.signature(cls.__init__).parameters) - {'self'}
      assert fields <= family.sections[''].known_keys()
      model = cls(**named)
  want = {key: tuple(x.shape) for key, x in model.state_dict().items()}
  module = family.build_module(config, jnp.float32)
  shapes = checkpoint.shapes(module, family.inputs(config))
  leaves, got = tree_paths.flatten(shapes), {}
  for rule in family.rules(config):
    shape, names = keys.layers(rule, leaves[rule.ours].shape)
    got |= dict.fromkeys(names, tuple(rule.form.theirs(shape)))
  assert got == want
  assert number == sum(math.prod(shape) for shape in want.values())
  assert number == sum(leaf.size for leaf in jax.tree.leaves(shapes))
