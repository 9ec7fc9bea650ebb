"""Losses on written texts and on picked answers, by hand and under masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax import objectives

# Sums in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
LOGITS = jnp.asarray(
  np.random.default_rng(0).normal(size=(3, 4, 7)), jnp.float32
)
IDS = jnp.asarray([[1, 4, 2, 0, 0], [1, 5, 6, 3, 2], [1, 3, 3, 2, 0]])
MASK = jnp.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
LABELS = jnp.asarray([3, -1, 6])

MADE = {
  'captioning': (objectives.CaptionGeneration, 'caption_logits', 'text'),
  'vqa_generation': (
    objectives.AnswerGeneration,
    'answer_token_logits',
    'answer',
  ),
  'vqa_classification': (objectives.AnswerClassification, 'answer_logits', ''),
}
every_objective = pytest.mark.parametrize('name', MADE)


def batch(image=(1, 1, 1)):
  return {
    'image': jnp.zeros((3, 1, 1, 3)),
    'image_mask': jnp.asarray(image, bool),
    'text': IDS,
    'text_mask': MASK,
    'question': IDS,
    'question_mask': MASK,
    'answer': IDS,
    'answer_mask': MASK,
    'label': LABELS,
  }


def logits_of(name):
  return LOGITS[:, 0] if name == 'vqa_classification' else LOGITS


def run(name, logits, batch, **settings):
  cls, output, _ = MADE[name]
  objective = cls(**settings)
  loss, metrics = objective(
    {output: logits}, batch, apply=dict, rng=jax.random.key(0)
  )
  metrics.pop('items')
  return loss, metrics, objective.count(batch)


def by_loop(name, present, smoothing=0.0):
  """The mean over items, and their number."""
  log_probs = np.log(np.asarray(jax.nn.softmax(logits_of(name))))
  losses = []
  for b in np.flatnonzero(present):
    if name == 'vqa_classification':
      targets = [(log_probs[b], int(LABELS[b]))] if LABELS[b] >= 0 else []
    else:
      targets = [
        (log_probs[b, t - 1], int(IDS[b, t])) for t in range(1, 5) if MASK[b, t]
      ]
    for row, target in targets:
      losses.append(-(1 - smoothing) * row[target] - smoothing * row.mean())
  return np.mean(losses), len(losses)


@every_objective
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('image', [(1, 1, 1), (1, 1, 0)])
def test_losses_equal_a_loop(name, smoothing, image):
  loss, _, count = run(
    name, logits_of(name), batch(image), label_smoothing=smoothing
  )
  expected, number = by_loop(name, image, smoothing)
  close(loss, expected)
  assert count == number
  assert count.dtype == jnp.float32


@pytest.mark.parametrize('name', ['vqa_generation', 'vqa_classification'])
def test_several_questions_an_image_count_as_many_examples(name):
  flat = batch(image=(1, 1, 0))
  about = ('question', 'answer', 'label')
  wide = {
    key: jnp.stack([value, jnp.roll(value, 1, axis=0)], axis=1)
    if key.startswith(about)
    else value
    for key, value in flat.items()
  }
  logits = logits_of(name)
  loss, _, count = run(name, jnp.stack([logits, 2 * logits], axis=1), wide)
  long = {
    key: jnp.concatenate([value, jnp.roll(value, 1, axis=0)])
    if key.startswith(about)
    else jnp.concatenate([value, value])
    for key, value in flat.items()
  }
  expected, _, n = run(name, jnp.concatenate([logits, 2 * logits]), long)
  close(loss, expected)
  assert count == n > 0


def test_smoothing_agrees_with_optax():
  one_hot = optax.smooth_labels(jax.nn.one_hot(IDS[:, 1:], 7), 0.3)
  close(
    objectives.cross_entropy(LOGITS, IDS[:, 1:], 0.3),
    optax.softmax_cross_entropy(LOGITS, one_hot),
  )


@every_objective
def test_padded_and_absent_items_have_no_influence(name):
  given = batch(image=(1, 1, 0))
  logits = logits_of(name)
  if name == 'vqa_classification':
    absent = jnp.asarray([False, True, True])
  else:
    absent = ~(MASK & given['image_mask'][:, None])[:, 1:]
  spoilt = jnp.where(absent[..., None], jnp.nan, logits)
  grad = jax.grad(lambda x: run(name, x, given)[0])
  assert run(name, spoilt, given)[0] == run(name, logits, given)[0]
  np.testing.assert_array_equal(grad(spoilt), grad(logits))


@every_objective
def test_rows_that_fill_up_a_batch_do_not_count(name):
  filled = {**batch(), 'mask': jnp.asarray([True, True, False])}
  assert (
    run(name, logits_of(name), filled)[0]
    == (run(name, logits_of(name), batch((1, 1, 0)))[0])
  )


@every_objective
def test_without_any_item_loss_and_gradient_are_zero(name):
  given = batch(image=(0, 0, 0))
  loss, metrics, count = run(name, logits_of(name), given)
  assert loss == count == 0
  assert set(map(float, metrics.values())) == {0.0}
  grad = jax.grad(lambda x: run(name, x, given)[0])(logits_of(name))
  np.testing.assert_array_equal(grad, np.zeros(grad.shape))


@pytest.mark.parametrize('name', ['vqa_generation', 'vqa_classification'])
def test_a_blind_baseline_needs_no_image(name):
  given = batch(image=(0, 0, 0))
  loss, _, count = run(name, logits_of(name), given, needs_image=False)
  expected, number = by_loop(name, (1, 1, 1))
  close(loss, expected)
  assert count == number
  del given['image'], given['image_mask']
  assert run(name, logits_of(name), given, needs_image=False)[0] == loss


@every_objective
def test_accuracy_by_hand(name):
  # All right but the first example's first token, or its answer.
  labels = jnp.maximum(LABELS, 0)
  targets = labels if name == 'vqa_classification' else IDS[:, 1:]
  logits = jax.nn.one_hot(targets, 7)
  first = (0,) * (logits.ndim - 1)
  logits = logits.at[first].set(jnp.eye(7)[1])
  _, metrics, count = run(name, logits, batch())
  ((key, accuracy),) = metrics.items()
  assert key.endswith('accuracy')
  close(accuracy, (count - 1) / count)


@every_objective
def test_accumulated_parts_equal_the_whole(name):
  whole, _, _ = run(name, logits_of(name), batch())
  parts = [
    run(
      name,
      logits_of(name)[i : i + 1],
      {k: v[i : i + 1] for k, v in batch().items()},
    )
    for i in range(3)
  ]
  counts = np.asarray([count for _, _, count in parts])
  losses = np.asarray([loss for loss, _, _ in parts])
  close(np.sum(losses * counts) / counts.sum(), whole)


def test_items_give_the_loss_of_every_objective():
  outputs = {output: logits_of(name) for name, (_, output, _) in MADE.items()}
  given = batch(image=(1, 1, 0)) | {
    'age': jnp.asarray([0.5, 2.0, 9.0]),
    'age_mask': jnp.asarray([True, True, False]),
  }
  outputs['age_output'] = jnp.asarray([[1.0], [2.0], [jnp.nan]])
  outputs['label_output'] = LOGITS[:, 0]
  others = (
    objectives.TextGeneration(target='text'),
    objectives.Regression('age'),
    objectives.Classification('label'),
  )
  outputs['text_logits'] = LOGITS
  for objective in (*(cls() for cls, *_ in MADE.values()), *others):
    loss, metrics = objective(outputs, given, apply=dict, rng=jax.random.key(0))
    items = metrics['items']
    assert items.mask.shape[0] == 3
    assert items.mask.sum() == objective.count(given) > 0
    kept = np.asarray(items.losses)[np.asarray(items.mask)]
    close(kept.mean(), loss)
