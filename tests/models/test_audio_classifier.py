"""An audio classifier sees the summary alone, and may have no classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders, models

SMALL = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
SOUND = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 13, 5)), jnp.float32
)
MASK = jnp.arange(13)[None] < jnp.asarray([13, 8])[:, None]


@pytest.mark.parametrize(
  'encoder, mask',
  [
    (encoders.AudioTransformer(max_length=9, **SMALL), MASK),
    (
      encoders.SpectrogramTransformer(patch_size=3, **SMALL),
      jnp.asarray([True, True]),
    ),
  ],
  ids=['frames', 'patches'],
)
def test_every_audio_encoder_fits(encoder, mask, draw):
  batch = {'spectrogram': SOUND, 'spectrogram_mask': mask}
  model = models.AudioClassifier(encoder, num_classes=3)
  variables = draw(model, batch, train=False)
  out = jax.jit(functools.partial(model.apply, train=False))(variables, batch)
  assert out['class_logits'].shape == (2, 3)
  assert out['class_logits'].dtype == jnp.float32
  params = variables['params']
  pooled = out['audio_tokens'].pooled
  normal = (pooled - pooled.mean(-1, keepdims=True)) / jnp.sqrt(
    pooled.var(-1, keepdims=True) + 1e-6
  )
  normal = normal * params['classifier_norm']['scale'][None]
  normal = normal + params['classifier_norm']['bias'][None]
  want = normal @ params['classifier']['kernel']
  want = want + params['classifier']['bias'][None]
  np.testing.assert_allclose(out['class_logits'], want, rtol=1e-4, atol=1e-5)
  alone = models.AudioClassifier(encoder)
  del params['classifier'], params['classifier_norm']
  got = alone.apply({'params': params}, batch, train=False)
  assert set(got) == {'audio_tokens'}
