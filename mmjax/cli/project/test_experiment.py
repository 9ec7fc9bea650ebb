"""The experiment trains, and its run can be opened and used; run `pytest`."""

import config
import experiment
import jax
import jax.numpy as jnp
import numpy as np

import mmjax


def test_absent_images_are_masked():
  encoder = experiment.PatchEncoder(width=5, patch_size=2)
  images, there = jnp.ones((3, 4, 6, 3)), jnp.array([True, False, True])
  variables = encoder.init(jax.random.key(0), images, train=False)
  tokens = encoder.apply(variables, images, there, train=False)
  assert tokens.values.shape == (3, 6, 5)
  assert tokens.mask.sum(axis=1).tolist() == [6, 0, 6]
  np.testing.assert_array_equal(tokens.pooled[1], np.zeros(5))


def test_a_run_trains_and_is_opened_again(tmp_path):
  history = mmjax.train(config.get_config('tiny'), experiment, tmp_path)
  assert np.isfinite(history['loss'].values).all()
  run = mmjax.load(tmp_path)
  vectors = run.encode_image([np.zeros((16, 16, 3), np.uint8)])
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-5)
