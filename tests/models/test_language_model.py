"""A decoder alone: reading, and going on from prompts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, models

PROMPTS = jnp.asarray([[1, 5, 7, 3], [0, 1, 4, 0]])
MASK = jnp.asarray([[1, 1, 1, 1], [0, 1, 1, 0]], bool)


@pytest.fixture(scope='module')
def made(draw):
  decoder = decoders.TextDecoder(
    11, 8, 2, 4, 7, 9, cross_attention=False, tied=False
  )
  model = models.LanguageModel(decoder)
  return model, draw(model, {'text': PROMPTS}, train=False)


def write(made, batch, **settings):
  model, variables = made
  generate = functools.partial(
    model.apply, text_kind='continue', method='generate', **settings
  )
  return jax.jit(generate)(variables, batch)


def test_greedy_writing_equals_teacher_forcing(made):
  model, variables = made
  batch = {'text': PROMPTS, 'text_mask': MASK}
  written = write(made, batch, max_new_tokens=5, eos_id=())
  for row, prompt in enumerate(([1, 5, 7, 3], [1, 4])):
    whole = jnp.asarray([prompt + written.tokens[row].tolist()])
    out = model.apply(variables, {'text': whole}, train=False)
    logits = out['text_logits'][0, len(prompt) - 1 : -1]
    np.testing.assert_array_equal(written.tokens[row], logits.argmax(-1))
    forced = jax.nn.log_softmax(logits).max(-1).sum()
    # Products of other shapes, in float32.
    np.testing.assert_allclose(written.score[row], forced, rtol=1e-4)


def test_without_a_mask_all_of_the_prompt_is_there(made):
  whole = write(made, {'text': PROMPTS, 'text_mask': MASK}, max_new_tokens=2)
  plain = write(made, {'text': PROMPTS[:1]}, max_new_tokens=2)
  np.testing.assert_array_equal(plain.tokens[0], whole.tokens[0])


def test_more_than_there_are_positions_for_is_refused(made):
  with pytest.raises(ValueError, match=r'takes 10 positions, but the .* of 9'):
    write(made, {'text': PROMPTS}, max_new_tokens=7)
