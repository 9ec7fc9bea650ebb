"""A recogniser writes what teacher forcing tells, whatever the padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, encoders, models

SMALL = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
LENGTHS = (13, 8)
MASK = jnp.arange(13)[None] < jnp.asarray(LENGTHS)[:, None]
SOUND = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 13, 5)), jnp.float32
)
TEXT = jnp.asarray([[1, 3, 5, 7, 2], [1, 4, 2, 0, 0]])
BATCH = {
  'spectrogram': SOUND,
  'spectrogram_mask': MASK,
  'text': TEXT,
  'text_mask': TEXT > 0,
}
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def model():
  return models.SpeechRecognizer(
    audio=encoders.AudioTransformer(max_length=9, **SMALL),
    decoder=decoders.TextDecoder(vocab_size=11, max_length=8, **SMALL),
  )


@pytest.fixture(scope='module')
def variables(model, draw):
  return draw(model, BATCH, train=False)


def test_padding_changes_nothing(model, variables):
  apply = jax.jit(functools.partial(model.apply, train=False))
  logits = apply(variables, BATCH)['transcript_logits']
  assert logits.shape == (2, 4, 11) and logits.dtype == jnp.float32
  alone = {'spectrogram': SOUND[1:, :8], 'text': TEXT[1:, :3]}
  got = apply(variables, alone)['transcript_logits']
  close(logits[1:, :2], got)


def test_greedy_writing_equals_teacher_forcing(model, variables):
  prompt = jnp.asarray([[1, 4], [1, 6]])
  generate = jax.jit(
    functools.partial(
      model.apply,
      method='generate',
      text_kind='transcript',
      max_new_tokens=3,
      eos_id=-1,
    )
  )
  batch = {
    'spectrogram': SOUND,
    'spectrogram_mask': MASK,
    'decoder_prompt': prompt,
  }
  written = generate(variables, batch)
  whole = jnp.concatenate([prompt, written.tokens], axis=1)
  read = {'spectrogram': SOUND, 'spectrogram_mask': MASK, 'text': whole}
  logits = model.apply(variables, read, train=False)['transcript_logits']
  np.testing.assert_array_equal(written.tokens, logits[:, 1:].argmax(-1))
  audio = model.apply(variables, SOUND, MASK, method='encode_audio')
  again = generate(variables, {'audio': audio, 'decoder_prompt': prompt})
  np.testing.assert_array_equal(written.tokens, again.tokens)
  first = model.apply(variables, prompt, audio, method='logits_after')
  close(first, logits[:, 1])
