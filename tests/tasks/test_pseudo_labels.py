"""Confident predictions from a weak view are the targets of a strong one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives, tasks
from mmjax.data import preprocess
from mmjax.errors import ConfigError

# Probabilities 0.8, 0.1, 0.1; 1/3 each; and of the second class 0.98.
WEAK = jnp.log(jnp.array([[8.0, 1, 1], [1, 1, 1], [1, 98, 1]]))
STRONG = jnp.log(jnp.array([[1.0, 1, 2], [1, 1, 2], [1, 3, 4]]))


def make_batch(present=(True, True, True)):
  mask = jnp.array(present)
  views = {'image': jnp.zeros((3, 2)), 'strong': jnp.ones((3, 2))}
  return views | {f'{name}_mask': mask for name in views}


def measure(weak, strong, batch, threshold=0.75):
  def apply(swapped, *, train, rngs):
    assert train and 'dropout' in rngs
    np.testing.assert_array_equal(swapped['image'], batch['strong'])
    return {'kind_output': strong}

  objective = objectives.PseudoLabeling('kind', 'image', 'strong', threshold)
  return objective(
    {'kind_output': weak}, batch, apply=apply, rng=jax.random.key(0)
  )


def test_the_mean_is_over_all_and_only_confident_ones_have_a_loss():
  loss, metrics = measure(WEAK, STRONG, make_batch())
  # The first one's class 0 has 1/4, the third one's class 1 has 3/8.
  want = (np.log(4) + np.log(8 / 3)) / 3
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  np.testing.assert_allclose(metrics['confident'], 2 / 3, rtol=1e-6)
  assert measure(WEAK, STRONG, make_batch(), threshold=1.0)[0] == 0


def test_absent_examples_and_the_weak_view_have_no_gradient():
  batch = make_batch((True, True, False))
  spoilt = STRONG.at[2].set(jnp.nan)
  loss = lambda weak, strong: measure(weak, strong, batch)[0]
  value, (weak, strong) = jax.value_and_grad(loss, (0, 1))(
    WEAK.at[2].set(jnp.nan), spoilt
  )
  np.testing.assert_allclose(value, np.log(4) / 2, rtol=1e-5)
  assert not np.any(weak) and not np.any(strong[1:]) and np.all(strong[0])


IMAGE = {'kind': 'image', 'field': 'image', 'size': 8}
KIND = {'kind': 'category', 'classes': ('a', 'b')}


@pytest.mark.parametrize('task', ['pseudo_labels', 'mean_teacher'])
@pytest.mark.parametrize(
  ('view', 'kind', 'message'),
  [
    ({'size': 9}, {}, r"'view' is not a view of 'image': size is 8 for .* 9"),
    ({'field': 'photo'}, {}, "field is 'image' for .* and 'photo' for"),
    (
      {},
      {'multi_label': True},
      r'kind\.multi_label\), but the softmax of task',
    ),
  ],
)
def test_features_that_are_not_views_of_one_class_are_refused(
  task, view, kind, message
):
  name = {'pseudo_labels': 'strong', 'mean_teacher': 'other'}[task]
  built = tasks.build(
    {'classify': {'target': 'kind'}, task: {'target': 'kind', name: 'view'}},
    tasks.TASKS,
  )
  check = lambda view, kind: built[task].output_sizes(
    preprocess.build(
      {
        'image': IMAGE,
        'view': IMAGE | {'augment': ({'name': 'flip'},)} | view,
        'kind': KIND | kind,
      }
    )
  )
  assert check({}, {}) == {}
  with pytest.raises(ConfigError, match=message):
    check(view, kind)


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'pseudo_labels': {'target': 'kind'}}, r'add tasks\.classify=dict\(targ'),
    ({'mean_teacher': {'target': 'kind'}}, "learns 'kind' without labels"),
    ({'pseudo_labels': {}}, 'names no feature'),
    ({'mean_teacher': {}}, 'names no feature'),
    ({'pseudo_labels': {'target': 'k', 'threshold': 1.0}}, 'less than 1, got'),
    ({'distill': {'target': 'kind'}}, r"tasks\.distill\.teacher='' is missing"),
    ({'distill': {'kind': 'x'}}, "tasks.distill.kind 'x' is unknown"),
    (
      {'distill': {'target': 'k', 'teacher': 't', 'width': 3}},
      "width=3 and kind='logits'",
    ),
    (
      {'distill': {'target': 'k', 'teacher': 't', 'kind': 'features'}},
      r'width=0: .* needs the size of the teacher',
    ),
  ],
)
def test_settings_without_a_meaning_are_refused(config, message):
  with pytest.raises(ConfigError, match=message):
    tasks.build(config, tasks.TASKS)
