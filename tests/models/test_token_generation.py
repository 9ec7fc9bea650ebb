"""What a language model writes as tokens is that of teacher forcing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.errors import ConfigError
from tests.tasks import token_cases

GRID = (2, 3)
GRIDS = {'image': GRID, 'sound': (1, 6)}
WRITES_BOTH = {**token_cases.SPEAKER, **token_cases.JANUS}


def build(**changed):
  config = {**WRITES_BOTH, **changed}
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


@pytest.mark.parametrize('kind', GRIDS)
@pytest.mark.parametrize('guidance', [1.0, 0.0, 2.5])
def test_each_token_is_the_likeliest_by_teacher_forcing(
  params, batch, guidance, kind
):
  apply = lambda *args, **named: build().apply(
    {'params': params}, *args, kind=kind, **named
  )
  ids = apply(
    batch, number=6, guidance=guidance, temperature=0.0, method='write_tokens'
  ).reshape(3, *GRIDS[kind])
  logits = lambda used: apply(
    ids, batch, jnp.full(3, used), method='predict_written_tokens'
  )
  void = logits(False)
  guided = void + guidance * (logits(True) - void)
  np.testing.assert_array_equal(jnp.argmax(guided, axis=-1), ids)
  assert np.abs(logits(True) - void).max() > 1e-2


def test_nothing_is_written_without_its_tokens(params, batch):
  def run(kind, **changed):
    build(**changed).apply(
      {'params': params}, jnp.zeros((3, *GRIDS[kind]), int), batch,
      kind=kind, method='predict_written_tokens',
    )  # fmt: skip

  with pytest.raises(ConfigError, match=r'set model\.image_codes, and'):
    run('image', image_codes=None)
  with pytest.raises(ConfigError, match=r'set model\.sound_codes, and'):
    run('sound', sound_autoencoder=None)
  codes = {**token_cases.JANUS['image_codes'], 'size': 9}
  with pytest.raises(ConfigError, match=r'size is 9, but the codebook .* 12'):
    run('image', image_codes=codes)
  rvq = {'name': 'rvq', 'size': 5, 'channels': 3, 'depth': 2}
  codec = {**token_cases.SOUND_CODEC, 'codebook': rvq}
  with pytest.raises(ConfigError, match='gives 2 ids a step; the model writes'):
    run('sound', sound_autoencoder=codec)
