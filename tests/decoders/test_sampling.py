"""Beam search: against enumeration, and each example as if it were alone."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders
from mmjax.decoders import streaming
from mmjax.errors import ConfigError
from mmjax.types import TokenVectors

EOS = 2
VOCAB, LENGTH = 4, 3
# Two examples' log-probabilities of a token, by step and token before.
TABLES = jax.nn.log_softmax(
  jnp.asarray(
    np.random.default_rng(5).normal(0, 2, (2, LENGTH + 1, VOCAB, VOCAB)),
    jnp.float32,
  )
)
START = TABLES[:, 0, 0]
# Sums of three numbers in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def table_cache(rows=(0, 1)):
  """A cache whose `length` tells which table an example reads."""
  return decoders.DecoderCache(
    blocks=(),
    unimodal=None,
    mask=jnp.zeros((len(rows), 32), bool),
    context_mask=None,
    index=jnp.asarray(1),
    next_position=jnp.asarray(rows),
  )


def table_step(tokens, cache, mask):
  del mask
  logits = TABLES[cache.next_position, cache.index, tokens[:, 0]]
  return logits[:, None], cache.replace(index=cache.index + 1)


def texts():
  """All that can be written: those that end, and those cut off."""
  for length in range(1, LENGTH + 1):
    for text in itertools.product(range(VOCAB), repeat=length):
      if EOS not in text[:-1] and (text[-1] == EOS or length == LENGTH):
        yield text


def log_prob(example, text):
  table, before, total = np.asarray(TABLES[example]), 0, 0.0
  for t, token in enumerate(text):
    total += table[t, before, token]
    before = token
  return total


def score(example, text, length_penalty):
  return log_prob(example, text) / ((5 + len(text)) / 6) ** length_penalty


def written(generated, row):
  tokens = np.asarray(generated.tokens[row])
  mask = np.asarray(generated.mask[row])
  assert not tokens[~mask].any()
  return tuple(tokens[mask].tolist())


def beam(beam_size, length_penalty=0.6, rows=(0, 1), **settings):
  write = jax.jit(
    lambda logits, cache: decoders.beam_search(
      table_step,
      logits,
      cache,
      max_new_tokens=LENGTH,
      beam_size=beam_size,
      length_penalty=length_penalty,
      **settings,
    )
  )
  return write(START[np.asarray(rows)], table_cache(rows))


def greedy(rows=(0, 1), **settings):
  return decoders.sample(
    table_step,
    START[np.asarray(rows)],
    table_cache(rows),
    max_new_tokens=LENGTH,
    **settings,
  )


@pytest.mark.parametrize('length_penalty', [0.0, 0.6, 3.0])
def test_a_wide_beam_finds_the_best_of_all_texts(length_penalty):
  # 1 + 3 + 9 texts end, so 64 beams never fill up and nothing is pruned.
  generated = beam(64, length_penalty)
  for row in (0, 1):
    best = max(texts(), key=lambda text: score(row, text, length_penalty))
    assert written(generated, row) == best
    close(generated.score[row], score(row, best, length_penalty))


def by_hand(example, beams, length_penalty):
  """The same search in plain Python."""
  going, ended = [((), 0.0)], []
  for _ in range(LENGTH):
    longer = [
      ((*text, token), log_prob(example, (*text, token)))
      for text, _ in going
      for token in range(VOCAB)
    ]
    longer = sorted(longer, key=lambda item: -item[1])[: 2 * beams]
    ended += [item for item in longer[:beams] if item[0][-1] == EOS]
    going = [item for item in longer if item[0][-1] != EOS][:beams]
    if len(ended) >= beams:
      going = []
      break
  scores = {t: score(example, t, length_penalty) for t, _ in ended + going}
  return max(scores, key=scores.get)


@pytest.mark.parametrize('beams', [2, 3])
def test_a_narrow_beam_equals_a_search_by_hand(beams):
  generated = beam(beams)
  for row in (0, 1):
    assert written(generated, row) == by_hand(row, beams, 0.6)


def by_hand_as_published(example, beams, penalty, early_stopping, ends):
  """The search of transformers in plain Python."""
  live, ended, is_open = [((), 0.0)], [], True
  for number in range(1, LENGTH + 1):
    longer = [
      ((*text, token), log_prob(example, (*text, token)))
      for text, _ in live
      for token in range(VOCAB)
    ]
    longer = sorted(longer, key=lambda item: -item[1])[
      : (1 + len(ends)) * beams
    ]
    if is_open:
      ended += [
        (text, value / number**penalty)
        for text, value in longer[:beams]
        if text[-1] in ends or number == LENGTH
      ]
    ended = sorted(ended, key=lambda item: -item[1])[:beams]
    live = [item for item in longer if item[0][-1] not in ends][:beams]
    most = LENGTH if early_stopping == 'never' and penalty > 0 else number
    if len(ended) == beams:
      better = live and live[0][1] / most**penalty > ended[-1][1]
      is_open &= early_stopping is not True and better
  return ended[0]


@pytest.mark.parametrize('early_stopping', [True, False, 'never'])
@pytest.mark.parametrize('penalty', [-1.0, 0.0, 2.0])
def test_a_search_as_published_equals_one_by_hand(early_stopping, penalty):
  for beams, ends in ((1, (EOS,)), (2, (EOS, 0)), (3, (EOS,))):
    generated = beam(
      beams,
      penalty,
      scoring='transformers',
      early_stopping=early_stopping,
      eos_id=ends,
    )
    for row in (0, 1):
      text, value = by_hand_as_published(
        row, beams, penalty, early_stopping, ends
      )
      assert written(generated, row) == text
      close(generated.score[row], value)


def test_beam_size_1_is_greedy():
  a, b = beam(1), greedy()
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_array_equal(a.mask, b.mask)
  for row in (0, 1):
    close(a.score[row], score(row, written(a, row), 0.6))
    close(b.score[row], log_prob(row, written(b, row)))


def test_greedy_takes_the_likeliest_until_the_end():
  generated = greedy()
  for row in (0, 1):
    text, table = [], np.asarray(TABLES[row])
    while len(text) < LENGTH and EOS not in text:
      before = text[-1] if text else 0
      text.append(int(table[len(text), before].argmax()))
    assert written(generated, row) == tuple(text)


def test_suppressed_tokens_are_not_written():
  for settings in ({'suppress': (1, EOS)}, {'suppress_first': (0, 3)}):
    allowed = decoders.LogitProcessors(**settings)
    generated = greedy(logit_processors=allowed)
    for row in (0, 1):
      text, table = [], np.array(TABLES[row])
      while len(text) < LENGTH and EOS not in text:
        logits = table[len(text), text[-1] if text else 0]
        logits[list(settings.get('suppress', ()))] = -np.inf
        if not text:
          logits[list(settings.get('suppress_first', ()))] = -np.inf
        text.append(int(logits.argmax()))
      assert written(generated, row) == tuple(text)
    found = decoders.beam_search(
      table_step,
      START,
      table_cache(),
      max_new_tokens=LENGTH,
      beam_size=1,
      logit_processors=allowed,
    )
    np.testing.assert_array_equal(found.tokens, generated.tokens)


def test_beams_find_the_likeliest_text_that_is_allowed():
  """Without two tokens in a row that the likeliest of all has."""
  free = written(beam(16), 0)
  pair = free[:2]
  assert len(pair) == 2
  allowed = decoders.LogitProcessors(biases=((pair, -np.inf),))
  found = beam(16, logit_processors=allowed)
  for row in (0, 1):
    left = [t for t in texts() if pair not in itertools.pairwise(t)]
    best = max(left, key=lambda text: score(row, text, 0.6))
    assert written(found, row) == best
    close(found.score[row], score(row, best, 0.6))


@pytest.mark.parametrize('row', [0, 1])
def test_an_example_writes_in_a_batch_what_it_writes_alone(row):
  for write in (greedy, functools.partial(beam, 2)):
    together, alone = write(), write(rows=(row,))
    np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
    close(together.score[row], alone.score[0])


def test_an_end_is_followed_by_padding_and_scores_nothing_more():
  logits = jnp.log(jnp.asarray([[0.1, 0.1, 0.7, 0.1], [0.1, 0.6, 0.2, 0.1]]))
  generated = decoders.sample(
    lambda tokens, cache, mask: (logits[::-1][:, None], cache),
    logits,
    table_cache(),
    max_new_tokens=3,
    pad_id=3,
  )
  np.testing.assert_array_equal(generated.tokens, [[2, 3, 3], [1, 2, 3]])
  np.testing.assert_array_equal(generated.mask, [[1, 0, 0], [1, 1, 0]])
  close(generated.score, np.log([0.7, 0.6 * 0.7]))


def test_a_stop_string_ends_its_text_alone():
  """Texts are their tokens' numbers, one after the other."""
  free = greedy(eos_id=())
  first = ''.join(str(token) for token in written(free, 0))
  strings = streaming.StopStrings(lambda ids: ''.join(map(str, ids)))
  strings.start(2, (first[:2],), ())
  found = greedy(eos_id=(), on_tokens=strings)
  other = ''.join(str(token) for token in written(free, 1))
  assert first[:2] not in other
  assert written(found, 0) == written(free, 0)[:2]
  assert written(found, 1) == written(free, 1)
  assert streaming.cut('abcabc', ('ca', 'b')) == 'a'
  assert streaming.cut('abc', ()) == 'abc'


def test_seeds_are_as_many_as_texts():
  with pytest.raises(ConfigError, match='3 seeds do not match 2 texts'):
    greedy(rng=decoders.make_keys([1, 2, 3]), temperature=1.0)


def test_samples_are_as_frequent_as_they_are_likely():
  number = 2000
  generated = jax.jit(
    lambda: decoders.sample(
      table_step,
      jnp.repeat(START[:1], number, axis=0),
      table_cache((0,) * number),
      max_new_tokens=LENGTH,
      rng=jax.random.key(0),
      temperature=1.0,
    )
  )()
  counts = {}
  for row in range(number):
    text = written(generated, row)
    counts[text] = counts.get(text, 0) + 1
  for text in texts():
    # Five standard deviations of a share of 2000: 5 * 0.5 / sqrt(2000).
    assert abs(counts.get(text, 0) / number - np.exp(log_prob(0, text))) < 0.056


@pytest.mark.parametrize('settings', [{'top_k': 1}, {'top_p': 1e-6}])
def test_sampling_out_of_one_is_greedy(settings):
  sampled = greedy(rng=jax.random.key(0), temperature=2.0, **settings)
  np.testing.assert_array_equal(sampled.tokens, greedy().tokens)
  close(sampled.score, greedy().score)


@pytest.mark.parametrize('write', [greedy, functools.partial(beam, 3)])
def test_each_of_several_ends_ends_a_text(write):
  one = write()
  np.testing.assert_array_equal(write(eos_id=(EOS,)).tokens, one.tokens)
  first = int(one.tokens[0, 0])
  several = write(eos_id=(EOS, first))
  for row in (0, 1):
    assert written(several, row)[-1] in (EOS, first) or several.mask[row].all()
    assert not set(written(several, row)[:-1]) & {EOS, first}
  assert write(eos_id=()).mask.all()


def test_impossible_settings_are_refused():
  with pytest.raises(ValueError, match=r'temperature 0\.5 needs an rng'):
    greedy(temperature=0.5)
  with pytest.raises(ValueError, match='beam_size must be at least 1, got 0'):
    beam(0)


@pytest.fixture(scope='module')
def decoder(draw):
  module = decoders.TextDecoder(
    7, 8, 1, 2, 5, 9, unimodal_depth=1, block={'rope_theta': 1e4}
  )
  rng = np.random.default_rng(0)
  values = jnp.asarray(rng.normal(size=(2, 3, 8)), jnp.float32)
  seen = TokenVectors(values, jnp.ones((2, 3), bool), values[:, 0])
  ids = jnp.ones((2, 2), int)
  return module, draw(module, ids, None, seen, train=False), seen


@pytest.mark.slow
@pytest.mark.parametrize('beam_size', [1, 3])
def test_a_decoder_writes_the_same_alone_and_however_padded(decoder, beam_size):
  module, variables, seen = decoder

  @jax.jit
  def write(prompt, mask, seen):
    cache = module.init_cache(len(prompt), prompt.shape[1] + 5, 3)
    apply = functools.partial(module.apply, variables)
    x, cache = apply(
      prompt, cache, mask, seen, method='compute_hidden_states_cached'
    )
    logits = apply(x[:, -1:], method='compute_logits')
    search = decoders.sample
    if beam_size > 1:
      search = functools.partial(decoders.beam_search, beam_size=beam_size)
    step = functools.partial(apply, method='decode_step')
    return search(step, logits[:, -1], cache, max_new_tokens=5)

  prompt = jnp.asarray([[1, 3, 5], [0, 1, 4]])
  mask = jnp.asarray([[1, 1, 1], [0, 1, 1]], bool)
  both = write(prompt, mask, seen)
  alone = write(
    prompt[1:, 1:], mask[1:, 1:], jax.tree.map(lambda leaf: leaf[1:], seen)
  )
  np.testing.assert_array_equal(both.tokens[1], alone.tokens[0])
  # Products of other shapes, in float32.
  np.testing.assert_allclose(both.score[1], alone.score[0], rtol=1e-4)


def test_log_probabilities_are_those_of_what_is_drawn_from():
  drawn = greedy(temperature=2.0, rng=jax.random.key(1))
  warm = jax.nn.log_softmax(TABLES / 2.0)
  for row in (0, 1):
    text, before = written(drawn, row), 0
    for step, token in enumerate(text):
      close(drawn.log_probs[row, step], warm[row, step, before, token])
      before = token
    assert not np.any(drawn.log_probs[row, len(text) :])
    close(drawn.score[row], log_prob(row, text))  # At temperature 1.
