"""Contrastive losses by hand, under masks and over devices."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax import objectives, ops

KINDS = ('softmax', 'sigmoid')
every_kind = pytest.mark.parametrize('kind', KINDS)
# Tiles of one, that don't divide the six pairs, and of more than there are.
tiled = pytest.mark.parametrize(
  'settings', [{'tile': 1}, {'tile': 4}, {'tile': 7}, {'ring': True}]
)
# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def outputs(size=6, width=5, seed=0):
  rng = np.random.default_rng(seed)

  def unit():
    x = rng.normal(size=(size, width))
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), 'float32')

  return {
    'image_embedding': unit(),
    'text_embedding': unit(),
    'logit_scale': jnp.asarray(3.0),
    'logit_bias': jnp.asarray(-1.5),
  }


def batch(image=(1,) * 6, text=(1,) * 6):
  image, text = jnp.asarray(image, bool), jnp.asarray(text, bool)
  return {
    'image': jnp.zeros((len(image), 1, 1, 3)),
    'image_mask': image,
    'text': jnp.zeros((len(text), 2), int),
    'text_mask': jnp.stack([text, text], axis=1),
  }


def run(kind, outputs, batch, axis_name=None, **settings):
  return objectives.Contrastive(kind, **settings)(
    outputs, batch, apply=dict, rng=jax.random.key(0), axis_name=axis_name
  )


def gradient(kind, outputs, batch, **settings):
  return jax.grad(lambda o: run(kind, o, batch, **settings)[0])(outputs)


TWO = {
  'image_embedding': jnp.eye(2),
  'text_embedding': jnp.asarray([[1.0, 0.0], [0.6, 0.8]]),
  'logit_scale': jnp.asarray(2.0),
  'logit_bias': jnp.asarray(-1.0),
}


def test_clip_by_hand():
  # Logits [[2, 1.2], [0, 1.6]]: rows are images.
  loss, metrics = run('softmax', TWO, batch((1, 1), (1, 1)))
  to_text = np.log1p(np.exp(-0.8)) + np.log1p(np.exp(-1.6))
  to_image = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-0.4))
  close(loss, (to_text + to_image) / 4)
  assert metrics['accuracy'] == 1
  assert metrics['logit_scale'] == 2


def test_siglip_by_hand():
  # Logits [[1, 0.2], [-1, 0.6]]; off the diagonal they should be negative.
  loss, metrics = run('sigmoid', TWO, batch((1, 1), (1, 1)))
  losses = np.log1p(np.exp([-1.0, 0.2, -1.0, -0.6]))
  close(loss, losses.sum() / 2)
  assert metrics['accuracy'] == 1


def test_losses_agree_with_optax():
  out, labels = outputs(), jnp.arange(6)
  logits = 3 * out['image_embedding'] @ out['text_embedding'].T
  cross = optax.softmax_cross_entropy_with_integer_labels
  expected = (cross(logits, labels) + cross(logits.T, labels)).mean() / 2
  close(run('softmax', out, batch())[0], expected)
  pairs = optax.sigmoid_binary_cross_entropy(logits - 1.5, jnp.eye(6))
  close(run('sigmoid', out, batch())[0], pairs.sum() / 6)


def test_accuracy_counts_images_whose_text_comes_first():
  out = {**TWO, 'text_embedding': jnp.asarray([[0.0, 1.0], [0.6, 0.8]])}
  for kind in KINDS:
    _, metrics = run(kind, out, batch((1, 1), (1, 1)))
    # Both images are nearest to their wrong text, or the second to its own.
    assert metrics['accuracy'] == 0


@every_kind
@pytest.mark.parametrize('garbage', [1e4, np.nan])
def test_absent_pairs_are_as_if_they_were_not_there(kind, garbage):
  image, text = (1, 0, 1, 1, 1, 0), (1, 1, 1, 0, 1, 0)
  there = np.asarray([0, 2, 4])
  out = outputs()
  few = {k: v[there] if v.ndim else v for k, v in out.items()}
  expected, metrics = run(kind, few, batch((1,) * 3, (1,) * 3))
  spoilt = {
    k: v.at[jnp.asarray([1, 3, 5])].set(garbage) if v.ndim else v
    for k, v in out.items()
  }
  masked = batch(image, text)
  loss, metrics_of = run(kind, spoilt, masked)
  close(loss, expected)
  close(metrics_of['accuracy'], metrics['accuracy'])
  given = gradient(kind, spoilt, masked)
  for name, leaf in gradient(kind, few, batch((1,) * 3, (1,) * 3)).items():
    close(given[name][there] if leaf.ndim else given[name], leaf)
  assert not given['image_embedding'][np.asarray([1, 3, 5])].any()
  assert objectives.Contrastive(kind).count(masked) == 3


@every_kind
def test_without_any_pair_loss_and_gradient_are_zero(kind):
  masked = batch(image=(0,) * 6)
  loss, metrics = run(kind, outputs(), masked)
  assert loss == 0
  assert metrics['accuracy'] == 0
  for leaf in gradient(kind, outputs(), masked).values():
    np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
  assert objectives.Contrastive(kind).count(masked) == 0


@every_kind
def test_the_order_of_pairs_changes_nothing(kind):
  order = np.random.default_rng(0).permutation(6)
  there = np.asarray([1, 1, 0, 1, 1, 1])
  out = outputs()
  mixed = {k: v[order] if v.ndim else v for k, v in out.items()}
  close(
    run(kind, mixed, batch(there[order]))[0], run(kind, out, batch(there))[0]
  )


@every_kind
def test_devices_together_give_the_global_loss(kind):
  """Two devices of three pairs, one of which lacks a text."""
  params = outputs(width=4)
  mapping = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)), 'float32')
  given = batch(text=(1, 1, 1, 0, 1, 1))
  objective = objectives.Contrastive(kind)
  shared = ('logit_scale', 'logit_bias')

  def embed(mapping, out):
    image = ops.unit_norm(out['image_embedding'] @ mapping)
    return {**out, 'image_embedding': image}

  def whole(mapping):
    return run(kind, embed(mapping, params), given)[0]

  def split(x):
    return x.reshape(2, 3, *x.shape[1:])

  def by_device(mapping):
    def one(out, batch):
      out = {**out, **{name: params[name] for name in shared}}
      loss, _ = run(kind, embed(mapping, out), batch, axis_name='data')
      return loss, objective.count(batch)

    rows = {k: split(v) for k, v in params.items() if k not in shared}
    losses, counts = jax.vmap(one, axis_name='data')(
      rows, jax.tree.map(split, given)
    )
    assert counts.shape == (2,)
    return jnp.sum(losses * counts) / jnp.sum(counts)

  loss, grad = jax.value_and_grad(whole)(mapping)
  loss_of, grad_of = jax.value_and_grad(by_device)(mapping)
  close(loss_of, loss)
  close(grad_of, grad)


@every_kind
@tiled
def test_tiles_give_the_plain_loss_and_gradient(kind, settings):
  out = outputs()

  @jax.jit
  def compute(out, given):
    loss = lambda out: run(kind, out, given, **settings)
    return jax.value_and_grad(loss, has_aux=True)(out)

  for text in ((1,) * 6, (1, 1, 1, 0, 1, 0)):
    given = batch(text=text)
    (loss, metrics), grad = compute(out, given)
    expected, expected_metrics = run(kind, out, given)
    close(loss, expected)
    close(metrics['accuracy'], expected_metrics['accuracy'])
    jax.tree.map(close, grad, gradient(kind, out, given))
  (loss, metrics), grad = compute(out, batch(text=(0,) * 6))
  assert loss == metrics['accuracy'] == 0
  for leaf in grad.values():
    np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


@every_kind
def test_of_equal_candidates_the_first_one_counts_in_tiles_too(kind):
  out = {**outputs(), 'text_embedding': jnp.ones((6, 5)) * 5**-0.5}
  # All texts are the same, so only the first image has its own come first.
  for settings in ({}, {'tile': 2}, {'tile': 4}, {'ring': True}):
    _, metrics = run(kind, out, batch(), **settings)
    close(metrics['accuracy'], 1 / 6)


@every_kind
def test_memory_of_tiles_grows_with_the_batch_not_its_square(kind):
  def temporaries(size, **settings):
    out, given = outputs(size), batch((1,) * size, (1,) * size)
    step = jax.jit(jax.grad(lambda o: run(kind, o, given, **settings)[0]))
    # As users compile.
    options = {'xla_backend_optimization_level': 3}
    compiled = step.lower(out).compile(compiler_options=options)
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries(2048) > 3.5 * temporaries(1024)
  assert temporaries(2048, tile=16) < 2.1 * temporaries(1024, tile=16)
  assert temporaries(2048, tile=16) < temporaries(2048) / 20


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices.py')


def test_the_softmax_gradient_is_that_of_the_formula():
  """Which the loss of global arrays doesn't differentiate as it stands."""
  present = batch(image=(1, 1, 0, 1, 1, 1), text=(1, 1, 1, 1, 0, 1))
  there = np.asarray([0, 1, 3, 5])

  def formula(outputs):
    image = outputs['image_embedding'][there]
    text = outputs['text_embedding'][there]
    logits = outputs['logit_scale'] * image @ text.T
    right = jnp.arange(len(there))
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    to_text = cross_entropy(logits, right).mean()
    return (to_text + cross_entropy(logits.T, right).mean()) / 2

  want = jax.grad(formula)(outputs())
  got = gradient('softmax', outputs(), present)
  jax.tree.map(close, got, want)
  # Any weight of the loss is one of its gradient.
  twice = jax.grad(lambda o: 2 * run('softmax', o, present)[0])(outputs())
  jax.tree.map(close, twice, jax.tree.map(lambda leaf: 2 * leaf, want))


def test_an_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="kind='hinge' is unknown; use 'softmax"):
    objectives.Contrastive('hinge')


def test_a_negative_tile_is_refused():
  with pytest.raises(ValueError, match='tile=-1 should be at least 1'):
    objectives.Contrastive(tile=-1)


def test_a_missing_modality_is_named():
  with pytest.raises(KeyError, match="needs 'image'"):
    objectives.Contrastive().count({'text': jnp.zeros((2, 3))})
