"""Which tokens stay, and how often each is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops

PROBABILITIES = np.asarray([0.1, 0.4, 0.05, 0.2, 0.25])
LOGITS = jnp.log(jnp.asarray([PROBABILITIES, PROBABILITIES[::-1]]))


def kept(logits, **settings):
  return [
    set(np.flatnonzero(np.isfinite(row)).tolist())
    for row in ops.filter_logits(logits, **settings)
  ]


@pytest.mark.parametrize(
  'top_k, expected',
  [
    (0, {0, 1, 2, 3, 4}),
    (1, {1}),
    (3, {1, 3, 4}),
    (5, {0, 1, 2, 3, 4}),
    (99, {0, 1, 2, 3, 4}),
  ],
)
def test_top_k_by_hand(top_k, expected):
  assert kept(LOGITS, top_k=top_k) == [expected, {4 - i for i in expected}]


@pytest.mark.parametrize(
  'top_p, expected',
  [
    (1e-9, {1}),  # At least one.
    (0.39, {1}),
    (0.41, {1, 4}),
    (0.64, {1, 4}),
    (0.66, {1, 4, 3}),
    (0.96, {0, 1, 2, 3, 4}),
    (1.0, {0, 1, 2, 3, 4}),
  ],
)
def test_top_p_by_hand(top_p, expected):
  assert kept(LOGITS, top_p=top_p) == [expected, {4 - i for i in expected}]


def test_top_p_counts_what_top_k_left():
  # Of tokens 1 and 4, token 1 has 0.4 / 0.65 = 0.62.
  assert kept(LOGITS[:1], top_k=2, top_p=0.6) == [{1}]
  assert kept(LOGITS[:1], top_k=2, top_p=0.63) == [{1, 4}]


def test_ties_stay():
  assert kept(jnp.asarray([[1.0, 2.0, 1.0, 0.0]]), top_k=2) == [{0, 1, 2}]


def test_settings_of_each_row_are_those_of_all():
  """Without and with ties and tokens that are excluded already."""
  rng = np.random.default_rng(0)
  logits = np.round(rng.normal(0, 2, (8, 11)), 1).astype(np.float32)
  logits[2:, 3] = -np.inf
  settings = [(k, p) for k in (0, 1, 5, 99) for p in (1.0, 0.6)]
  top_k, top_p = (jnp.asarray(one) for one in zip(*settings, strict=True))
  found = ops.filter_each(jnp.asarray(logits), top_k, top_p)
  for row, (k, p) in enumerate(settings):
    wanted = ops.filter_logits(jnp.asarray(logits[row : row + 1]), k, p)
    np.testing.assert_array_equal(found[row], wanted[0])
  rngs = jax.random.split(jax.random.key(1), 8)
  temperatures = jnp.asarray([0.0, 0.5] * 4)
  drawn = ops.sample_each(rngs, jnp.asarray(logits), temperatures, top_k, top_p)
  for row, (k, p) in enumerate(settings):
    one = slice(row, row + 1)
    wanted = ops.sample_token(
      rngs[one], jnp.asarray(logits[one]), float(temperatures[row]), k, p
    )
    assert drawn[row] == wanted[0]


def draws(number=4000, **settings):
  rngs = jax.random.split(jax.random.key(0), number)
  logits = jnp.broadcast_to(LOGITS[:1], (number, 5))
  tokens = ops.sample_token(rngs, logits, **settings)
  return np.bincount(np.asarray(tokens), minlength=5) / number


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_should(temperature):
  expected = PROBABILITIES ** (1 / temperature)
  # Five standard deviations of a share of 4000 draws: 5 * 0.5 / sqrt(4000).
  np.testing.assert_allclose(
    draws(temperature=temperature), expected / expected.sum(), atol=0.04
  )


def test_what_is_filtered_is_never_drawn():
  shares = draws(top_k=2)
  np.testing.assert_allclose(  # As above.
    shares, [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65], atol=0.04
  )
  assert not shares[[0, 2, 3]].any()


def test_temperature_0_takes_the_likeliest():
  tokens = ops.sample_token(jnp.zeros(2), LOGITS, temperature=0.0)
  assert tokens.tolist() == [1, 3]
  assert tokens.dtype == jnp.int32
  # The first of equal ones, and a token whatever the logits are.
  odd = jnp.array([[1.0, 3.0, 3.0], [0.0, jnp.nan, 1.0]])
  first, any_token = ops.sample_token(jnp.zeros(2), odd, temperature=0.0)
  assert first == 1 and 0 <= any_token < 3


def test_a_draw_does_not_depend_on_the_batch():
  rngs = jax.random.split(jax.random.key(3), 2)
  both = ops.sample_token(rngs, LOGITS)
  alone = ops.sample_token(rngs[1:], LOGITS[1:])
  assert both[1] == alone[0]


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'top_k': -1}, 'top_k must be at least 0.*got -1'),
    ({'top_p': 0.0}, r'top_p must be in \(0, 1\], got 0.0'),
    ({'top_p': 1.5}, r'top_p must be in \(0, 1\], got 1.5'),
    ({'temperature': -0.5}, 'temperature must be at least 0, got -0.5'),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    ops.sample_token(jnp.zeros(2), LOGITS, **settings)
