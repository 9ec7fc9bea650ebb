"""Where a model fuses, absent modalities, and decisions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders, fusion, models
from mmjax.models import fusing
from mmjax.types import TokenVectors

BLOCKS = {'width': 8, 'depth': 2, 'num_heads': 2, 'mlp_dim': 7}
# Other programs for the same sums, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def make_model(name='sum', **more):
  settings = {} if name in fusion.DECISION_FUSIONS else {'width': 6}
  return models.Multimodal(
    encoders={
      'image': encoders.ViT(patch_size=2, **BLOCKS),
      'words': encoders.Transformer(vocab_size=11, max_length=5, **BLOCKS),
    },
    fusion=fusion.FUSIONS[name](**settings),
    output_sizes={'kind': 3},
    **more,
  )


def make_batch(spoilt=False):
  """Three examples; the second has no image, the third no words."""
  rng = np.random.default_rng(0)
  image = rng.normal(size=(3, 4, 4, 3)).astype(np.float32)
  has_image = np.asarray([True, False, True])
  if spoilt:
    image[1] = np.nan
  words = np.asarray([[1, 5, 7, 3, 2], [1, 4, 2, 0, 0], [0, 9, 0, 0, 0]])
  mask = np.asarray([[1] * 5, [1, 1, 1, 0, 0], [0] * 5], bool)
  if spoilt:
    words[2] = 6
  return jax.tree.map(
    jnp.asarray,
    {
      'image': image,
      'image_mask': has_image,
      'words': words,
      'words_mask': mask,
    },
  )


def test_depths_are_sorted_and_refused():
  assert fusing.parse_depths('input') == (0,)
  assert fusing.parse_depths(['output', 3, 1]) == (1, 3, 'output')
  for wrong in ('middle', -1, True, 1.5, (0, 'later')):
    with pytest.raises(ValueError, match='is not legal; use'):
      fusing.parse_depths(wrong)
  for wrong in ((), ('input', 0)):
    with pytest.raises(ValueError, match='at least one depth, and none twice'):
      fusing.parse_depths(wrong)


ENCODERS = {
  'scanned': lambda: encoders.ViT(patch_size=2, **BLOCKS),
  'unrolled': lambda: encoders.ViT(patch_size=2, scan=False, **BLOCKS),
  'convolutions': lambda: encoders.VGG((1, 1), width=8, norm='none'),
  'series': lambda: encoders.PatchedSeries(patch_size=2, stride=2, **BLOCKS),
  'sound': lambda: encoders.FromSamples(
    encoders.AudioTransformer(**BLOCKS), num_mels=8, n_fft=32, hop=16
  ),
  'recurrent': lambda: encoders.RecurrentSeries(8, 2, bidirectional=True),
}


class Summary(nn.Module):
  """An encoder without blocks."""

  def __call__(self, inputs, mask, *, train):
    return TokenVectors.of(inputs[:, :, None].astype(jnp.float32), mask)


class Holder(models.Multimodal):
  """Has an encoder, as models have."""

  def __call__(self, inputs, mask, depths):
    found = fusing.encode_at(
      self.encoders['one'], 'one', depths, inputs, mask, train=False
    )
    return {str(depth): tokens for depth, tokens in found.items()}


@pytest.mark.parametrize('name', ENCODERS)
def test_hidden_tokens_are_those_between_blocks(name, draw):
  shapes = {'series': (2, 8, 3), 'sound': (2, 256), 'recurrent': (2, 5, 3)}
  shape = shapes.get(name, (2, 4, 4, 3))
  rng = np.random.default_rng(0)
  inputs = jnp.asarray(rng.normal(size=shape), jnp.float32)
  mask = jnp.ones(shape[:2] if name in shapes else shape[:1], bool)
  module = Holder({'one': ENCODERS[name]()})
  variables = draw(module, inputs, mask, ('output',))
  kept, sown = module.apply(
    variables, inputs, mask, (0, 1, 2, 'output'), mutable='intermediates'
  )
  plain = module.apply(variables, inputs, mask, ('output',))
  assert list(plain) == ['output']
  close(kept['output'].values, plain['output'].values)
  leaves = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(sown['intermediates'])
  }
  outputs = [v for k, v in leaves.items() if k.endswith("['output'][0]")]
  if name in ('scanned', 'series', 'sound'):  # [L, ...]
    outputs = list(outputs[0])
  for depth, expected in enumerate(outputs, start=1):
    tokens = kept[str(depth)]
    assert tokens.values.shape[:2] == tokens.mask.shape
    np.testing.assert_array_equal(
      tokens.values.ravel(), np.ravel(expected), err_msg=str(depth)
    )
    close(tokens.pooled, np.mean(tokens.values, axis=1))
  inputs_of = [v for k, v in leaves.items() if k.endswith("['input'][0]")]
  if name in ('scanned', 'series', 'sound'):
    inputs_of = list(inputs_of[0])
  if inputs_of:
    np.testing.assert_array_equal(
      kept['0'].values.ravel(), np.ravel(inputs_of[0])
    )
  assert not np.allclose(
    np.mean(kept['0'].values), np.mean(kept['1'].values), atol=1e-6
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'fuse_at, name',
  [
    ('output', 'sum'),
    ('input', 'concat'),
    (1, 'max'),
    ((0, 1, 'output'), 'sum'),
    ('output', 'mean_decision'),
    ('output', 'stacking'),
  ],
)
def test_every_depth_trains_and_absent_values_change_nothing(
  fuse_at, name, draw
):
  module = make_model(name, fuse_at=fuse_at)
  params = draw(module, make_batch(), train=False)['params']

  @jax.jit
  def run(params, batch):
    def loss(params):
      out = module.apply({'params': params}, batch, train=True)
      return jnp.sum(out['kind_output'] ** 3), out['kind_output']

    return jax.grad(loss, has_aux=True)(params)

  gradient, out = run(params, make_batch())
  spoilt_gradient, spoilt = run(params, make_batch(spoilt=True))
  np.testing.assert_array_equal(out, spoilt)
  jax.tree.map(np.testing.assert_array_equal, gradient, spoilt_gradient)
  heads = {key for key in params if key.startswith('heads_')}
  if name in fusion.DECISION_FUSIONS:
    assert heads == {'heads_kind_image', 'heads_kind_words'}
  else:
    assert heads == {'heads_kind'}
  later = {key for key in params if key.startswith('later_fusions')}
  depths = fusing.parse_depths(fuse_at)
  assert len(later) == len(depths) - 1
  for key in (*heads, *later, *({'fusion'} & set(params))):
    for path, leaf in jax.tree.leaves_with_path(gradient[key]):
      assert np.any(leaf != 0), (key, jax.tree_util.keystr(path))
  # Blocks behind the last depth have no say.
  behind = gradient['encoders_image']['blocks']['layers']['mlp']['down'][
    'kernel'
  ]
  reached = [bool(np.any(layer != 0)) for layer in behind]
  last = 2 if depths[-1] == 'output' else depths[-1]
  assert reached == [i < last for i in range(2)]


def test_decisions_are_of_each_encoder_alone(draw):
  module = make_model('product_of_experts')
  batch = make_batch()
  variables = draw(module, batch, train=False)
  out = module.apply(variables, batch, train=False)['kind_output']
  tokens = module.apply(variables, batch, method='encode')
  logits = {
    name: t.pooled @ variables['params'][f'heads_kind_{name}']['kernel']
    + variables['params'][f'heads_kind_{name}']['bias'][None]
    for name, t in tokens.items()
  }
  scores = {k: jax.nn.log_softmax(v) for k, v in logits.items()}
  close(out[0], jax.nn.log_softmax(scores['image'][0] + scores['words'][0]))
  close(out[1], scores['words'][1])
  close(out[2], scores['image'][2])


def test_each_target_has_a_decision_of_its_own():
  module = make_model('stacking').clone(output_sizes={'kind': 3, 'size': 2})
  out, variables = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0), make_batch(), train=False
    )
  )
  assert (out['kind_output'].shape, out['size_output'].shape) == (
    (3, 3),
    (3, 2),
  )
  assert {'fusion', 'later_decisions_size'} < set(variables['params'])


def make_pair():
  """Five hundred examples, of which the first lacks `a`."""
  present = jnp.ones((500, 1), bool).at[0].set(False)
  ones = jnp.ones((500, 1, 2))
  return {'a': TokenVectors.of(ones, present), 'b': TokenVectors.of(ones)}


def test_modality_dropout_leaves_one_modality_at_all_depths():
  module = fusing.Absence(rate=0.6)
  drop = functools.partial(
    module.apply,
    {},
    [make_pair(), make_pair()],
    rngs={'dropout': jax.random.key(0)},
  )
  first, second = (
    [np.asarray(tokens[n].mask[:, 0]) for n in 'ab']
    for tokens in drop(train=True)
  )
  np.testing.assert_array_equal(first, second)
  a, b = first
  assert np.all(a | b)
  assert not a[0] and b[0]
  # Of 0.4 * 0.4 + 0.6 * 0.6 both are kept: once by chance, once as a rescue.
  assert abs(np.mean(a[1:] & b[1:]) - 0.52) < 0.09
  for tokens in drop(train=False):
    np.testing.assert_array_equal(tokens['b'].mask, np.ones((500, 1)))


def test_a_learned_token_stands_for_an_absent_modality(draw):
  module, given = fusing.Absence(learned=True), [make_pair()]
  variables = draw(module, given, train=False)
  (out,) = module.apply(variables, given, train=False)
  assert np.all(out['a'].mask)
  learned = variables['params']['a_0']
  np.testing.assert_array_equal(out['a'].values[0, 0], learned)
  np.testing.assert_array_equal(out['a'].pooled[0], learned)
  np.testing.assert_array_equal(out['a'].pooled[1:], np.ones((499, 2)))
  np.testing.assert_array_equal(out['b'].values, np.ones((500, 1, 2)))


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'fuse_at': 3}, r'fuse_at=3 is deeper than model.encoders.image, .* 2 b'),
    ({'fuse_at': 'last'}, "fuse_at='last' is not legal"),
    (
      {'fusion': fusion.Voting(), 'fuse_at': 1},
      'Voting, decides on outputs, so model.fuse_at=1 is not legal',
    ),
    (
      {'fusion': fusion.FiLM('sound', 6)},
      "FiLM needs 'sound' and another modality, got",
    ),
    (
      {
        'fusion': None,
        'output_sizes': None,
        'embed_dim': 3,
        'modality_dropout': 0.5,
      },
      'modality_dropout=0.5 is of no use without model.fusion',
    ),
    (
      {
        'encoders': {
          'fused': encoders.ViT(patch_size=2, **BLOCKS),
        },
        'fuse_at': (1, 'output'),
      },
      'model.encoders.fused has the name of what is fused',
    ),
    (
      {
        'encoders': {
          'words': encoders.Recurrent(vocab_size=11, width=8, depth=1),
        },
        'fuse_at': 2,
      },
      'fuse_at=2 is deeper than model.encoders.words, which has 1 blocks',
    ),
    (
      {
        'encoders': {
          'image': encoders.ViT(patch_size=2, **BLOCKS),
          'words': Summary(),
        },
        'fuse_at': 1,
      },
      'model.encoders.words, Summary, has no blocks between which',
    ),
  ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
  module = make_model().clone(**settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), make_batch(), train=False)
    )


def test_unimodal_outputs_are_of_one_encoder_alone(draw):
  module = make_model(unimodal_outputs=True)
  batch = make_batch()
  variables = draw(module, batch, train=False)
  out = module.apply(variables, batch, train=False)
  assert set(out) == {
    'kind_output',
    'kind_output_of_image',
    'kind_output_of_words',
  }
  other = {**batch, 'words': (batch['words'] + 1) % 11}
  changed = module.apply(variables, other, train=False)
  close(changed['kind_output_of_image'], out['kind_output_of_image'])
  assert not np.allclose(changed['kind_output'][0], out['kind_output'][0])
  np.testing.assert_array_equal(out['kind_output_of_image'][1], np.zeros(3))
  alone = module.apply(variables, batch, 'kind', 'image', method='apply_head')
  close(alone, out['kind_output_of_image'])
