"""A language model with images that embeds, as a whole and by tokens."""

import functools
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from mmjax import decoders, encoders, models, objectives
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.models import from_config
from mmjax.training import state as state_lib
from mmjax.training import step

close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
EMBEDDED = ('image', 'text', 'negatives')


def _build(pooling):
  return models.VisionLanguageEmbedder(
    vision=encoders.ViT(patch_size=4, width=6, depth=1, num_heads=2, mlp_dim=7),
    projector=mnn.Linear(8),
    decoder=decoders.TextDecoder(
      23, 8, depth=2, num_heads=2, mlp_dim=11, max_length=16, tied=False,
      cross_attention=False, positions='none', block={'rope_theta': 1e4},
    ),
    placeholders=(22,),
    pooling=pooling,
    embed_dim=5,
    embedded=EMBEDDED,
  )  # fmt: skip


def _make_batch(size=4):
  rng = np.random.default_rng(0)
  lengths = rng.integers(2, 7, size)
  text = rng.integers(3, 20, (size, 7)).astype(np.int32)
  mask = np.arange(7) < lengths[:, None]
  arrays = {
    'image': rng.normal(size=(size, 8, 8, 3)).astype(np.float32),
    'image_mask': np.ones(size, bool),
    'text': text,
    'text_mask': mask,
    'negatives': rng.integers(3, 20, (size, 3, 5)).astype(np.int32),
    'negatives_mask': np.ones((size, 3, 5), bool),
  }
  return jax.tree.map(jnp.asarray, arrays)


@pytest.mark.parametrize('pooling', ['last', 'tokens'])
def test_all_kinds_of_fields_are_embedded(pooling, draw):
  module, batch = _build(pooling), _make_batch()
  params = draw(module, batch, train=False)['params']
  assert 'head' in params['decoder']  # As published models have it.
  out = module.apply({'params': params}, batch, train=False)
  embed = functools.partial(module.apply, {'params': params}, method='embed')
  for name in EMBEDDED:
    vectors = out[f'{name}_embedding']
    close(embed(batch, name), vectors)
    norms = np.linalg.norm(vectors, axis=-1)
    exists = np.ones(norms.shape, bool)
    if pooling == 'tokens' and name != 'image':
      exists = batch[f'{name}_mask']
    close(norms, exists)
  # Neither other texts nor padding change a vector.
  alone = {name: x[1:2] for name, x in batch.items()}
  count = int(batch['text_mask'][1].sum())
  cut = {key: alone[key][:, :count] for key in ('text', 'text_mask')}
  want = out['text_embedding'][1]
  close(embed(cut, 'text')[0], want[:count] if pooling == 'tokens' else want)
  close(
    embed({'text': batch['negatives'][:, 1]}, 'text'),
    out['negatives_embedding'][:, 1],
  )
  # An image is as one among words before which and after which none stand.
  only = {'text': jnp.full((4, 4), 22), 'image': batch['image'][:, None]}
  project = lambda m: m.projection(m.transform(only, train=False)[0])
  want = module.apply({'params': params}, method=project)  # [B, N, E]
  want = want if pooling == 'tokens' else want[:, -1]
  close(out['image_embedding'], want)


def test_a_config_builds_it_without_a_token_that_starts_a_text():
  stack = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 11}
  config = ml_collections.ConfigDict({
    'model': {
      'name': 'embedder',
      'vision': {'name': 'vit', 'patch_size': 4, **stack},
      'decoder': {'name': 'text', 'cross_attention': False, **stack},
    },
    'data': {
      'text_length': 7, 'question_length': 7, 'answer_length': 7,
      'tokenizer': 'any.json',
    },
    'train': {'dtype': 'float32'},
  })  # fmt: skip
  words = types.SimpleNamespace(vocab_size=23, bos_id=None, eos_id=2, pad_id=0)
  preprocessor = types.SimpleNamespace(features={}, tokenizer=words)
  outputs = models.OutputSpec(embedded=('image',))
  module = from_config.build(config, preprocessor, outputs)
  assert module.embedded == ('image',)
  config.model.name = 'image_first'
  with pytest.raises(ConfigError, match='no token that starts a text'):
    from_config.build(config, preprocessor, outputs)


@pytest.mark.parametrize('part', ['image_codes', 'autoencoder'])
def test_parts_that_write_images_are_refused(part):
  module = _build('last').clone(**{part: mnn.Linear(8)})
  with pytest.raises(ConfigError, match=f'model.{part} is not for embedding'):
    module.init(jax.random.key(0), {}, train=False)


@pytest.mark.parametrize(
  ('pooling', 'score'), [('last', 'cosine'), ('tokens', 'maxsim')]
)
def test_cached_gradients_are_those_of_the_whole_batch(pooling, score, draw):
  module, batch = _build(pooling), _make_batch()
  params = draw(module, batch, train=False)['params']
  objective = objectives.Ranking(('image', 'text'), 'negatives', score)
  tx = optax.sgd(1.0)
  moved = []
  for accumulate in (1, 2):
    update = step.make_update(
      module,
      {'r': (1.0, objective)},
      tx,
      lr=lambda _: jnp.ones(()),
      trained=jax.tree.map(lambda _: True, params),
      accumulate=accumulate,
    )
    state = state_lib.State(
      jnp.int32(0), jnp.uint32(0), params, tx.init(params), None
    )
    new, metrics = jax.jit(update)(state, batch)
    moved.append((new.params, metrics['loss']))
  (first, loss), (second, again) = moved
  close(again, loss)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
    a, b, rtol=1e-4, atol=1e-5
  ), first, second)  # fmt: skip
  change = jax.tree.map(lambda a, b: np.abs(a - b).max(), first, params)
  for part in ('vision', 'projector', 'projection'):
    assert max(jax.tree.leaves(change[part])) > 0
