"""The student agrees with the EMA, more so as steps go by."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax import objectives
from mmjax.training import state, step

OWN = jnp.log(jnp.array([[6.0, 4], [5, 5], [1, 9]]))
TAUGHT = jnp.log(jnp.array([[9.0, 1], [2, 8], [5, 5]]))


def measure(own, taught, *, step=0, ramp_steps=0, other='other', mask=None):
  mask = jnp.ones(3, bool) if mask is None else jnp.array(mask)
  views = {'image': jnp.zeros((3, 2)), 'other': jnp.ones((3, 2))}
  batch = views | {f'{name}_mask': mask for name in views}

  def apply_teacher(inputs):
    np.testing.assert_array_equal(inputs['image'], views['image'])
    return {'kind_output': taught}

  def apply(inputs, **_):
    np.testing.assert_array_equal(inputs['image'], views['other'])
    return {'kind_output': own}

  objective = objectives.Consistency('kind', 'image', other, ramp_steps)
  loss, metrics = objective(
    {} if other else {'kind_output': own},
    batch,
    apply=apply,
    rng=jax.random.key(0),
    apply_teacher=apply_teacher,
    step=jnp.int32(step),
  )
  return loss, metrics, objective.count(batch)


def test_squared_distance_of_probabilities_over_those_with_both_views():
  # Differences of 0.3, 0.3 and 0.4 in each of two classes.
  loss, metrics, count = measure(OWN, TAUGHT)
  want = 2 * (0.09 + 0.09 + 0.16) / 3
  np.testing.assert_allclose(loss, want, rtol=1e-4)
  np.testing.assert_allclose(metrics['agreement'], 1 / 3, rtol=1e-6)
  spoilt = TAUGHT.at[2].set(jnp.nan)
  loss, _, few = measure(OWN, spoilt, mask=[True, True, False], other='')
  np.testing.assert_allclose(loss, 0.18, rtol=1e-4)
  assert (count, few) == (3, 2)


def test_the_weight_rises_to_1():
  whole = measure(OWN, TAUGHT)[0]
  for at, factor in ((0, np.exp(-5)), (5, np.exp(-1.25)), (10, 1), (99, 1)):
    part, metrics, _ = measure(OWN, TAUGHT, step=at, ramp_steps=10)
    np.testing.assert_allclose(part, factor * whole, rtol=1e-5)
    np.testing.assert_allclose(metrics['ramp'], factor, rtol=1e-5)


def test_the_teacher_has_no_gradient():
  own, taught = jax.grad(lambda *x: measure(*x)[0], (0, 1))(OWN, TAUGHT)
  assert np.all(own) and not np.any(taught)


class Linear(nn.Module):
  """Logits of three classes."""

  @nn.compact
  def __call__(self, batch, *, train):
    kernel = self.param('kernel', nn.initializers.normal(), (4, 3))
    return {'kind_output': batch['image'] @ kernel}


def softmax(logits):
  powers = np.exp(logits)
  return powers / powers.sum(axis=1, keepdims=True)


def test_student_and_teacher_are_those_of_the_equations_in_numpy():
  rng = np.random.default_rng(0)
  views = rng.normal(size=(2, 5, 4))
  labels, known = np.array([0, 2, 1, 0, 0]), np.array([1, 1, 0, 0, 0], bool)
  student, teacher = rng.normal(size=(2, 4, 3))
  batch = {
    'image': jnp.float32(views[0]),
    'other': jnp.float32(views[1]),
    'kind': jnp.int32(labels),
    'kind_mask': jnp.asarray(known),
  } | {f'{name}_mask': jnp.ones(5, bool) for name in ('image', 'other')}
  params = {'kernel': jnp.float32(student)}
  tx = optax.sgd(0.5)
  update = step.make_update(
    Linear(),
    {
      'classify': (1.0, objectives.Classification('kind')),
      'mean_teacher': (
        7.0,
        objectives.Consistency('kind', 'image', 'other', 4),
      ),
    },
    tx,
    lr=lambda _: 0.5,
    trained={'kernel': True},
    ema_decay=0.2,
  )
  now = state.State(
    step=jnp.int32(0),
    seed=jnp.uint32(0),
    params=params,
    opt_state=tx.init(params),
    ema={'kernel': jnp.float32(teacher)},
  )
  for number in range(5):
    now, _ = jax.jit(update)(now, batch)
    own = softmax(views[1] @ student)
    difference = own - softmax(views[0] @ teacher)
    ramp = np.exp(-5 * (1 - min(number / 4, 1)) ** 2)
    inner = (difference * own).sum(axis=1, keepdims=True)
    gradient = 7 * ramp * 2 / 5 * own * (difference - inner)
    read = softmax(views[0] @ student)
    labelled = (read - np.eye(3)[labels]) * known[:, None] / 2
    student = student - 0.5 * (views[1].T @ gradient + views[0].T @ labelled)
    decay = min(0.2, (2 + number) / (11 + number))  # The first is 2 / 11.
    teacher = decay * teacher + (1 - decay) * student
    np.testing.assert_allclose(now.params['kernel'], student, rtol=1e-4)
    np.testing.assert_allclose(now.ema['kernel'], teacher, rtol=1e-4)
