"""Quality of images, as scikit-image computes it."""

import numpy as np
import pytest
import skimage.metrics

from mmjax.errors import ConfigError
from mmjax.metrics import image_quality

RNG = np.random.default_rng(0)
A = RNG.uniform(size=(3, 13, 17, 3))
B = np.clip(A + 0.1 * RNG.normal(size=A.shape), 0, 1)


def test_the_signal_to_noise_ratio_is_that_of_each_image():
  want = [
    skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
    for a, b in zip(A, B, strict=True)
  ]
  np.testing.assert_allclose(image_quality.peak_signal_to_noise(A, B), want)
  assert np.all(np.isinf(image_quality.peak_signal_to_noise(A, A)))


def test_structural_similarity_has_the_window_of_the_paper():
  want = [
    skimage.metrics.structural_similarity(
      a,
      b,
      data_range=1.0,
      channel_axis=-1,
      gaussian_weights=True,
      sigma=1.5,
      use_sample_covariance=False,
    )
    for a, b in zip(A, B, strict=True)
  ]
  found = image_quality.structural_similarity(A, B)
  np.testing.assert_allclose(found, want, atol=1e-9)
  np.testing.assert_allclose(image_quality.structural_similarity(A, A), 1)
  with pytest.raises(ConfigError, match='at least 11 pixels a side, got 9 x 7'):
    image_quality.structural_similarity(A[:, :9, :7], B[:, :9, :7])
