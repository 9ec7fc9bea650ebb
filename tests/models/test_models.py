"""What every model keeps to: outputs, missing modalities, gradients."""

import functools

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import tasks

NAMES = (
  'dual_encoder',
  'encoder_decoder',
  'contrastive_captioner',
  'image_first',
)
every_model = pytest.mark.parametrize('name', NAMES)
OUTPUTS = {
  'dual_encoder': {
    'image_embedding': (3, 5),
    'text_embedding': (3, 5),
    'logit_scale': (),
    'logit_bias': (),
  },
  'encoder_decoder': {
    'caption_logits': (3, 4, 11),
    'answer_token_logits': (3, 3, 11),
    'answer_logits': (3, 6),
  },
  'contrastive_captioner': {
    'image_embedding': (3, 5),
    'text_embedding': (3, 5),
    'logit_scale': (),
    'caption_logits': (3, 4, 11),
    'answer_logits': (3, 6),
  },
  'image_first': {
    'caption_logits': (3, 4, 11),
    'answer_token_logits': (3, 3, 11),
  },
}
OBJECTIVES = {
  'dual_encoder': {'contrastive': {'kind': 'sigmoid'}},
  'encoder_decoder': {
    'captioning': {},
    'vqa_generation': {},
    'vqa_classification': {},
  },
  'contrastive_captioner': {
    'contrastive': {},
    'captioning': {},
    'vqa_classification': {},
  },
  'image_first': {'captioning': {}, 'vqa_generation': {}},
}
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def run(made):
  @functools.cache
  def jitted(name):
    return jax.jit(functools.partial(made[name][0].apply, train=False))

  return lambda name, batch: jitted(name)(made[name][1], batch)


def test_logits_and_summaries_are_collected_by_name(made, batch):
  model, variables = made['encoder_decoder']
  out, sown = model.apply(
    variables, batch, train=False, mutable=['intermediates']
  )
  parts = sown['intermediates']
  caption, answer = parts['decoder']['logits']  # One each time that they are.
  np.testing.assert_array_equal(caption, out['caption_logits'])
  np.testing.assert_array_equal(answer, out['answer_token_logits'])
  (tokens,) = parts['image']['blocks']['layers']['output']
  (pooled,) = parts['image']['pooled']
  assert tokens.shape == (1, 3, 4, 8)
  assert pooled.shape == (3, 8)


@every_model
def test_outputs_have_their_shapes(name, run, batch):
  out = run(name, batch)
  assert {key: value.shape for key, value in out.items()} == OUTPUTS[name]
  for key, value in out.items():
    assert value.dtype == jnp.float32, key
    assert np.all(np.isfinite(value)), key
  for key in ('image_embedding', 'text_embedding'):
    if key in out:
      close(jnp.linalg.norm(out[key][:2], axis=1), np.ones(2))


@every_model
def test_an_example_gets_what_it_gets_alone(name, run, batch):
  alone = jax.tree.map(lambda leaf: leaf[1:2], batch)
  out, single = run(name, batch), run(name, alone)
  for key, value in out.items():
    if value.ndim:
      real = slice(None) if value.ndim < 3 else slice(2)
      close(value[1][real], single[key][0][real], err_msg=key)


@pytest.mark.parametrize(
  'name', ['encoder_decoder', 'contrastive_captioner', 'image_first']
)
def test_several_questions_an_image_are_answered_as_each_alone(
  name, run, batch
):
  about_questions = [
    key for key in batch if key.startswith(('question', 'ans'))
  ]
  other = {key: jnp.roll(batch[key], 1, axis=0) for key in about_questions}
  both = {
    key: jnp.stack([batch[key], other[key]], axis=1) for key in about_questions
  }
  out = run(name, {**batch, **both})
  for i, asked in enumerate(({}, other)):
    alone = run(name, {**batch, **asked})
    for key in ('answer_logits', 'answer_token_logits'):
      if key in alone:
        close(out[key][:, i], alone[key], err_msg=key)
  close(out['caption_logits'], run(name, batch)['caption_logits'])


@every_model
def test_absent_images_and_padding_change_nothing(name, run, batch):
  spoilt = dict(batch)
  there = batch['image_mask'][:, None, None, None]
  spoilt['image'] = jnp.where(there, batch['image'], 1e4)
  for key in ('text', 'question', 'answer'):
    spoilt[key] = jnp.where(batch[f'{key}_mask'], batch[key], 10)
  out, other = run(name, batch), run(name, spoilt)
  for key, value in out.items():
    if key in ('image_embedding', 'text_embedding'):
      close(value[:2], other[key][:2], err_msg=key)
    elif key == 'answer_logits':
      close(value, other[key], err_msg=key)
    elif key == 'caption_logits':
      mask = batch['text_mask'][:, :-1]
      close(value[mask], other[key][mask], err_msg=key)


@pytest.mark.slow
def test_a_batch_without_a_modality_gets_the_rest(run, batch):
  def without(*modalities):
    return {k: v for k, v in batch.items() if not k.startswith(modalities)}

  assert set(run('dual_encoder', without('text'))) == {
    'image_embedding',
    'logit_scale',
    'logit_bias',
  }
  blind = run('encoder_decoder', without('image'))
  assert set(blind) == {'answer_logits', 'answer_token_logits'}
  # No image at all is the same as an image that is masked out.
  full = run('encoder_decoder', batch)
  close(blind['answer_logits'][2], full['answer_logits'][2])
  assert set(run('encoder_decoder', without('question'))) == {'caption_logits'}
  blind = run('image_first', without('image'))
  assert set(blind) == {'answer_token_logits'}
  full = run('image_first', batch)
  close(blind['answer_token_logits'][2], full['answer_token_logits'][2])
  answered = run('contrastive_captioner', without('image', 'text'))
  assert set(answered) == {'answer_logits'}
  full = run('contrastive_captioner', batch)
  close(answered['answer_logits'][2], full['answer_logits'][2])
  with pytest.raises(ValueError, match='an image or a question in the batch'):
    run('contrastive_captioner', without('image', 'question'))


def test_a_blind_model_has_no_image_encoder(made, batch):
  model, _ = made['encoder_decoder']
  blind = {k: v for k, v in batch.items() if not k.startswith('image')}
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), blind, train=False)
  )
  assert 'image' not in shapes['params']
  assert 'question' in shapes['params']


@pytest.mark.slow
def test_methods_agree_with_the_whole(made, run, batch):
  for name in ('dual_encoder', 'contrastive_captioner'):
    model, variables = made[name]
    apply = jax.jit(model.apply, static_argnames='method')
    out = run(name, batch)
    image = apply(
      variables, batch['image'], batch['image_mask'], method='encode_image'
    )
    text = apply(
      variables, batch['text'], batch['text_mask'], method='encode_text'
    )
    close(image, out['image_embedding'])
    close(text, out['text_embedding'])
  for name in ('encoder_decoder', 'contrastive_captioner'):
    model, variables = made[name]
    classify = functools.partial(model.apply, method='answer_logits')
    logits = jax.jit(classify)(variables, batch)
    close(logits, run(name, batch)['answer_logits'])


@pytest.mark.slow
@every_model
def test_objectives_reach_every_parameter(name, made, batch):
  model, variables = made[name]
  losses = tasks.objectives(tasks.build(OBJECTIVES[name], tasks.TASKS))

  @jax.jit
  def gradient(params):
    def loss(params):
      out = model.apply({'params': params}, batch, train=False)
      return sum(
        weight * objective(out, batch, apply=dict, rng=jax.random.key(0))[0]
        for weight, objective in losses.values()
      )

    return jax.grad(loss)(params)

  for path, leaf in jax.tree.leaves_with_path(gradient(variables['params'])):
    where = jax.tree_util.keystr(path)
    assert np.all(np.isfinite(leaf)), where
    # Softmax takes away what is added to all keys alike.
    if "['key']['bias']" not in where:
      assert np.any(leaf != 0), where


def test_models_start_at_their_scale_and_bias(made):
  model, _ = made['dual_encoder']
  variables = model.init(jax.random.key(0), {}, train=False)
  out = model.apply(variables, {}, train=False)
  # The logarithm is stored, in float32.
  np.testing.assert_allclose(out['logit_scale'], 10, rtol=1e-6)
  assert out['logit_bias'] == -10


def test_a_unimodal_half_is_needed(config, build, batch):
  settings = config('contrastive_captioner')
  settings['decoder'] = {**settings['decoder'], 'unimodal_depth': 0}
  with pytest.raises(ValueError, match='unimodal_depth is 0; use at least 1'):
    build(settings).init(jax.random.key(0), batch, train=False)


def test_a_question_needs_a_fusion(config, build, batch):
  settings = {**config('encoder_decoder'), 'fusion': None}
  with pytest.raises(ValueError, match='come together'):
    build(settings).init(jax.random.key(0), batch, train=False)


@pytest.mark.slow
def test_a_question_encoder_may_look_at_the_image_itself(
  config, build, batch, draw
):
  settings = {**config('encoder_decoder'), 'fusion': None}
  settings['question'] = {**settings['question'], 'cross_attention': True}
  model = build(settings, num_answers=0)
  variables = draw(model, batch, train=False)
  apply = jax.jit(functools.partial(model.apply, train=False))
  logits = apply(variables, batch)['answer_token_logits']
  other = apply(variables, {**batch, 'image': -batch['image']})
  assert not np.allclose(other['answer_token_logits'][:2], logits[:2])
  close(other['answer_token_logits'][2], logits[2])  # No image.


@pytest.mark.slow
def test_a_linen_model_works_in_nnx(made, batch):
  model, _ = made['dual_encoder']

  @flax.nnx.jit
  def create():
    bridged = flax.nnx.bridge.ToNNX(model, rngs=flax.nnx.Rngs(0))
    return bridged.lazy_init(batch, train=False)

  # Parameters name logical axes, which NNX would shard over a mesh at once.
  with flax.nnx.use_eager_sharding(False):
    bridged = create()
  out = flax.nnx.jit(lambda module: module(batch, train=False))(bridged)
  state = flax.nnx.state(bridged, flax.nnx.Param)
  params = flax.nnx.to_pure_dict(state)
  expected = jax.jit(functools.partial(model.apply, train=False))(
    {'params': params}, batch
  )
  assert set(out) == set(OUTPUTS['dual_encoder'])
  jax.tree.map(close, dict(out), dict(expected))
