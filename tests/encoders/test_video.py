"""Videos, cut into tubelets or frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import encoders

make = functools.partial(
  encoders.VideoTransformer, 3, 2, 4, width=8, depth=1, num_heads=2, mlp_dim=7
)
VIDEOS = jnp.asarray(
  np.random.default_rng(0).normal(size=(3, 4, 6, 9, 3)), jnp.float32
)
MASK = jnp.asarray([True, True, False])


@pytest.fixture(scope='module')
def made(draw):
  module = make(pool_norm_epsilon=1e-5)
  variables = draw(module, VIDEOS, MASK, train=False)
  return variables, jax.jit(functools.partial(module.apply, train=False))


def test_tubelets_go_frames_first_then_rows_then_columns(draw):
  module = make(depth=0, final_norm=False)
  variables = draw(module, VIDEOS, train=False)
  values = module.apply(variables, VIDEOS, train=False).values
  # Frames 2 and 3, row 0, column 1.
  changed = VIDEOS.at[:, 3, 2, 4].add(1.0)
  other = module.apply(variables, changed, train=False).values
  (places,) = np.nonzero(np.any(np.asarray(values != other), axis=(0, 2)))
  assert places.tolist() == [6 + 1]


def test_time_counts(made):
  variables, apply = made
  back = apply(variables, VIDEOS[:, ::-1], MASK)
  assert not np.allclose(back.pooled, apply(variables, VIDEOS, MASK).pooled)


@pytest.mark.parametrize(
  ('shape', 'settings', 'message'),
  [
    ((1, 6, 6, 9, 3), {}, 'has 6 frames, but num_frames is 4'),
    ((1, 4, 7, 9, 3), {}, 'height 7 is not divisible by 3, .* use 6'),
    ((1, 3, 6, 9, 3), {'num_frames': 3}, 'frames 3 is not divisible by 2'),
    ((1, 4, 6, 9, 3), {'pooling': 'max'}, "pool 'max' is unknown"),
  ],
)
def test_what_does_not_fit_is_refused(shape, settings, message):
  settings = {'patch_size': 3, 'tubelet_size': 2, 'num_frames': 4, **settings}
  sizes = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 7}
  module = encoders.VideoTransformer(**settings, **sizes)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), jnp.zeros(shape), train=False)
    )


def test_frames_are_averaged(draw):
  image = encoders.ViT(3, 8, 0, 2, 7, position_grid=(2, 3))
  module = encoders.FrameEncoder(image, 8, final_norm=False)
  variables = draw(module, VIDEOS, train=False)
  mask = jnp.ones((3, 4), bool).at[1, 2:].set(False)
  out = module.apply(variables, VIDEOS, mask, train=False)
  alone = {'params': variables['params']['image']}
  for frame in (0, 1):
    one = image.apply(alone, VIDEOS[:, frame], train=False)
    # Products of other shapes, in float32.
    np.testing.assert_allclose(
      out.values[1, frame], one.pooled[1], rtol=1e-4, atol=1e-5
    )
  np.testing.assert_allclose(
    out.pooled[1], out.values[1, :2].mean(axis=0), rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(
  ('settings', 'mask', 'message'),
  [
    ({'width': 6}, None, 'have width 8, but that over time is 6'),
    ({'tubelet_size': 3}, None, "4 is not divisible by 3, a tubelet's; use 3"),
    ({'depth': 1, 'max_length': 3}, None, 'makes 4 tokens, more than 3'),
    ({}, jnp.ones((3, 5), bool), r'\[B, F\], .* or \[B\], .* shape \[3, 5\]'),
  ],
)
def test_frames_that_do_not_fit_are_refused(settings, mask, message):
  settings = {'width': 8, 'num_heads': 2, 'mlp_dim': 7, **settings}
  module = encoders.FrameEncoder(
    encoders.ViT(3, 8, 0, 2, 7, position_grid=(2, 3)), **settings
  )
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda: module.init(jax.random.key(0), VIDEOS, mask, train=False)
    )
