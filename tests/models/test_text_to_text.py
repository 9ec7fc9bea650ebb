"""A text about another: written as teacher forcing tells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, encoders, models

SETTINGS = {
  'vocab_size': 11,
  'width': 8,
  'depth': 1,
  'num_heads': 2,
  'mlp_dim': 7,
  'max_length': 9,
  'positions': 'none',
  'relative': {'buckets': 8, 'max_distance': 6},
}
QUESTION = jnp.asarray([[4, 6, 3, 9], [5, 2, 0, 0]])
ANSWER = jnp.asarray([[0, 3, 5, 7, 1], [0, 4, 1, 0, 0]])
BATCH = {
  'question': QUESTION,
  'question_mask': QUESTION > 0,
  'answer': ANSWER,
  'answer_mask': jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool),
}
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def model():
  return models.TextToText(
    encoder=encoders.Transformer(pooling='mean', **SETTINGS),
    decoder=decoders.TextDecoder(**SETTINGS),
  )


@pytest.fixture(scope='module')
def variables(model, draw):
  return draw(model, BATCH, train=False)


def test_both_halves_have_the_same_words(variables):
  assert 'words' not in variables['params']['encoder']
  assert 'words' in variables['params']['decoder']


def test_padding_changes_nothing(model, variables):
  apply = jax.jit(functools.partial(model.apply, train=False))
  logits = apply(variables, BATCH)['answer_token_logits']
  assert logits.shape == (2, 4, 11) and logits.dtype == jnp.float32
  alone = {'question': QUESTION[1:, :2], 'answer': ANSWER[1:, :3]}
  close(logits[1:, :2], apply(variables, alone)['answer_token_logits'])


def test_greedy_writing_equals_teacher_forcing(model, variables):
  generate = jax.jit(
    functools.partial(
      model.apply,
      method='generate',
      text_kind='answer',
      max_new_tokens=4,
      eos_id=-1,
    )
  )
  asked = {k: BATCH[k] for k in ('question', 'question_mask')}
  written = generate(variables, asked).tokens
  prompt = jnp.asarray([[0, 4], [0, 4]])
  given = {
    'decoder_prompt': prompt,
    'decoder_prompt_mask': jnp.ones((2, 2), bool),
  }
  for start, tokens in (
    (jnp.zeros((2, 1), jnp.int32), written),
    (prompt, generate(variables, {**asked, **given}).tokens),
  ):
    whole = jnp.concatenate([start, tokens], axis=1)
    read = {**asked, 'answer': whole}
    logits = model.apply(variables, read, train=False)['answer_token_logits']
    best = logits.argmax(-1)[:, start.shape[1] - 1 :]
    np.testing.assert_array_equal(tokens, best)
