"""Rows that begin and end at any time write what they write alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders
from mmjax.decoders import continuous_batching
from mmjax.errors import ConfigError

EOS, VOCAB, PROMPT, ROWS = (2,), 11, 5, 2
# Prompts with padding anywhere, and what each row asks for.
PROMPTS = (
  ([1, 3, 5, 7, 0], [1, 1, 1, 1, 0], {}),
  (
    [0, 9, 0, 4, 1],
    [0, 1, 0, 1, 1],
    {'temperature': 1.5, 'top_k': 4, 'top_p': 0.9},
  ),
  (
    [8, 3, 3, 1, 1],
    [1, 1, 1, 1, 1],
    {
      'temperature': 2.0,
      'repetition_penalty': 1.4,
      'presence_penalty': 0.5,
      'frequency_penalty': 0.3,
    },
  ),
)
NEW = 8
# Of all rows alike; which one is last depends on the row's length.
SHARED = {'no_repeat_ngram': 3, 'min_new_tokens': 2, 'forced_last': 4}


@pytest.fixture(scope='module')
def programs(draw):
  """Prefill, `sample` alone, and the programs of slots, of one decoder."""
  module = decoders.TextDecoder(
    *(VOCAB, 8, 1, 2, 5, 64),
    cross_attention=False,
    positions='none',
    block={'rope_theta': 1e4},
  )
  variables = draw(module, jnp.ones((2, 2), int), train=False)
  apply = functools.partial(module.apply, variables)
  step = functools.partial(apply, method='decode_step')

  def prefill(ids, mask, room=0):
    cache = module.init_cache(len(ids), ids.shape[1] + room)
    x, cache = apply(ids, cache, mask, method='compute_hidden_states_cached')
    last = jnp.max(jnp.where(mask[0], jnp.arange(ids.shape[1]), 0))
    logits = apply(x[:, last][:, None], method='compute_logits')[:, 0]
    return continuous_batching.Prefilled(logits, cache, ids)

  @functools.partial(jax.jit, static_argnums=(3,))
  def alone(ids, mask, key, settings):
    found = prefill(ids, mask, NEW)
    settings = dict(settings)
    sampling = {
      name: settings.pop(name)
      for name in ('temperature', 'top_k', 'top_p')
      if name in settings
    }
    return decoders.sample(
      step,
      found.logits,
      found.cache,
      rng=key[None],
      eos_id=EOS,
      max_new_tokens=NEW,
      prompt=(ids, mask),
      logit_processors=decoders.LogitProcessors(**SHARED, **settings),
      **sampling,
    )

  return {
    'prefill': jax.jit(prefill),
    'alone': alone,
    'insert': jax.jit(continuous_batching.insert),
    'arrange': jax.jit(continuous_batching.arrange, static_argnums=3),
    'advance': jax.jit(
      functools.partial(
        continuous_batching.advance, step, eos_id=EOS, logit_processors=SHARED
      )
    ),
  }


def _make_settings(key, **changed):
  values = {
    'temperature': 0.0,
    'top_k': 0,
    'top_p': 1.0,
    'repetition_penalty': 1.0,
    'presence_penalty': 0.0,
    'frequency_penalty': 0.0,
    'max_new_tokens': NEW,
    **changed,
  }
  return continuous_batching.RowSettings(
    key=jax.random.key_data(jax.random.fold_in(key, 0)),
    **{name: jnp.asarray(value) for name, value in values.items()},
  )


def _make_prompt(number):
  ids, mask, settings = PROMPTS[number]
  return jnp.asarray([ids]), jnp.asarray([mask], bool), settings


def _write_together(programs, keys):
  """Texts begin at steps 0, 1 and when a row is free; slots run out."""
  texts, row_of, waiting, state = {}, {}, [0, 1, 2], None
  logged = {number: [] for number in waiting}
  for number_of_step in range(40):
    while waiting and len(row_of) < ROWS and number_of_step >= waiting[0]:
      number = waiting.pop(0)
      ids, mask, changed = _make_prompt(number)
      prompt = programs['prefill'](ids, mask)
      settings = _make_settings(keys[number], **changed)
      if state is None:
        state = continuous_batching.make_empty(prompt, settings, ROWS)
        state = programs['arrange'](
          state, jnp.arange(ROWS), jnp.asarray(-PROMPT), 3 * PROMPT
        )
      assert int(state.cache.index) >= PROMPT
      row = next(r for r in range(ROWS) if r not in row_of.values())
      row_of[number], texts[number] = row, []
      state = programs['insert'](state, jnp.asarray(row), prompt, settings)
    if not row_of:
      break
    if int(state.cache.index) == state.tokens.shape[1]:
      # The longest text has at most 13 tokens: rows are swapped, and moved.
      order = np.asarray([1, 0])
      row_of = {
        n: int(np.argwhere(order == r)[0, 0]) for n, r in row_of.items()
      }
      state = programs['arrange'](
        state, jnp.asarray(order), jnp.asarray(1), 3 * PROMPT
      )
    alive = np.isin(np.arange(ROWS), list(row_of.values()))
    state, written = programs['advance'](
      state, jnp.asarray(alive), with_likeliest=jnp.asarray(True)
    )
    for number, row in list(row_of.items()):
      token = int(written.tokens[row])
      texts[number].append(token)
      logged[number].append(
        (written.log_probs[row], written.likeliest_log_probs[row])
      )
      if token in EOS or len(texts[number]) == NEW:
        del row_of[number]
  return texts, logged


def test_rows_write_what_sample_writes_of_each_alone(programs):
  keys = [jax.random.key(seed) for seed in (5, 6, 7)]
  texts, logged = _write_together(programs, keys)
  for number, key in enumerate(keys):
    ids, mask, settings = _make_prompt(number)
    found = programs['alone'](ids, mask, key, tuple(settings.items()))
    assert (
      texts[number] == np.asarray(found.tokens)[np.asarray(found.mask)].tolist()
    )
    assert len(set(texts[number])) > 1 and len(texts[number]) > 2
    chosen, likeliest = zip(*logged[number], strict=True)
    for one, most in zip(chosen, likeliest, strict=True):
      # All of a vocabulary this small are listed, from the likeliest on.
      assert np.isclose(most, one).any() and (np.diff(most) <= 0).all()
      np.testing.assert_allclose(np.exp(most).sum(), 1, rtol=1e-5)


def test_a_decoder_with_a_context_is_refused(programs):
  ids, mask, _ = _make_prompt(0)
  prompt = programs['prefill'](ids, mask)
  cache = prompt.cache.replace(context_mask=mask)
  with pytest.raises(ConfigError, match='does not write rows of their own'):
    continuous_batching.make_empty(
      prompt.replace(cache=cache), _make_settings(jax.random.key(0)), 2
    )
