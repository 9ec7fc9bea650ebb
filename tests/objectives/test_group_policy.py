"""GRPO's advantages and its clipped objective, against numbers by hand."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import objectives
from mmjax.errors import ConfigError
from mmjax.tasks import rollouts

B, T, V = 4, 7, 5


def test_advantages_are_those_within_a_group():
  rewards = np.array([1.0, 0.0, 0.5, 2.0, 2.0, 2.0])
  np.testing.assert_allclose(
    objectives.group_advantages(rewards, 3, scale_by_std=False),
    [0.5, -0.5, 0, 0, 0, 0],
  )
  np.testing.assert_allclose(
    objectives.group_advantages(rewards, 3)[:3],
    np.array([0.5, -0.5, 0]) / (0.5 + 1e-4),
    rtol=1e-6,
  )


@pytest.mark.parametrize('beta', [0.0, 0.3])
def test_the_objective_equals_sums_by_hand(beta):
  rng = np.random.default_rng(0)
  steps = np.arange(T)
  # The last example has no answer.
  loss_mask = (steps >= [[2], [1], [3], [5]]) & (steps < [[4], [7], [4], [5]])
  batch = {
    'prompt': rng.integers(0, V, (B, T)).astype(np.int32),
    'prompt_mask': np.ones((B, T), bool),
    'prompt_loss_mask': loss_mask,
    'prompt_advantage': np.array([1.5, -0.5, 0.0, np.nan], np.float32),
    'prompt_reward': np.array([3.0, 1.0, 2.0, np.nan], np.float32),
  }
  logits, initial = rng.normal(size=(2, B, T - 1, V)).astype(np.float32)
  temperature, low, high = 0.8, 0.2, 0.4

  def gather(logits):
    found = jax.nn.log_softmax(logits / temperature)
    labels = batch['prompt'][:, 1:, None]
    return np.take_along_axis(np.asarray(found), labels, axis=2)[..., 0]

  own, reference = gather(logits), gather(initial)
  sampled = own - 0.5 * rng.normal(size=own.shape)
  batch['prompt_log_probs'] = np.pad(
    sampled, ((0, 0), (1, 0)), constant_values=np.nan
  ).astype(np.float32)
  losses, clipped, distances = [], [], []
  for row in range(3):
    inside = loss_mask[row, 1:]
    ratio = np.exp(own - sampled)[row, inside]
    a = batch['prompt_advantage'][row]
    gain = np.minimum(ratio * a, np.clip(ratio, 1 - low, 1 + high) * a)
    q = (reference - own)[row, inside]
    distance = np.exp(q) - q - 1
    losses.append((beta * distance - gain).mean())
    clipped.append((gain < ratio * a).mean())
    distances.append(distance.mean())
  assert max(clipped) > 0
  settings = {'temperature': temperature, 'clip': low, 'clip_high': high}
  more = {}
  if beta:
    objective = objectives.ReferencedGroupPolicy(
      'prompt', **settings, beta=beta
    )
    more['apply_teacher'] = lambda batch: {
      'prompt_logits': jnp.asarray(initial)
    }
  else:
    objective = objectives.GroupPolicy('prompt', **settings)
  batch = jax.tree.map(jnp.asarray, batch)
  more |= {'apply': dict, 'rng': jax.random.key(0)}

  def compute(logits):
    return objective({'prompt_logits': logits}, batch, **more)

  compute = jax.jit(jax.value_and_grad(compute, has_aux=True))
  (loss, metrics), gradient = compute(jnp.asarray(logits))
  np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
  assert objective.count(batch) == 3
  np.testing.assert_allclose(metrics['reward'], 2)
  np.testing.assert_allclose(metrics['length'], 3)
  np.testing.assert_allclose(metrics['informative'], 2 / 3, rtol=1e-6)
  np.testing.assert_allclose(metrics['clipped'], np.mean(clipped), rtol=1e-6)
  if beta:
    close = np.testing.assert_allclose
    close(metrics['distance'], np.mean(distances), rtol=1e-4)
  assert np.isfinite(gradient).all() and not gradient[3].any()
  assert np.any(gradient[0]) and np.any(gradient[2]) == (beta > 0)


def test_an_answer_stands_right_behind_its_prompt():
  written = types.SimpleNamespace(
    tokens=jnp.array([[7, 8], [9, 0], [4, 4]]),
    mask=jnp.array([[1, 1], [1, 0], [1, 1]], bool),
    log_probs=jnp.array([[-0.5, -0.25], [-2.0, 0.0], [-1.0, -1.0]]),
  )
  prompt = jnp.array([[5, 6, 0], [1, 2, 3], [0, 0, 0]])
  mask = jnp.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
  got = rollouts.append_answers(prompt, mask, written)
  want = {
    '': [[5, 6, 7, 8, 0], [1, 2, 3, 9, 0], [0, 0, 0, 0, 0]],
    '_mask': [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]],
    '_loss_mask': [[0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
    '_log_probs': [[0, 0, -0.5, -0.25, 0], [0, 0, 0, -2, 0], [0, 0, 0, 0, 0]],
  }
  assert got.keys() == want.keys()
  for name, array in got.items():
    np.testing.assert_array_equal(array, want[name], err_msg=name)


@pytest.mark.parametrize('value', [None, 'x', float('nan'), np.float32('inf')])
def test_a_reward_that_is_no_number_is_refused(value):
  call = rollouts.check_reward('grpo', lambda answer, record: value)
  with pytest.raises(ConfigError, match="answer 'hi' to record 'r'; return a"):
    call('hi', {'id': 'r'})
  good = rollouts.check_reward('grpo', lambda answer, record: np.float32(2))
  assert good('hi', {'id': 'r'}) == 2.0 and isinstance(good('', {}), float)
