"""Images that a language model writes are those of teacher forcing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.errors import ConfigError
from tests.tasks import image_token_cases

GRID = (2, 3)


def build(**changed):
  config = {**image_token_cases.JANUS, **changed}
  config['decoder'] = {**config['decoder'], 'block': {'rope_theta': 1e4}}
  config['vision'] = {**config['vision'], 'position_grid': GRID}
  return models.build(config, models.DataSizes(13, text_length=7))


@pytest.fixture(scope='module')
def batch():
  """Texts of three lengths, one with its padding in front."""
  text = np.random.default_rng(0).integers(2, 13, (3, 7))
  mask = np.arange(7)[None] < [[7], [4], [3]]
  mask[2] = mask[2, ::-1]
  return {'text': jnp.asarray(text), 'text_mask': jnp.asarray(mask)}


@pytest.fixture(scope='module')
def params(draw, batch):
  image = jnp.zeros((3, 6, 9, 3))
  made = draw(build(), {**batch, 'image': image}, train=False)['params']
  # An untrained model hardly depends on its text.
  louder = jax.tree.map(lambda x: 9 * x, made['decoder']['words'])
  return {**made, 'decoder': {**made['decoder'], 'words': louder}}


@pytest.mark.parametrize('guidance', [1.0, 0.0, 2.5])
def test_each_token_is_the_likeliest_by_teacher_forcing(
  params, batch, guidance
):
  apply = lambda *args, **named: build().apply(
    {'params': params}, *args, **named
  )
  ids = apply(
    batch, number=6, guidance=guidance, temperature=0.0, method='draw_tokens'
  ).reshape(3, *GRID)
  logits = lambda used: apply(
    ids, batch, jnp.full(3, used), method='predict_image_tokens'
  )
  void = logits(False)
  guided = void + guidance * (logits(True) - void)
  np.testing.assert_array_equal(jnp.argmax(guided, axis=-1), ids)
  assert np.abs(logits(True) - void).max() > 1e-2


def test_images_are_not_written_without_their_tokens(params, batch):
  def run(**changed):
    build(**changed).apply(
      {'params': params}, jnp.zeros((3, *GRID), int), batch,
      method='predict_image_tokens',
    )  # fmt: skip

  with pytest.raises(ConfigError, match=r'set model\.image_codes, and'):
    run(image_codes=None)
  codes = {**image_token_cases.JANUS['image_codes'], 'size': 9}
  with pytest.raises(ConfigError, match=r'size is 9, but the codebook .* 12'):
    run(image_codes=codes)
