"""Classes of images, by any encoder."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders, models

IMAGES = jnp.asarray(
  np.random.default_rng(0).normal(size=(3, 4, 6, 3)), jnp.float32
)
BATCH = {'image': IMAGES}


def classifier(num_classes, patches_from=None):
  image = encoders.ViT(
    2, 8, 1, 2, 7, position_grid=(2, 3), class_token=True, pooling='first'
  )
  return models.Classifier(image, num_classes, patches_from=patches_from)


@pytest.mark.parametrize('patches_from', [None, 1])
def test_the_classifier_is_linear_in_what_it_sees(patches_from, draw):
  model = classifier(5, patches_from)
  variables = draw(model, BATCH, train=False)
  out = model.apply(variables, BATCH, train=False)
  tokens = out['tokens']
  seen = [tokens.pooled]
  if patches_from is not None:
    seen.append(tokens.values[:, patches_from:].mean(axis=1))
  layer = variables['params']['classifier']
  want = jnp.concatenate(seen, axis=1) @ layer['kernel'] + layer['bias'][None]
  np.testing.assert_allclose(out['class_logits'], want, rtol=1e-5, atol=1e-5)
  alone = model.apply(variables, IMAGES[1:2], method='classify')
  np.testing.assert_allclose(alone, want[1:2], rtol=1e-4, atol=1e-5)


def test_without_classes_there_is_no_classifier(draw):
  model = classifier(0)
  variables = draw(model, BATCH, train=False)
  assert variables['params'].keys() == {'encoder'}
  assert model.apply(variables, BATCH, train=False).keys() == {'tokens'}


SOUND = jnp.asarray(
  np.random.default_rng(0).normal(size=(2, 13, 5)), jnp.float32
)
FRAMES = jnp.arange(13)[None] < jnp.asarray([13, 8])[:, None]


@pytest.mark.parametrize(
  ('encoder', 'mask'),
  [
    (encoders.AudioTransformer(8, 1, 2, 7, max_length=9), FRAMES),
    (
      encoders.SpectrogramTransformer(8, 1, 2, 7, patch_size=3, num_bands=5),
      jnp.asarray([True, True]),
    ),
  ],
  ids=['frames', 'patches'],
)
def test_the_summary_of_sounds_is_normalised(encoder, mask, draw):
  batch = {'spectrogram': SOUND, 'spectrogram_mask': mask}
  model = models.Classifier(
    encoder, 3, modality='spectrogram', norm_epsilon=1e-6
  )
  variables = draw(model, batch, train=False)
  out = model.apply(variables, batch, train=False)
  params, pooled = variables['params'], out['tokens'].pooled
  normal = (pooled - pooled.mean(-1, keepdims=True)) / jnp.sqrt(
    pooled.var(-1, keepdims=True) + 1e-6
  )
  normal = normal * params['classifier_norm']['scale'][None]
  normal = normal + params['classifier_norm']['bias'][None]
  want = normal @ params['classifier']['kernel']
  want = want + params['classifier']['bias'][None]
  np.testing.assert_allclose(out['class_logits'], want, rtol=1e-4, atol=1e-5)
