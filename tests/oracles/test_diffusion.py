"""Diffusion transformers here equal those of diffusers."""

import functools
import inspect
import math

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, keys
from tests.oracles import harness
from tests.pretrained import test_diffusion

SIZES = {'num_attention_heads': 3, 'attention_head_dim': 8, 'num_layers': 2}
# Class -> settings of a tiny model, and the size of its latents.
ROWS = {
  'dit': (
    diffusers.DiTTransformer2DModel,
    {**SIZES, 'in_channels': 5, 'out_channels': 7, 'sample_size': 6,
     'num_embeds_ada_norm': 11},
    (6, 6),
  ),
  'dit_gelu': (
    diffusers.DiTTransformer2DModel,
    {**SIZES, 'in_channels': 3, 'sample_size': 9, 'patch_size': 3,
     'num_embeds_ada_norm': 5, 'attention_bias': False, 'norm_eps': 0.1,
     'activation_fn': 'gelu'},
    (9, 9),
  ),
  'pixart': (
    diffusers.PixArtTransformer2DModel,
    {**SIZES, 'in_channels': 5, 'out_channels': 10, 'sample_size': 8,
     'cross_attention_dim': 24, 'caption_channels': 13},
    (6, 10),
  ),
  'pixart_sizes': (
    diffusers.PixArtTransformer2DModel,
    {**SIZES, 'in_channels': 3, 'out_channels': None, 'sample_size': 8,
     'patch_size': 1, 'cross_attention_dim': 17, 'norm_eps': 0.1,
     'use_additional_conditions': True, 'interpolation_scale': 2},
    (3, 5),
  ),
  'sd3': (
    diffusers.SD3Transformer2DModel,
    {**SIZES, 'in_channels': 5, 'out_channels': 5, 'sample_size': 8,
     'joint_attention_dim': 13, 'caption_projection_dim': 24,
     'pooled_projection_dim': 11, 'pos_embed_max_size': 7},
    (6, 10),
  ),
  'sd3_dual': (
    diffusers.SD3Transformer2DModel,
    {**SIZES, 'num_layers': 3, 'in_channels': 3, 'out_channels': 4,
     'sample_size': 6, 'patch_size': 1, 'joint_attention_dim': 7,
     'caption_projection_dim': 24, 'pooled_projection_dim': 5,
     'pos_embed_max_size': 9, 'dual_attention_layers': (0, 2),
     'qk_norm': 'rms_norm'},
    (5, 4),
  ),
}  # fmt: skip
PRIORS = {
  'plain': {**SIZES, 'embedding_dim': 13, 'num_embeddings': 7},
  'norms': {
    **SIZES, 'embedding_dim': 10, 'num_embeddings': 5, 'time_embed_dim': 17,
    'embedding_proj_dim': 11, 'clip_embed_dim': 10, 'norm_in_type': 'layer',
    'embedding_proj_norm_type': 'layer',
  },
}  # fmt: skip
TIMES = np.asarray([3.0, 500.0, 998.0], np.float32)


def make(cls, settings, folder):
  torch.manual_seed(0)
  model = harness.randomise(cls(**settings))
  return model, harness.load_saved(model, folder)


@pytest.fixture(scope='module', params=ROWS)
def pair(request, tmp_path_factory):
  cls, settings, size = ROWS[request.param]
  folder = tmp_path_factory.mktemp(request.param)
  return *make(cls, settings, folder), size


def inputs(model, size):
  """Latents, and the conditions by their names here."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  config = model.config
  latents = draw(3, *size, config.in_channels)
  if isinstance(model, diffusers.DiTTransformer2DModel):
    return latents, {'label': np.asarray([0, 4, config.num_embeds_ada_norm])}
  if isinstance(model, diffusers.SD3Transformer2DModel):
    return latents, {
      'text': draw(3, 5, config.joint_attention_dim),
      'text_pooled': draw(3, config.pooled_projection_dim),
    }
  width = config.caption_channels or config.cross_attention_dim
  mask = np.arange(5)[None] < [[5], [3], [1]]
  conditions = {'text': draw(3, 5, width), 'text_mask': mask}
  if config.use_additional_conditions:
    sizes = np.asarray([[64, 80], [100, 50], [30, 30]], np.float32)
    conditions['image_size'] = sizes
  return latents, conditions


def call(model, latents, conditions):
  """What diffusers computes, as [B, H, W, O]."""
  named = {name: torch.tensor(value) for name, value in conditions.items()}
  given = {'timestep': torch.tensor(TIMES)}
  if 'label' in named:
    given['class_labels'] = named['label']
  else:
    given['encoder_hidden_states'] = named['text']
  if 'text_pooled' in named:
    given['pooled_projections'] = named['text_pooled']
  if 'text_mask' in named:
    given['encoder_attention_mask'] = named['text_mask'].float()
  if 'image_size' in named:
    sizes = named['image_size']
    given['added_cond_kwargs'] = {
      'resolution': sizes,
      'aspect_ratio': sizes[:, :1] / sizes[:, 1:],
    }
  out = model(torch.tensor(latents).movedim(-1, 1), **given)
  return out.sample.movedim(1, -1)


def test_outputs_agree(pair):
  model, loaded, size = pair
  latents, conditions = inputs(model, size)
  with torch.no_grad():
    want = call(model, latents, conditions).numpy()
  got = loaded.predict(latents, TIMES, **conditions)
  harness.check_close(got, want)
  drawn = jax.eval_shape(
    functools.partial(
      loaded.module.apply, {'params': loaded.params}, method='denoise'
    ),
    *jax.tree.map(jnp.asarray, (latents, TIMES, conditions)),
  )
  assert drawn.shape == latents.shape


def test_gradients_agree(pair):
  model, loaded, size = pair
  latents, conditions = inputs(model, size)
  given = jax.tree.map(jnp.asarray, (latents, TIMES / 1000, conditions))

  def loss(params):
    out = loaded.module.apply({'params': params}, *given, method='predict')
    return jnp.mean(out**2)

  harness.check_gradients(
    model, loaded, lambda m: (call(m, latents, conditions) ** 2).mean(), loss
  )


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair[:2], tmp_path)
  assert not list(tmp_path.glob('model*'))


@pytest.fixture(scope='module', params=PRIORS)
def prior(request, tmp_path_factory):
  settings = PRIORS[request.param]
  folder = tmp_path_factory.mktemp(request.param)
  return make(diffusers.PriorTransformer, settings, folder)


def prior_inputs(config):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  length, width = config.num_embeddings, config.embedding_dim
  return {
    'noisy': draw(3, width),
    'tokens': draw(3, length, width),
    'mask': np.arange(length)[None] < [[length], [3], [1]],
    'text': draw(3, config.embedding_proj_dim or width),
  }


def call_prior(model, given):
  named = {name: torch.tensor(value) for name, value in given.items()}
  return model(
    named['noisy'],
    torch.tensor(TIMES),
    named['text'],
    named['tokens'],
    named['mask'],
  ).predicted_image_embedding


def test_priors_agree_in_outputs_and_gradients(prior):
  model, loaded = prior
  given = prior_inputs(model.config)
  with torch.no_grad():
    want = call_prior(model, given).numpy()
  got = loaded.predict(timesteps=TIMES, **given)
  harness.check_close(got, want)
  scaled = loaded.module.apply(
    {'params': loaded.params}, jnp.asarray(want), method='denormalise'
  )
  theirs = model.post_process_latents(torch.tensor(want)).detach().numpy()
  harness.check_close(scaled, theirs)
  batch = {
    'noisy': given['noisy'], 'times': TIMES / 1000, 'tokens': given['tokens'],
    'tokens_mask': given['mask'], 'text_embedding': given['text'],
  }  # fmt: skip
  batch = jax.tree.map(jnp.asarray, batch)

  def loss(params):
    return jnp.mean(loaded.module.apply({'params': params}, batch) ** 2)

  harness.check_gradients(
    model, loaded, lambda m: (call_prior(m, given) ** 2).mean(), loss
  )


def test_a_saved_prior_loads_there(prior, tmp_path):
  harness.check_saved(*prior, tmp_path)


@pytest.mark.parametrize('name', test_diffusion.PUBLISHED)
def test_shapes_are_those_of_diffusers(name):
  """Also of a config that says nothing: the defaults are the same."""
  config, number = test_diffusion.PUBLISHED[name]
  cls = getattr(diffusers, config['_class_name'])
  family = families.find(config)
  fields = set(inspect.signature(cls.__init__).parameters) - {'self'}
  assert fields <= family.sections[''].known_keys()
  with torch.device('meta'):
    model = cls(**{k: v for k, v in config.items() if k != '_class_name'})
  want = {key: tuple(x.shape) for key, x in model.state_dict().items()}
  module = family.build_module(config, jnp.float32)
  shapes = checkpoint.shapes(module, family.inputs(config))
  leaves, got = tree_paths.flatten(shapes), {}
  for rule in family.rules(config):
    shape, names = keys.layers(rule, leaves[rule.ours].shape)
    got |= dict.fromkeys(names, tuple(rule.form.theirs(shape)))
  assert got == want
  assert number == sum(math.prod(shape) for shape in want.values())
