"""Encoding and decoding images: what is refused, and what is measured."""

import dataclasses
import math
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import evaluators, models, tasks
from mmjax.data import preprocess, shapes_drawing
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths

CODEC = {'name': 'autoencoder', 'width': 4, 'groups': 2, 'num_blocks': 1}
CODEC |= {'multipliers': (1,), 'patch_size': 4, 'middle_attention': False}
FEATURE = {'image': {'kind': 'image', 'size': 12}}
METHODS = tasks.Reconstruct.methods


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'distance': 'cosine'}, "tasks.reconstruct.distance 'cosine' is unknown"),
    ({'perceptual': 1.0}, "perceptual=1.0, teacher='' and width=0 go together"),
    ({'teacher': 'runs/a', 'width': 3}, "teacher='runs/a' and width=3 go"),
    ({'adversarial_start': 5}, r'adversarial_start=5 is .*; set adversarial, '),
  ],
)
def test_settings_that_are_not_legal_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    tasks.Reconstruct(**settings).check()


def test_settings_of_diffusion_alone_do_not_go_with_tokens():
  tasks.DrawTokens().check()
  for name, value in {
    'schedule': 'cosine',
    'sampler': 'ddim',
    'time_sampler': 'logit_normal',
    'min_snr': 5.0,
  }.items():
    with pytest.raises(ConfigError, match=f'{name}=.* is of diffusion alone'):
      tasks.DrawTokens(**{name: value}).check()
  with pytest.raises(ConfigError, match='that was trained without a text'):
    tasks.DrawTokens(drop_condition=0.0).check()
  with pytest.raises(ConfigError, match='guidance=-1'):
    tasks.DrawTokens(guidance=-1.0).check()


def build(codebook, **more):
  config = {**CODEC, 'codebook': codebook, **more}
  return models.build(config, models.DataSizes(1))


def test_a_discriminator_and_its_loss_go_together():
  codebook = {'name': 'fsq', 'levels': (3, 4)}
  judge = {'name': 'patch', 'width': 2, 'groups': 2}
  with_it, without = build(codebook, discriminator=judge), build(codebook)
  check = lambda model, **settings: tasks.Reconstruct(**settings).evaluators(
    types.SimpleNamespace(model=model, prefix='')
  )
  with pytest.raises(
    ConfigError, match=r'set model\.discriminator, as in dict'
  ):
    check(without, adversarial=0.1)
  for refused in (lambda: check(with_it), with_it.check_single_tokens):
    with pytest.raises(ConfigError, match=r'set this, as in adversarial=0\.1'):
      refused()


def make_run(codebook):
  module = build(codebook)
  preprocessor = preprocess.Preprocessor(preprocess.build(FEATURE), None)
  batch = {'image': jnp.zeros((1, 12, 12, 3))}
  made = nn.meta.unbox(module.init(jax.random.key(0), batch, train=False))
  # The first images are gray.
  assert not np.any(module.apply(made, batch, method='reconstruct').values)
  head = made['params']['decoder']['head']
  head['kernel'] = jax.random.normal(jax.random.key(1), head['kernel'].shape)
  return types.SimpleNamespace(
    tasks={'reconstruct': tasks.Reconstruct()},
    module=module,
    preprocessor=preprocessor,
    prepare=preprocessor.prepare,
    predict=lambda make, batch, **settings: make(module, **settings)(
      made['params'], batch
    ),
  )


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)


def test_a_run_gives_tokens_and_takes_them_back():
  run = make_run({'name': 'fsq', 'levels': (3, 4)})
  ids = METHODS['encode_tokens'](run, IMAGES[:1])
  assert ids.shape == (1, 3, 3) and ids.dtype == np.int32
  decoded = METHODS['decode_tokens'](run, ids)
  assert decoded.dtype == np.uint8
  whole = METHODS['reconstruct'](run, IMAGES[0]).astype(int)
  np.testing.assert_allclose(decoded, whole, atol=1)  # Of rounding.
  for wrong in (-1, 12):
    with pytest.raises(ConfigError, match=f'the id {wrong} is not one of the'):
      METHODS['decode_tokens'](run, np.full((1, 3, 3), wrong))
  for wrong, said in ((ids[0], r'not int32 \[3, 3\]'), (ids + 0.5, 'float')):
    with pytest.raises(ConfigError, match=said):
      METHODS['decode_tokens'](run, wrong)
  with pytest.raises(ConfigError, match='has tokens; use encode_tokens'):
    METHODS['encode_latents'](run, IMAGES)


def test_a_run_of_several_codebooks_takes_the_first_alone():
  settings = {'name': 'rvq', 'size': 7, 'channels': 3, 'depth': 2}
  run = make_run(settings)
  ids = METHODS['encode_tokens'](run, IMAGES[:1])
  assert ids.shape == (1, 3, 3, 2)
  whole = METHODS['reconstruct'](run, IMAGES[0]).astype(int)
  decoded = METHODS['decode_tokens'](run, ids).astype(int)
  np.testing.assert_allclose(decoded, whole, atol=1)  # Of rounding.
  first = METHODS['decode_tokens'](run, ids[..., :1])
  assert first.shape == whole.shape and np.any(first != decoded)
  for wrong in (ids[..., 0], np.zeros((1, 3, 3, 3), int)):
    with pytest.raises(ConfigError, match=r'columns, 1 to 2 codebooks\], not'):
      METHODS['decode_tokens'](run, wrong)
  with pytest.raises(ConfigError, match='gives 2 ids a cell; the model writes'):
    run.module.check_single_tokens()
  # All that training moves beside gradients are parameters.
  batch = {'image': jnp.zeros((1, 12, 12, 3))}
  codes, params = jax.eval_shape(
    lambda key: run.module.init_with_output(
      key, batch, key, train=True, method='reconstruct'
    ),
    jax.random.key(0),
  )
  paths = tree_paths.flatten(nn.meta.unbox(params['params']))
  assert set(codes.codes.moves) == {p for p in paths if 'codebook' in p}


def test_a_run_of_latents_has_no_tokens():
  run = make_run({'name': 'gaussian', 'channels': 3})
  latents = METHODS['encode_latents'](run, list(IMAGES[:1]))
  assert latents.shape == (1, 3, 3, 3)
  decoded = METHODS['decode_latents'](run, latents)
  whole = METHODS['reconstruct'](run, IMAGES[0]).astype(int)
  np.testing.assert_allclose(decoded, whole, atol=1)
  with pytest.raises(ConfigError, match='has no tokens; use encode_latents'):
    METHODS['encode_tokens'](run, IMAGES)
  card = tasks.Reconstruct.predict_use
  (line,) = card.make_lines(run, {'image': IMAGES[0]}, [], 1)
  assert line.startswith('reconstruction: ') and 'dB' in line
  (true, _), (found, _) = card.draw(run, {'image': IMAGES[0]}, [])
  np.testing.assert_array_equal(true, IMAGES[0])
  np.testing.assert_array_equal(found, whole[0])


def test_the_evaluator_measures_pixels_and_codes():
  plain = np.full((12, 12, 3), 90, np.uint8)
  records = [
    {
      'id': str(i),
      'fields': {'image': shapes_drawing.encode_png(image)},
      'metadata': {},
    }
    for i, image in enumerate([IMAGES[0], plain, IMAGES[1]])
  ]
  evaluator = evaluators.Reconstructions(
    lambda params, batch: batch['image'] + params,
    lambda params, batch: jnp.stack(
      [jnp.zeros((2, 2), int), jnp.asarray([[1, 1], [0, 1]])]
    )[: len(batch['image'])],
    records,
    preprocess.Preprocessor(preprocess.build(FEATURE), None),
    feature='image',
    size=4,
    batch_size=2,
  )
  assert evaluator.render() is None
  found = dict(evaluator.run(jnp.asarray(0.0)))
  assert found['reconstruct/psnr'] == 100.0  # The most that counts.
  assert found['reconstruct/ssim'] == pytest.approx(1.0)
  assert found['reconstruct/used'] == 0.5
  # 9 and 3 of the 12 tokens.
  entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
  assert found['reconstruct/perplexity'] == pytest.approx(math.exp(entropy))
  assert 0 < found['reconstruct/plain_psnr'] < 50
  shifted = dict(evaluator.run(jnp.asarray(0.2)))  # 0.1 of the range.
  assert 19 < shifted['reconstruct/psnr'] < 24
  assert evaluator.render().width > 12


def test_the_perceptual_distance_is_of_a_frozen_models_space():
  objective = tasks.Reconstruct(
    perceptual=0.5, teacher='runs/judge', width=2
  ).objective({})
  target = jnp.asarray([1.0, 0.0])
  images = jnp.asarray([[3.0, 4.0]])  # Cosine 0.6 with the target.

  def loss(images):
    codes = types.SimpleNamespace(loss=jnp.zeros(1), moves={})
    found = types.SimpleNamespace(values=images[:, None, None], codes=codes)
    return objective(
      {},
      {'image': target[None, None, None]},
      apply=lambda *_, **__: found,
      rng=jax.random.key(0),
      apply_teacher=lambda b: {'perceptual_output': b['image'][:, 0, 0]},
      step=jnp.int32(0),
    )

  value, metrics = loss(images)
  np.testing.assert_allclose(metrics['perceptual'], 0.4, rtol=1e-5)
  np.testing.assert_allclose(value, (2 + 4) / 2 + 0.5 * 0.4, rtol=1e-5)
  # It draws the reconstruction to the target's direction.
  gradient = jax.grad(lambda x: loss(x)[1]['perceptual'])(images)
  assert gradient[0, 0] < 0 < gradient[0, 1]
  assert dataclasses.replace(objective, perceptual=1.0) != objective
