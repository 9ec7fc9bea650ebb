"""The sizes of images that a discriminator of patches judges."""

import jax
import numpy as np
import pytest

from mmjax import nn as mnn
from mmjax.errors import ConfigError


def test_images_without_a_logit_are_refused():
  module = mnn.PatchDiscriminator(2, num_layers=2, groups=2)

  def count(rows, columns):
    images = np.zeros((1, rows, columns, 3), np.float32)
    init = lambda key: module.init_with_output(key, images)[0]
    return jax.eval_shape(init, jax.random.key(0)).shape

  assert count(12, 25) == (1, 1, 4)
  with pytest.raises(ConfigError, match=r'11 x 25 pixels .* needs 12'):
    count(11, 25)
