"""Text generation through a model's apply."""

import functools

import jax
import numpy as np
import pytest

from mmjax.models import generation, predict


def write(model, **settings):
  generate = functools.partial(model.apply, method='generate', **settings)
  return jax.jit(generate)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, task, output',
  [
    ('encoder_decoder', 'answer', 'answer_token_logits'),
    ('contrastive_captioner', 'caption', 'caption_logits'),
    ('image_first', 'caption', 'caption_logits'),
    ('image_first', 'answer', 'answer_token_logits'),
  ],
)
def test_greedy_writing_equals_teacher_forcing(name, task, output, made, batch):
  _check_writing(*made[name], task, output, batch)


@pytest.mark.slow
def test_learned_positions_count_what_is_there(config, build, batch, draw):
  settings = config('image_first')
  decoder = {**settings['decoder'], 'positions': 'learned', 'max_length': 20}
  model = build({**settings, 'decoder': decoder | {'block': {}}})
  variables = draw(model, batch, train=False)
  # The second question has padding, behind which the answer goes on counting.
  _check_writing(model, variables, 'answer', 'answer_token_logits', batch)


def _check_writing(model, variables, task, output, batch):
  key = {'caption': 'text', 'answer': 'answer'}[task]
  length = batch[key].shape[1] - 1
  endless = model.clone(eos_id=-1)
  written = write(endless, text_kind=task, max_new_tokens=length)(
    variables, batch
  )
  assert written.tokens.shape == (3, length)
  ids = np.concatenate([np.ones((3, 1), int), written.tokens], axis=1)
  read = {**batch, key: ids, f'{key}_mask': np.ones(ids.shape, bool)}
  logits = jax.jit(functools.partial(model.apply, train=False))(variables, read)
  np.testing.assert_array_equal(written.tokens, logits[output].argmax(-1))
  forced = jax.nn.log_softmax(logits[output]).max(-1).sum(-1)
  # Products of other shapes, in float32.
  np.testing.assert_allclose(written.score, forced, rtol=1e-4)


@pytest.mark.slow
def test_a_prompt_is_gone_on_from(made, batch):
  model, variables = made['encoder_decoder']
  generate = write(model, text_kind='caption', max_new_tokens=4, eos_id=-1)
  tokens = generate(variables, batch).tokens
  start = np.concatenate([np.ones((3, 1), int), tokens[:, :2]], axis=1)
  given = {
    'decoder_prompt': start,
    'decoder_prompt_mask': np.ones(start.shape, bool),
  }
  generate = write(model, text_kind='caption', max_new_tokens=2, eos_id=-1)
  rest = generate(variables, {**batch, **given}).tokens
  np.testing.assert_array_equal(rest, tokens[:, 2:])


@pytest.mark.slow
def test_unrolled_layers_write_the_same(made, batch, monkeypatch):
  model, variables = made['encoder_decoder']
  run = lambda: write(model, text_kind='caption', max_new_tokens=4, eos_id=-1)(
    variables, batch
  )
  scanned = run()
  assert generation._unroll(model, variables)[0] is model
  monkeypatch.setattr(generation, '_UNROLLED', range(2**30))
  assert not generation._unroll(model, variables)[0].decoder.scan
  unrolled = run()
  np.testing.assert_array_equal(unrolled.tokens, scanned.tokens)
  # Products are fused otherwise, in float32.
  np.testing.assert_allclose(unrolled.score, scanned.score, rtol=1e-4)


@pytest.mark.slow
def test_an_example_writes_what_it_writes_alone(made, batch):
  model, variables = made['encoder_decoder']
  generate = write(model, text_kind='answer', max_new_tokens=3, beam_size=3)
  both = generate(variables, batch)
  alone = generate(variables, {k: v[1:2] for k, v in batch.items()})
  np.testing.assert_array_equal(both.tokens[1:2], alone.tokens)


@pytest.mark.parametrize(
  'name, settings, message',
  [
    (
      'encoder_decoder',
      {'text_kind': 'poem'},
      r"'poem' is unknown; .*'caption'",
    ),
    (
      'contrastive_captioner',
      {'text_kind': 'answer'},
      "kind of text 'answer' is unknown",
    ),
    ('encoder_decoder', {'beam_size': 0}, 'beam_size must be at least 1'),
    (
      'encoder_decoder',
      {'beam_size': 2, 'temperature': 1.0},
      'exclude each other',
    ),
    ('encoder_decoder', {'temperature': 1.0}, 'needs an rng'),
    (
      'encoder_decoder',
      {'max_new_tokens': 6},
      'takes 6 positions, but.* max_length of 5',
    ),
  ],
)
def test_impossible_settings_are_refused(name, settings, message, made, batch):
  model, variables = made[name]
  settings = {'text_kind': 'caption', 'max_new_tokens': 3, **settings}
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: model.apply(variables, batch, method='generate', **settings)
    )


def test_what_a_model_lacks_it_cannot_write(config, build, batch, draw):
  settings = {**config('encoder_decoder'), 'question': None, 'fusion': None}
  model = build(settings)
  variables = draw(model, batch, train=False)
  with pytest.raises(ValueError, match='needs a question encoder'):
    model.apply(
      variables, batch, text_kind='answer', max_new_tokens=3, method='generate'
    )
  settings = {**config('encoder_decoder'), 'decoder': None}
  model = build(settings)
  variables = draw(model, batch, train=False)
  with pytest.raises(ValueError, match='writes nothing'):
    model.apply(
      variables, batch, text_kind='answer', max_new_tokens=3, method='generate'
    )


def test_predict_functions_take_parameters_and_a_batch(made, batch):
  model, variables = made['dual_encoder']
  params = variables['params']
  shape = lambda f: jax.eval_shape(f, params, batch).shape
  for name in ('image', 'text'):
    assert shape(predict.make_embed(model, name=name)) == (3, 5)
  model, variables = made['encoder_decoder']
  params = variables['params']
  assert shape(
    predict.make_generate(model, text_kind='answer', max_new_tokens=3)
  ) == (
    3,
    3,
  )
  assert shape(predict.make_answer_logits(model)) == (3, 6)
  assert shape(predict.make_pick_answer(model)) == (3,)
