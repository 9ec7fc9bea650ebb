"""Encoding and decoding sounds: what is refused, and what is measured."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import evaluators, models, ops, tasks
from mmjax.data import audio, preprocess
from mmjax.errors import ConfigError
from mmjax.metrics import sound_quality
from tests.tasks import token_cases

RATE, LENGTH = 100, 20
FEATURE = {'sound': {'kind': 'sound', 'rate': RATE, 'seconds': LENGTH / RATE}}
METHODS = tasks.ReconstructSound.methods
SOUNDS = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 14)).astype(np.float32)


def build(**codebook):
  config = {**token_cases.SOUND_CODEC, 'codebook': codebook}
  return models.build(config, models.DataSizes(1))


@pytest.mark.parametrize(
  'codebook, most',
  [
    ({'name': 'fsq', 'levels': (3, 4)}, 1),
    ({'name': 'rvq', 'size': 7, 'channels': 3, 'depth': 2}, 2),
  ],
)
def test_a_run_gives_tokens_and_takes_them_back(codebook, most):
  module = build(**codebook)
  preprocessor = preprocess.Preprocessor(preprocess.build(FEATURE), None)
  batch = {'sound': jnp.zeros((1, LENGTH))}
  made = nn.meta.unbox(module.init(jax.random.key(0), batch, train=False))
  run = types.SimpleNamespace(
    tasks={'reconstruct_sound': tasks.ReconstructSound()},
    module=module,
    preprocessor=preprocessor,
    prepare=preprocessor.prepare,
    predict=lambda make, batch, **settings: make(module, **settings)(
      made['params'], batch
    ),
  )
  ids = METHODS['encode_tokens'](run, list(SOUNDS))
  assert ids.shape == (2, most, 4)  # Tokens of 6 samples.
  whole = METHODS['reconstruct'](run, SOUNDS[0])
  assert whole.shape == (1, LENGTH)
  decoded = METHODS['decode_tokens'](run, ids[:1])
  np.testing.assert_allclose(decoded[:, :LENGTH], whole, atol=1e-6)
  size = module.codebook.size
  for wrong in (-1, size):
    with pytest.raises(ConfigError, match=f'the id {wrong} is not one of the'):
      METHODS['decode_tokens'](run, np.full((1, 1, 4), wrong))
  for wrong in (ids[0], ids + 0.5, np.zeros((1, most + 1, 4), int)):
    with pytest.raises(ConfigError, match=f'of 1 to {most} codebooks, not'):
      METHODS['decode_tokens'](run, wrong)
  card = tasks.ReconstructSound.predict_use
  samples, rate = card.play(run, {'sound': SOUNDS[0]}, [])
  np.testing.assert_array_equal(samples, whole[0])
  assert rate == RATE
  (line,) = card.make_lines(run, {'sound': SOUNDS[0]}, [], 1)
  assert line.startswith('reconstruction: ') and 'dB' in line


def test_a_codebook_without_tokens_is_refused():
  with pytest.raises(ConfigError, match="use one whose name is 'vq', 'rvq'"):
    build(name='gaussian').init(
      jax.random.key(0), {'sound': jnp.zeros((1, 6))}, train=False
    )
  with pytest.raises(ConfigError, match=r'reconstruct_sound\.distance .cosine'):
    tasks.ReconstructSound(distance='cosine').check()


def test_the_evaluator_measures_samples_and_codes():
  records = [
    {
      'id': str(i),
      'fields': {'sound': data},
      'metadata': {},
    }
    for i, data in enumerate(
      [*(audio.encode_wave(x, RATE) for x in SOUNDS), None]
    )
  ]
  evaluator = evaluators.SoundReconstructions(
    lambda params, batch: params * batch['sound'],
    lambda params, batch: jnp.asarray([[[0, 1, 1, 1]]] * len(batch['sound'])),
    records,
    preprocess.Preprocessor(preprocess.build(FEATURE), None),
    feature='sound',
    size=4,
    batch_size=2,
    name='reconstruct_sound',
  )
  assert evaluator.render() is None
  found = dict(evaluator.run(jnp.asarray(0.9)))
  assert found['reconstruct_sound/snr'] == pytest.approx(20, abs=1e-3)
  assert found['reconstruct_sound/used'] == 0.5
  spectral = found['reconstruct_sound/spectral']
  assert 0 < spectral < found['reconstruct_sound/silent_spectral']
  assert dict(evaluator.run(jnp.asarray(1.0)))[
    'reconstruct_sound/snr'
  ] == pytest.approx(100)
  assert evaluator.render().width > 12


def test_spectra_differ_in_pitch_and_loudness_and_not_in_sign():
  time = np.arange(1000) / 4000
  tone = lambda hertz, loud=1.0: loud * np.sin(2 * np.pi * hertz * time)
  sounds = [tone(440), -tone(440), tone(440, 0.5), tone(880), 0 * time]
  sounds = jnp.asarray(np.stack(sounds), jnp.float32)
  first = jnp.broadcast_to(sounds[:1], sounds.shape)
  same, negative, softer, higher, silence = ops.spectral_distance(sounds, first)
  assert same == 0 and negative < 1e-5
  assert 0 < softer < higher and silence > softer
  gradient = jax.grad(lambda x: ops.spectral_distance(x, first).sum())(
    jnp.zeros_like(sounds)
  )
  assert np.isfinite(gradient).all()


def test_silence_has_no_ratio():
  zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
  assert sound_quality.signal_to_noise(zeros, ones) == 0
  assert sound_quality.signal_to_noise(ones, zeros) == pytest.approx(0)
