"""What every task keeps to, those of `tasks.TASKS`."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models, ops, tasks
from mmjax.data import preprocess, tokenizers
from mmjax.types import ScheduledObjective, TaughtObjective
from tests.tasks import token_cases

BATCH, ANSWERS = 5, 3
LENGTHS = {'text': 7, 'question': 6, 'answer': 5, 'note': 5, 'turns': 7}
LENGTHS |= {'pair': 7, 'pair_rejected': 7}
STACK = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_dim': 11}
STACK |= {'block': {'attention_bias': ('query', 'value', 'out')}}
# What is added to all keys alike changes no attention weight: its gradient is a
# rounding error. Only the decoder of patches has such a bias here.
UNREACHED = ("['key']['bias']",)
VIT = {'name': 'vit', 'patch_size': 3, **STACK}
WORDS = {'name': 'transformer', **STACK}
DIT = {'name': 'dit', 'patch_size': 3, **STACK}
DECODER = {'name': 'text', **STACK}
CAUSAL = {'name': 'language_model'}
CAUSAL |= {'decoder': {**DECODER, 'cross_attention': False}}
CONCAT = {'name': 'concat', **STACK}
IMAGE = {'name': 'multimodal', 'encoders': {'image': VIT}}
BOTH = {
  'name': 'multimodal',
  'encoders': {'image': VIT, 'text': WORDS},
  'fusion': CONCAT,
}
QUESTIONS = {
  'name': 'encoder_decoder',
  'image': VIT,
  'question': WORDS,
  'fusion': {'name': 'cross_attention', 'query': 'question', **STACK},
}
TOWERS = {'name': 'dual_encoder', 'embed_dim': 3, 'image': VIT, 'text': WORDS}
LABELS = {'classify': {'target': 'kind'}}
RNG = jax.random.key(3)
# The same sum in another order, in float32.
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class Case:
  """A task with a model that it trains.

  Attributes:
    settings: of the task.
    model: config of the model.
    beside: further tasks that the task needs, with their settings.
    task: name of the task; '' for the case's own.
    fixed: parts of the paths of parameters that get no gradient.
  """

  settings: Mapping[str, Any]
  model: Mapping[str, Any]
  beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  task: str = ''
  fixed: Sequence[str] = ()


CASES = {
  'contrastive': Case({}, TOWERS),
  'align': Case(
    {'features': ['image', 'text', 'note'], 'kind': 'sigmoid'},
    {
      'name': 'multimodal',
      'embed_dim': 3,
      'encoders': {'image': VIT, 'text': WORDS, 'note': WORDS},
      'logit_scale_init': 3.0,
      'logit_bias_init': -1.0,
    },
  ),
  'classify': Case(LABELS['classify'], IMAGE),
  'several_classes': Case({'target': 'tags'}, IMAGE, task='classify'),
  'unimodal': Case(
    {'target': 'kind', 'weights': {'image': 0.5, 'text': 1.0}},
    {**BOTH, 'fusion': {'name': 'mean_decision'}, 'unimodal_outputs': True},
  ),
  'pseudo_labels': Case({'target': 'kind', 'threshold': 0.0}, IMAGE, LABELS),
  'mean_teacher': Case({'target': 'kind', 'ramp_steps': 5}, IMAGE, LABELS),
  'distill': Case({'target': 'kind', 'teacher': 'frozen'}, IMAGE),
  'distill_features': Case(
    {'target': 'image', 'teacher': 'frozen', 'kind': 'features', 'width': 3},
    IMAGE,
    task='distill',
  ),
  'regress': Case({'target': 'size', 'kind': 'huber'}, IMAGE),
  'match': Case({}, BOTH),
  'masked': Case({'feature': 'text', 'fraction': 0.4}, BOTH),
  'masked_patches': Case(
    {
      'feature': 'image',
      # Of 4 patches two are visible: attention to one alone has no gradient.
      'fraction': 0.5,
      'decoder_width': 8,
      'decoder_depth': 1,
      'decoder_heads': 2,
    },
    IMAGE,
    task='masked',
  ),
  'draw': Case(
    {'drop_condition': 0.5, 'min_snr': 5.0, 'time_sampler': 'logit_normal'},
    {**DIT, 'text': {**WORDS, 'pooling': 'mean'}},
  ),
  'draw_epsilon': Case(
    {'schedule': 'cosine', 'prediction': 'epsilon', 'drop_condition': 0.5},
    {**DIT, 'text': {**WORDS, 'pooling': 'mean'}},
    task='draw',
  ),
  'prior': Case(
    {'drop_condition': 0.5},
    {
      'name': 'unclip',
      'towers': TOWERS,
      'prior': {'name': 'prior', **STACK, 'embed_dim': 3},
    },
    fixed=('towers', "['prior']['mean']", "['prior']['std']"),
  ),
  'unclip': Case(
    {'drop_condition': 0.5},
    {
      'name': 'unclip',
      'towers': TOWERS,
      'generator': {**DIT, 'embedding_feature': 'image_embedding'},
    },
    fixed=('towers',),
  ),
  'translate': Case(
    {'target': 'note', 'label_smoothing': 0.1}, {**BOTH, 'decoder': DECODER}
  ),
  'chat': Case({'max_new_tokens': 3}, CAUSAL),
  'prefer': Case({'max_new_tokens': 3, 'label_smoothing': 0.1}, CAUSAL),
  'captioning': Case(
    {}, {'name': 'encoder_decoder', 'image': VIT, 'decoder': DECODER}
  ),
  'vqa_classification': Case({}, QUESTIONS),
  'vqa_generation': Case({}, {**QUESTIONS, 'decoder': DECODER}),
}
CASES |= {
  name: Case(settings, model, fixed=fixed)
  for name, (settings, model, fixed) in token_cases.CASES.items()
}
every_task = pytest.mark.parametrize('name', CASES)


def task_name(name):
  return CASES[name].task or name


def make_features():
  """Fitted features by name."""
  image = {'kind': 'image', 'size': 6}
  kind = {'kind': 'category', 'classes': ('a', 'b', 'c')}
  built = preprocess.build(
    {
      'image': image,
      'strong': {**image, 'field': 'image'},
      'other': {**image, 'field': 'image'},
      'text': {'kind': 'text', 'length': LENGTHS['text']},
      'note': {'kind': 'text', 'length': LENGTHS['note']},
      'turns': {'kind': 'turns', 'length': LENGTHS['turns']},
      'pair': {'kind': 'preference', 'length': LENGTHS['pair']},
      'kind': kind,
      'tags': {**kind, 'multi_label': True},
      'size': {'kind': 'vector', 'mean': (0.0, 1.0), 'std': (1.0, 2.0)},
      'sound': token_cases.SOUND,
    }
  )
  tokenizer = tokenizers.make_byte_tokenizer()
  for name in ('text', 'note', 'turns', 'pair'):
    built[name] = dataclasses.replace(built[name], tokenizer=tokenizer)
  return built


def make_batch():
  """Examples with all fields; texts are of several lengths."""
  rng = np.random.default_rng(0)
  batch = {
    name: rng.normal(size=(BATCH, 6, 6, 3)).astype(np.float32)
    for name in ('image', 'strong', 'other')
  }
  batch |= {
    'kind': rng.integers(0, 3, BATCH).astype(np.int32),
    'tags': rng.integers(0, 2, (BATCH, 3)).astype(np.float32),
    'size': rng.normal(size=(BATCH, 2)).astype(np.float32),
    'label': rng.integers(0, ANSWERS, BATCH).astype(np.int32),
  }
  batch |= {f'{name}_mask': np.ones(BATCH, bool) for name in batch}
  del batch['label_mask']  # Its absence is -1.
  for name, length in LENGTHS.items():
    lengths = np.linspace(length, 3, BATCH).astype(int)[:, None]
    mask = np.arange(length)[None] < lengths
    ids = rng.integers(4, 13, (BATCH, length)).astype(np.int32)
    batch |= {name: np.where(mask, ids, 0), f'{name}_mask': mask}
  batch |= token_cases.make_sounds(BATCH)
  for name in ('turns', 'pair', 'pair_rejected'):
    batch[f'{name}_loss_mask'] = rng.integers(0, 2, (BATCH, LENGTHS[name])) > 0
  return batch


def remove(batch, field, rows):
  """The batch without a field of some examples."""
  key = 'label' if field == 'label' else f'{field}_mask'
  array = batch[key].copy()
  array[rows] = -1 if field == 'label' else False
  return {**batch, key: array}


def remove_all(batch, rows):
  """The batch with nothing in some examples."""
  masks = [name for name in batch if name.endswith('_mask')]
  for field in ['label', *(name.removesuffix('_mask') for name in masks)]:
    batch = remove(batch, field, rows)
  return batch


def spoil(batch):
  """NaN, or another id, wherever a mask is False."""
  out = dict(batch)
  for name, array in batch.items():
    mask = batch.get(f'{name}_mask')
    if mask is not None:
      garbage = np.nan if array.dtype == np.float32 else 12
      mask = mask.reshape(*mask.shape, *(1,) * (array.ndim - mask.ndim))
      out[name] = np.where(mask, array, garbage).astype(array.dtype)
  return out


@functools.cache
def build(name, dtype=jnp.float32):
  """A case's model, its task and its objective."""
  case, features = CASES[name], make_features()
  settings = {task_name(name): case.settings, **case.beside}
  built = tasks.build(settings, tasks.TASKS)
  module = models.build(
    case.model,
    models.DataSizes(
      features['text'].tokenizer.vocab_size,
      text_length=LENGTHS['text'],
      question_length=LENGTHS['question'],
      answer_length=LENGTHS['answer'],
      num_answers=ANSWERS if name == 'vqa_classification' else 0,
      features=features,
    ),
    tasks.find_output_spec(built, features),
    dtype=dtype,
  )
  objective = tasks.objectives(built, features)[task_name(name)][1]
  return module, built[task_name(name)], objective


def measure(name, params, batch, dtype=jnp.float32, outputs=None):
  """Loss, (metrics, count, outputs of the model)."""
  module, _, objective = build(name, dtype)
  apply = functools.partial(module.apply, {'params': params})
  more = {}
  if isinstance(objective, TaughtObjective):
    taught = jax.tree.map(lambda leaf: 0.5 * leaf + 0.1, params)
    more['apply_teacher'] = lambda batch: module.apply(
      {'params': taught}, batch, train=False
    )
  if isinstance(objective, ScheduledObjective):
    more['step'] = jnp.int32(2)
  if outputs is None:
    outputs = apply(batch, train=True, rngs={'dropout': RNG})
  loss, metrics = objective(outputs, batch, apply=apply, rng=RNG, **more)
  return loss, (metrics, objective.count(batch), outputs)


@functools.cache
def compile_gradient(name):
  """The function (params, batch) -> ((loss, (...)), gradient), compiled."""
  return jax.jit(
    jax.value_and_grad(functools.partial(measure, name), has_aux=True)
  )


@pytest.fixture(scope='module')
def draw_params(draw):
  """A function from a case's name to parameters, always the same."""

  @functools.cache
  def call(name):
    batch = jax.tree.map(jnp.asarray, make_batch())
    return draw(build(name)[0], batch, train=False)['params']

  return call


@pytest.fixture
def run(draw_params):
  """A function (name, batch) -> loss, metrics, count, outputs, gradient."""

  def call(name, batch):
    (loss, aux), gradient = compile_gradient(name)(draw_params(name), batch)
    return loss, *aux, gradient

  return call


def test_every_task_has_a_case():
  assert {task_name(name) for name in CASES} == set(tasks.TASKS)


@every_task
def test_the_loss_is_the_mean_of_as_many_items_as_it_counts(name, run):
  batch = remove_all(make_batch(), [1])
  loss, metrics, count, _, gradient = run(name, batch)
  assert loss.shape == () and loss.dtype == jnp.float32 and np.isfinite(loss)
  assert loss > 0
  items = metrics.pop('items')
  assert items.losses.shape == items.mask.shape
  assert len(items.mask) == BATCH and not np.any(items.mask[1])
  np.testing.assert_array_equal(items.mask.sum(), count)
  close(ops.masked_mean(items.losses, items.mask), loss)
  for metric, value in metrics.items():
    assert value.shape == () and np.isfinite(value), metric
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    if not any(part in where for part in (*UNREACHED, *CASES[name].fixed)):
      assert np.any(leaf != 0), where


@every_task
def test_what_is_masked_changes_nothing(name, run):
  task, batch = build(name)[1], make_batch()
  whole = run(name, batch)
  for field in task.batch_keys():
    lacking = remove(batch, field, [1])
    loss, metrics, count, _, gradient = run(name, lacking)
    items = metrics['items']
    if all(field in fields for fields in task.required_keys()):
      # The example counts 0, so the rest of it changes nothing either.
      assert not np.any(items.mask[1])
      lacking = remove_all(lacking, [1])
    else:
      assert np.sum(items.mask[1]) < np.sum(whole[1]['items'].mask[1])
    lost = np.sum(whole[1]['items'].mask) - np.sum(items.mask)
    assert count == whole[2] - lost
    spoilt = run(name, spoil(lacking))
    assert spoilt[2] == count
    close(spoilt[0], loss)
    jax.tree.map(close, spoilt[4], gradient)


@every_task
def test_a_batch_of_nothing_has_no_loss_and_no_gradient(name, run):
  batch = spoil(remove_all(make_batch(), slice(None)))
  loss, metrics, count, _, gradient = run(name, batch)
  assert loss == 0 and count == 0
  for leaf in jax.tree.leaves(gradient):
    assert not np.any(leaf)
  assert not np.any(metrics.pop('items').mask)
  assert all(np.isfinite(value) for value in metrics.values())


@every_task
def test_the_loss_needs_no_jit(name, run, draw_params):
  batch = jax.tree.map(jnp.asarray, make_batch())
  loss, metrics, _, outputs, _ = run(name, batch)
  eager, (others, *_) = measure(name, draw_params(name), batch, outputs=outputs)
  close(eager, loss)
  jax.tree.map(close, others, metrics)


@every_task
def test_bfloat16_gives_about_the_same_loss_in_float32(name, run, draw_params):
  batch = make_batch()
  compute = jax.jit(functools.partial(measure, name, dtype=jnp.bfloat16))
  loss, (metrics, *_) = compute(draw_params(name), batch)
  assert loss.dtype == metrics['items'].losses.dtype == jnp.float32
  # 8 bits of each number, through some ten layers.
  np.testing.assert_allclose(loss, run(name, batch)[0], rtol=0.05)


@every_task
def test_a_task_survives_its_config(name):
  features, case = make_features(), CASES[name]
  settings = {task_name(name): case.settings, **case.beside}
  first, again = (
    tasks.build(some, tasks.TASKS)
    for some in (settings, json.loads(json.dumps(settings)))
  )
  assert tasks.objectives(first, features) == tasks.objectives(again, features)
  assert tasks.find_output_spec(first, features) == tasks.find_output_spec(
    again, features
  )
