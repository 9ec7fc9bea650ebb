"""Hidden words and patches are predicted from the rest."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders, fusion, objectives, ops
from mmjax.data import features as features_lib
from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.models import masking, multimodal, predict
from mmjax.objectives import masked
from mmjax.tasks import masked as task_lib

SPECIALS, VOCABULARY = (0, 1, 2), 31
TRANSFORMER = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 16}
DECODER = {'width': 8, 'depth': 1, 'num_heads': 2}
WORDS = objectives.MaskedTokens('text', 0.4, SPECIALS, VOCABULARY)
PATCHES = objectives.MaskedPatches('image', 0.75)
RNG = jax.random.key(5)


def make_texts(lengths, width=11):
  """Texts <bos> words <eos> <pad> of so many words; -1 for none."""
  lengths = np.array(lengths)[:, None]
  place = np.arange(width)[None]
  words = np.random.default_rng(0).integers(
    3, VOCABULARY, (len(lengths), width)
  )
  ids = np.where(place == 0, 1, np.where(place <= lengths, words, 2))
  mask = place < lengths + 2
  mask &= lengths >= 0
  return {
    'text': jnp.array(np.where(mask, ids, 0), jnp.int32),
    'text_mask': jnp.array(mask),
  }


def make_batch():
  image = jax.random.normal(RNG, (3, 12, 8, 3))
  present = jnp.array([True, True, False])
  texts = make_texts([7, 0, 4])
  return {**texts, 'image': image, 'image_mask': present}


def make_model(dtype=jnp.float32, **changes):
  settings = {
    'encoders': {
      'image': encoders.ViT(
        patch_size=4,
        position_grid=(3, 2),
        class_token=True,
        **TRANSFORMER,
        dtype=dtype,
      ),
      'text': encoders.Transformer(
        VOCABULARY, max_length=11, pooling='mean', **TRANSFORMER, dtype=dtype
      ),
    },
    'fusion': fusion.Concat(**TRANSFORMER, dtype=dtype),
    'masked_heads': {'image': DECODER, 'text': {}},
    'dtype': dtype,
  }
  return multimodal.Multimodal(**{**settings, **changes})


@pytest.fixture(scope='module')
def model():
  """A model, its parameters, and a jitted `apply` by method."""
  module = make_model()
  init = jax.jit(lambda batch: module.init(RNG, batch, train=False))
  params = jax.tree.map(
    lambda leaf: leaf.unbox() if hasattr(leaf, 'unbox') else leaf,
    init(make_batch())['params'],
    is_leaf=lambda leaf: hasattr(leaf, 'unbox'),
  )
  return module, params


def test_neither_padding_nor_specials_are_chosen():
  batch = make_texts([9, 5, 1, 0, -1])
  seen = np.zeros(batch['text'].shape, bool)
  for seed in range(30):
    positions, chosen = WORDS.choose(batch, jax.random.key(seed), jnp.arange(5))
    hidden = np.asarray(WORDS.hide(batch['text'], positions, chosen))
    np.testing.assert_array_equal(hidden.sum(axis=1), [4, 2, 1, 0, 0])
    seen |= hidden
  words = np.arange(11)[None] - 1
  lengths = np.array([[9], [5], [1], [0], [0]])
  np.testing.assert_array_equal(seen, (words >= 0) & (words < lengths))
  assert WORDS.count(batch) == 7
  assert WORDS.count({**batch, 'mask': jnp.arange(5) > 0}) == 3


def test_tokens_are_hidden_replaced_or_kept_in_berts_fractions():
  ids = jnp.full((400, 11), 3, jnp.int32)
  positions = jnp.broadcast_to(jnp.array([[2, 9, 4]]), (400, 3))
  chosen = jnp.broadcast_to(jnp.array([[True, True, False]]), (400, 3))
  found, hidden = WORDS.corrupt(ids, positions, chosen, RNG)
  changed = np.asarray(found != ids)
  others = np.setdiff1d(np.arange(11), [2, 9])
  assert not changed[:, others].any() and not hidden[:, others].any()
  assert not (changed & np.asarray(hidden)).any()
  deviation = 3 * np.sqrt(0.8 * 0.2 / 800)
  assert abs(float(hidden[:, [2, 9]].mean()) - 0.8) < deviation
  likely = 0.1 * (1 - 1 / VOCABULARY)  # A random token may be the same.
  assert abs(changed[:, [2, 9]].mean() - likely) < deviation


def test_the_loss_is_that_of_chosen_words():
  batch = make_texts([5, -1])

  def apply(corrupted, field, positions, hidden, *, train, rngs, method):
    """Knows all words but the absent text's."""
    assert (field, train, method) == ('text', True, 'fill')
    assert hidden.sum() <= 2
    own = jnp.take_along_axis(batch['text'], positions, axis=1)
    logits = 4.0 * jax.nn.one_hot(own, VOCABULARY)
    return logits.at[1].set(jnp.nan)

  loss, metrics = WORDS({}, batch, apply=apply, rng=RNG)
  right = np.log(1 + (VOCABULARY - 1) * np.exp(-4))
  np.testing.assert_allclose(loss, right, rtol=1e-5)
  assert metrics['accuracy'] == 1
  none = make_texts([0, -1])
  loss, metrics = WORDS({}, none, apply=apply, rng=RNG)
  assert (loss, metrics['accuracy'], WORDS.count(none)) == (0, 0, 0)


def test_patches_come_back_in_their_order():
  order = jnp.array([[2, 0, 1, 3], [3, 1, 0, 2]])
  patches = jnp.arange(8.0).reshape(2, 4, 1)
  shuffled = jnp.take_along_axis(patches, order[:, :, None], axis=1)
  token = jnp.array([-1.0])
  whole = masking.restore_order(shuffled, order, token)
  np.testing.assert_array_equal(whole, patches)
  part = masking.restore_order(shuffled[:, :2], order, token)[..., 0]
  np.testing.assert_array_equal(part, [[0, -1, 2, -1], [-1, 5, -1, 7]])


def test_a_fraction_of_the_patches_that_are_not_padding_is_hidden():
  scores = jnp.array([[0.4, 0.1, 0.9, 0.3, 0.5]])
  real = jnp.arange(5)[None] < jnp.array([[3], [5], [1], [0]])
  order, hidden = masking.order_patches(
    jnp.broadcast_to(scores, (4, 5)), real, 0.6
  )
  expected = [[1, 3, 4, 0, 2], [1, 3, 0, 4, 2], [1, 2, 3, 4, 0]]
  np.testing.assert_array_equal(order[:3], expected)
  np.testing.assert_array_equal(
    hidden,
    jnp.array([[1, 0, 1, 0, 0], [1, 0, 1, 0, 1], [1] + [0] * 4, [0] * 5]),
  )


@pytest.mark.parametrize('padding', [None, 0.0])
def test_padding_of_a_sound_is_not_predicted(padding):
  sound = encoders.FromSamples(
    encoders.SpectrogramTransformer(
      patch_size=2, strides=(2, 2), num_bands=4, **TRANSFORMER
    ),
    kind='log_mel',
    sample_rate=100,
    num_mels=4,
    n_fft=10,
    hop=5,
    padding=padding,
  )
  module = multimodal.Multimodal(
    {'sound': sound}, masked_heads={'sound': DECODER}
  )
  # 16 frames, 8 columns of 2 rows of patches; they end in columns 8 and 3.
  batch = {
    'sound': jax.random.normal(RNG, (2, 80)),
    'sound_mask': jnp.arange(80)[None] < jnp.array([[80], [26]]),
  }

  @jax.jit
  def reconstruct(batch):
    params = module.init(RNG, batch, train=False)
    arguments = batch, 'sound', RNG, jnp.arange(2), 0.8
    return module.apply(params, *arguments, method='reconstruct')

  found = reconstruct(batch)
  hidden = found.hidden.reshape(2, 2, 8)  # [B, rows of bands, columns, ...]
  np.testing.assert_array_equal(hidden.sum(axis=(1, 2)), [13, 5])
  assert not hidden[1, :, 3:].any()
  assert found.grid == (2, 8)


def test_the_error_is_that_of_hidden_patches():
  target = jax.random.normal(RNG, (2, 3, 4)).at[1].set(jnp.nan)
  hidden = jnp.array([[True, False, True]] * 2)
  normal = masked.normalise_patches(target)[0]
  predicted = normal + jnp.array([1.0, 9.0, 2.0])[None, :, None]
  mask = jnp.array([True, False])
  errors = masked.patch_errors(predicted, target, hidden, mask)
  np.testing.assert_allclose(errors, [2.5, 0], rtol=1e-5)
  zeros = masked.patch_errors(0 * predicted, target, hidden, mask)
  np.testing.assert_allclose(zeros[0], 1, rtol=1e-4)
  # With a large epsilon, patches that vary less count less.
  variance = target[0].var(axis=-1)[jnp.array([0, 2])]
  expected = (variance / (variance + 0.5)).mean()
  zeros = masked.patch_errors(0 * predicted, target, hidden, mask, epsilon=0.5)
  np.testing.assert_allclose(zeros[0], expected, rtol=1e-4)


def test_hidden_values_change_no_prediction(model):
  module, params = model
  batch = make_batch()
  positions = jnp.broadcast_to(jnp.arange(11)[None], (3, 11))
  hidden = jnp.zeros((3, 11), bool).at[0, jnp.array([2, 5])].set(True)
  fill = jax.jit(
    lambda b: module.apply(
      {'params': params}, b, 'text', positions, hidden, method='fill'
    )
  )
  spoilt = {**batch, 'text': jnp.where(hidden, 9, batch['text'])}
  logits = fill(batch)
  assert logits.shape == (3, 11, VOCABULARY)
  np.testing.assert_array_equal(logits, fill(spoilt))
  # Words are predicted from the image as well.
  other = {**batch, 'image': batch['image'] + 1}
  assert not jnp.allclose(logits[0], fill(other)[0])
  np.testing.assert_array_equal(logits[2], fill(other)[2])  # It is absent.

  rebuild = jax.jit(
    lambda b: module.apply(
      {'params': params},
      b,
      'image',
      RNG,
      jnp.arange(3),
      0.75,
      method='reconstruct',
    )
  )
  found = rebuild(batch)
  np.testing.assert_array_equal(found.hidden.sum(axis=1), [4] * 3)  # Of 6.
  patches = found.target.at[0].set(
    jnp.where(found.hidden[0, :, None], 7.0, found.target[0])
  )
  images = ops.join_patches(patches, (3, 2), 3)
  changed = rebuild({**batch, 'image': images}).predicted
  np.testing.assert_array_equal(found.predicted, changed)


def make_losses(module):
  """A function to the sum of both losses, and each."""

  def losses(params, batch):
    apply = lambda *args, **more: module.apply(
      {'params': params}, *args, **more
    )
    found = [
      objective({}, batch, apply=apply, rng=RNG)[0]
      for objective in (WORDS, PATCHES)
    ]
    return sum(found), found

  return losses


def test_a_gradient_reaches_every_parameter(model):
  module, params = model
  losses_of = make_losses(module)
  compiled = jax.jit(jax.grad(losses_of, has_aux=True))
  grads, losses = compiled(params, make_batch())
  assert np.isfinite(losses).all()
  for path, leaf in jax.tree.leaves_with_path(grads):
    assert jnp.isfinite(leaf).all() and leaf.any(), path
  _, eager = losses_of(params, make_batch())
  np.testing.assert_allclose(losses, eager, rtol=1e-5)
  absent = make_texts([-1] * 3) | {
    'image': make_batch()['image'] * jnp.nan,
    'image_mask': jnp.zeros(3, bool),
  }
  grads, losses = compiled(params, absent)
  np.testing.assert_array_equal(losses, [0, 0])
  assert not any(leaf.any() for leaf in jax.tree.leaves(grads))


def test_losses_are_float32_in_bfloat16(model):
  _, params = model
  _, losses = jax.eval_shape(
    make_losses(make_model(jnp.bfloat16)), params, make_batch()
  )
  assert {loss.dtype for loss in losses} == {jnp.dtype('float32')}


def test_a_published_mask_token_is_used(model):
  module, params = model
  heads = {'image': DECODER, 'text': {'mask_id': 7}}
  params = dict(params)
  vector = params['mask_heads_text'].pop('mask_vector')
  table = params['encoders_text']['words']['table']['embedding']
  batch = {
    **make_batch(),
    'text_gaps': jnp.zeros((3, 11), bool).at[0, 3].set(True),
  }
  found = predict.make_fill(make_model(masked_heads=heads), feature='text')(
    params, batch
  )
  params['mask_heads_text']['mask_vector'] = table[7]
  learned = predict.make_fill(module, feature='text')(params, batch)
  np.testing.assert_allclose(found, learned, rtol=1e-5)
  params['mask_heads_text']['mask_vector'] = vector


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'fusion': fusion.Gated(width=8)}, 'Gated, does not mix the tokens'),
    ({'masked_heads': {'sound': {}}}, "feature='sound' is read by no encoder"),
    (
      {
        'encoders': {
          'text': encoders.Transformer(
            VOCABULARY, max_length=11, causal=True, **TRANSFORMER
          )
        },
        'masked_heads': {'text': {}},
      },
      'text.causal=True lets a token',
    ),
    (
      {'encoders': {'image': encoders.ResNet()}, 'masked_heads': {'image': {}}},
      'image is ResNet, of which tasks.masked can hide nothing',
    ),
    (
      {
        'encoders': {'image': encoders.SpectrogramTransformer(**TRANSFORMER)},
        'masked_heads': {'image': {}},
      },
      r'needs strides=\(16, 16\)',
    ),
  ],
)
def test_models_that_cannot_do_without_a_part_are_refused(changes, message):
  built = make_model(**changes)
  with pytest.raises(ConfigError, match=message):
    masking.check(built, built.masked_heads)


def test_the_loss_is_of_the_kind_of_the_field():
  text = features_lib.Text(
    name='text', length=9, tokenizer=tokenizers.make_byte_tokenizer()
  )
  image = features_lib.Image(name='image')
  kinds = {'text': text, 'image': image}
  make = lambda **more: task_lib.Masked(**more).objective(kinds)
  words = objectives.MaskedTokens('text', 0.15, (0, 1, 2), 260)
  assert make(feature='text') == words
  assert make(feature='image') == objectives.MaskedPatches('image', 0.75, 1e-6)
  patches = objectives.MaskedPatches('image', 0.5, 0.1)
  assert make(feature='image', fraction=0.5, epsilon=0.1) == patches
  kinds['text'] = dataclasses.replace(text, length=2)
  with pytest.raises(ConfigError, match='no room for a word beside 2 special'):
    make(feature='text')
  with pytest.raises(ConfigError, match='names no feature to hide'):
    task_lib.Masked().check()
  with pytest.raises(ConfigError, match='decoder_width=10 must be divisible'):
    task_lib.Masked(feature='image', decoder_width=10).check()
