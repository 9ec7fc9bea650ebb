"""A small model of each kind, and a batch for all of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models

TEXT = {'name': 'transformer', 'width': 8, 'depth': 1, 'num_heads': 2}
TEXT = {**TEXT, 'mlp_dim': 7}
IMAGE = {'name': 'vit', 'patch_size': 2, 'width': 8, 'depth': 1}
IMAGE = {**IMAGE, 'num_heads': 2, 'mlp_dim': 7}
CONFIGS = {
  'dual_encoder': {
    'name': 'dual_encoder',
    'embed_dim': 5,
    'logit_scale_init': 10.0,
    'logit_bias_init': -10.0,
    'image': IMAGE,
    'text': TEXT,
  },
  'encoder_decoder': {
    'name': 'encoder_decoder',
    'image': IMAGE,
    'question': TEXT,
    'fusion': {
      'name': 'cross_attention',
      'query': 'question',
      'width': 8,
      'depth': 1,
      'num_heads': 2,
      'mlp_dim': 7,
    },
    'decoder': {**TEXT, 'name': 'text'},
  },
  'contrastive_captioner': {
    'name': 'contrastive_captioner',
    'embed_dim': 5,
    'image': IMAGE,
    'decoder': {**TEXT, 'name': 'text', 'unimodal_depth': 1},
  },
  'image_first': {
    'name': 'image_first',
    'vision': IMAGE,
    'projector': {'name': 'mlp', 'width': 8, 'mlp_dim': 7},
    'prefix_lm': True,
    'decoder': {
      **TEXT,
      'name': 'text',
      'cross_attention': False,
      'positions': 'none',
      'block': {'rope_theta': 1e4},
    },
  },
}


@pytest.fixture(scope='session')
def config():
  return lambda name: dict(CONFIGS[name])


@pytest.fixture(scope='session')
def build():
  sizes = {
    'vocab_size': 11,
    'text_length': 5,
    'question_length': 3,
    'answer_length': 4,
    'num_answers': 6,
  }
  return lambda config, dtype=jnp.float32, **more: models.build(
    config, models.DataSizes(**{**sizes, **more}), dtype=dtype
  )


@pytest.fixture(scope='session')
def batch():
  """Three examples; the third has neither image nor caption."""
  rng = np.random.default_rng(0)
  ids = jnp.asarray([[1, 5, 7, 3, 2], [1, 4, 2, 0, 0], [0, 0, 0, 0, 0]])
  return {
    'image': jnp.asarray(rng.normal(size=(3, 4, 4, 3)), jnp.float32),
    'image_mask': jnp.asarray([True, True, False]),
    'text': ids,
    'text_mask': ids > 0,
    'question': jnp.asarray([[1, 6, 2], [1, 2, 0], [1, 9, 2]]),
    'question_mask': jnp.asarray([[1, 1, 1], [1, 1, 0], [1, 1, 1]], bool),
    'answer': jnp.asarray([[1, 3, 8, 2], [1, 3, 2, 0], [1, 8, 2, 0]]),
    'answer_mask': jnp.asarray(
      [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]], bool
    ),
    'label': jnp.asarray([4, 0, 5]),
  }


@pytest.fixture(scope='session')
def made(build, config, batch, draw):
  """By name: a model and its variables."""
  return {
    name: (
      build(config(name)),
      draw(build(config(name)), batch, train=False),
    )
    for name in CONFIGS
  }
