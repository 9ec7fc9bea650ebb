"""What may be written: each constraint by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders
from mmjax.decoders import logit_processors

# Seven tokens; the last one stands for a placeholder beyond the vocabulary.
VOCAB, EOS = 5, 4
PROMPT = np.asarray([[1, 0, 2, 9], [3, 1, 3, 1]])
MASK = np.asarray([[1, 0, 1, 1], [1, 1, 1, 1]], bool)
LOGITS = np.asarray([[2.0, 1.0, -1.0, 0.5, 3.0]] * 2, np.float32)
# Of four tokens that can be written, two are: then stand 1 2 9 0 1 and
# 3 1 3 1 2 3, whose prompts have three and four tokens.
WRITTEN = np.asarray([[0, 1, 7, 7], [2, 3, 7, 7]])
LENGTH = WRITTEN.shape[1]
NO = -np.inf


def apply(index, **settings):
  prompt, mask = logit_processors.align(jnp.asarray(PROMPT), jnp.asarray(MASK))
  history = logit_processors.History.after(
    prompt, mask, jnp.asarray(WRITTEN), jnp.asarray(index)
  )
  allowed = decoders.LogitProcessors(**settings)
  return allowed.apply(
    jnp.asarray(LOGITS), history, max_new_tokens=LENGTH, eos_id=(EOS,)
  )


@pytest.mark.parametrize(
  ('index', 'settings', 'expected'),
  [
    (2, {}, LOGITS.tolist()),
    # 0, 1 and 2 occurred in the first, 1, 2 and 3 in the second.
    (
      2,
      {'repetition_penalty': 2.0},
      [[1.0, 0.5, -2.0, 0.5, 3.0], [2.0, 0.5, -2.0, 0.25, 3.0]],
    ),
    # Written are 0 and 1 in the first, 2 and 3 in the second.
    (
      2,
      {'presence_penalty': 0.5},
      [[1.5, 0.5, -1, 0.5, 3], [2, 1, -1.5, 0, 3]],
    ),
    (0, {'presence_penalty': 0.5, 'frequency_penalty': 1}, LOGITS.tolist()),
    # 0 1 and then 7 and 7, which are beyond the vocabulary; 2 3 likewise.
    (
      4,
      {'presence_penalty': 0.5, 'frequency_penalty': -0.25},
      [[1.75, 0.75, -1, 0.5, 3], [2, 1, -1.25, 0.25, 3]],
    ),
    # The padding of the first prompt, 0, is not a token.
    (0, {'repetition_penalty': 0.5}, [[2, 2, -0.5, 0.5, 3], [2, 2, -1, 1, 3]]),
    # After 1 came 2; after 3 came 1.
    (2, {'no_repeat_ngram': 2}, [[2, 1, NO, 0.5, 3], [2, NO, -1, 0.5, 3]]),
    # After 3 1 came 3 and, at the end, nothing yet.
    (0, {'no_repeat_ngram': 3}, [[2, 1, -1, 0.5, 3], [2, 1, -1, NO, 3]]),
    (0, {'no_repeat_ngram': 9}, LOGITS.tolist()),
    # Three tokens and four.
    (0, {'min_length': 4}, [[2, 1, -1, 0.5, NO], [2, 1, -1, 0.5, 3]]),
    (1, {'min_new_tokens': 2}, [[2, 1, -1, 0.5, NO]] * 2),
    (2, {'min_new_tokens': 2}, LOGITS.tolist()),
    (
      2,
      {'biases': (((0, 1, 3), 0.25), ((2,), -1.0))},
      [[2, 1, -2, 0.75, 3], [2, 1, -2, 0.5, 3]],
    ),
    (2, {'biases': (((2, 3, 0), NO),)}, [LOGITS[0], [NO, 1, -1, 0.5, 3]]),
    # The prompt of the first is shorter than what would stand before.
    (0, {'biases': (((3, 1, 3, 1, 2), NO),)}, [LOGITS[0], [2, 1, NO, 0.5, 3]]),
    (2, {'forced_last': 1}, LOGITS.tolist()),
    (3, {'forced_last': 1}, [[NO, 0, NO, NO, NO]] * 2),
    (0, {'forced_first': 1}, LOGITS.tolist()),
    (1, {'suppress': (0, 4)}, [[NO, 1, -1, 0.5, NO]] * 2),
    (0, {'suppress_first': (3,)}, [[2, 1, -1, NO, 3]] * 2),
    (1, {'suppress_first': (3,)}, LOGITS.tolist()),
  ],
)
def test_each_constraint(index, settings, expected):
  np.testing.assert_allclose(apply(index, **settings), expected)


def test_a_token_that_is_written_again_is_penalised_again():
  prompt = jnp.asarray([[1, 1], [0, 2]]), jnp.asarray([[1, 1], [0, 1]]) > 0
  written = jnp.asarray([[2, 2, 2], [2, 0, 2]])
  allowed = decoders.LogitProcessors(
    presence_penalty=jnp.asarray([[0.5], [0.0]]),
    frequency_penalty=jnp.asarray([[1.0], [2.0]]),
  )
  history = logit_processors.History.after(*prompt, written, jnp.asarray(3))
  # One row may have fewer written tokens than another.
  history = history.replace(num_generated=jnp.asarray([[3], [2]]))
  got = allowed.apply(
    jnp.asarray(LOGITS), history, max_new_tokens=3, eos_id=EOS
  )
  np.testing.assert_allclose(got, [[2, 1, -4.5, 0.5, 3], [0, 1, -3, 0.5, 3]])


def test_a_forced_token_follows_a_prompt_of_one():
  prompt = jnp.asarray([[0, 3], [3, 3]]), jnp.asarray([[0, 1], [1, 1]]) > 0
  allowed = decoders.LogitProcessors(forced_first=1, suppress_first=(2,))
  written = jnp.zeros((2, 3), jnp.int32)
  for index, expected in enumerate(
    (
      [[NO, 0, NO, NO, NO], [2, 1, NO, 0.5, 3]],
      [[2, 1, NO, 0.5, 3], LOGITS[1]],
    )
  ):
    history = logit_processors.History.after(
      *prompt, written, jnp.asarray(index)
    )
    got = allowed.apply(
      jnp.asarray(LOGITS), history, max_new_tokens=3, eos_id=EOS
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'repetition_penalty': 0.0}, 'repetition_penalty must be above 0, got 0'),
    ({'min_length': -1}, 'min_length must be at least 0, got -1'),
    ({'biases': (((1, 5), NO),)}, r'biases has the ids \[5\]; .* 0 to 4'),
    ({'forced_last': 5}, r'forced_last has the ids \[5\]'),
  ],
)
def test_what_can_not_be_is_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    apply(0, **settings)
