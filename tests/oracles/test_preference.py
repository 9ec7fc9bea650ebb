"""Losses of preferred answers equal those of TRL, with their gradients."""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer

from mmjax import objectives

BATCH, LENGTH, VOCABULARY = 5, 11, 13
SETTINGS = {
  'sigmoid': {'beta': 0.3},
  'hinge': {'beta': 0.7},
  'ipo': {'beta': 0.2},
  'simpo': {'beta': 2.1, 'gamma': 0.8, 'label_smoothing': 0.1},
  'orpo': {'beta': 0.4},
}


def _draw():
  """Ids, which are learnt, logits and the reference's, [2, B, ...]."""
  rng = np.random.default_rng(0)
  ids = rng.integers(0, VOCABULARY, (2, BATCH, LENGTH)).astype(np.int32)
  steps = np.arange(LENGTH)
  starts = rng.integers(1, 5, (1, BATCH, 1))
  ends = rng.integers(6, LENGTH + 1, (2, BATCH, 1))
  loss_mask = (steps >= starts) & (steps < ends)
  logits, reference = 2 * rng.normal(
    size=(2, 2, BATCH, LENGTH - 1, VOCABULARY)
  ).astype(np.float32)
  return ids, loss_mask, logits, reference


def _gather(logits, ids, loss_mask):
  """Log-probabilities of tokens [..., T - 1], 0 where they aren't learnt."""
  found = torch.log_softmax(logits, -1).gather(-1, ids[..., 1:, None].long())
  return found[..., 0] * loss_mask[..., 1:]


def _run_dpo(loss, beta, logits, reference, ids, loss_mask):
  join = lambda x: x.reshape(-1, *x.shape[2:])
  ids, loss_mask, logits = join(ids), join(loss_mask), join(logits)

  def model(input_ids, labels, **_):
    np.testing.assert_array_equal(labels != -100, loss_mask)
    found = _gather(logits, input_ids, loss_mask)
    zeros = torch.zeros_like(found)
    return types.SimpleNamespace(
      log_probs=found, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )

  accelerator = types.SimpleNamespace(
    device='cpu', gather=lambda x: x, gather_for_metrics=lambda x: x
  )
  metrics = collections.defaultdict(list)
  trainer = types.SimpleNamespace(
    model=types.SimpleNamespace(training=True),
    accelerator=accelerator,
    aux_loss_enabled=False,
    ld_alpha=None,
    precompute_ref_logps=True,
    f_divergence_type='reverse_kl',
    loss_types=[loss],
    loss_weights=[1.0],
    beta=beta,
    use_weighting=False,
    _metrics={'train': metrics},
    _total_train_tokens=0,
    _tp_size=1,
  )
  reference = join(torch.from_numpy(reference))
  chosen, rejected = _gather(reference, ids, loss_mask).sum(-1).chunk(2)
  inputs = {
    'input_ids': ids,
    'attention_mask': torch.ones_like(ids),
    'completion_mask': loss_mask.long(),
    'ref_chosen_logps': chosen,
    'ref_rejected_logps': rejected,
  }
  value = DPOTrainer._compute_loss(trainer, model, inputs, False)
  return value, {
    name: metrics[f'rewards/{theirs}'][0]
    for name, theirs in (
      ('accuracy', 'accuracies'),
      ('margin', 'margins'),
      ('chosen_reward', 'chosen'),
      ('rejected_reward', 'rejected'),
    )
  }


def _run_trl(loss, settings, logits, reference, ids, loss_mask):
  """Loss, its gradient by the logits, and metrics of rewards."""
  logits = torch.from_numpy(logits).requires_grad_()
  ids, loss_mask = torch.from_numpy(ids), torch.from_numpy(loss_mask)
  beta = settings['beta']
  if loss in ('sigmoid', 'hinge', 'ipo'):
    value, metrics = _run_dpo(loss, beta, logits, reference, ids, loss_mask)
  else:
    found = _gather(logits, ids, loss_mask).sum(-1)
    means = found / loss_mask[..., 1:].sum(-1)  # [2, B]
    trainer = types.SimpleNamespace(
      accelerator=types.SimpleNamespace(device='cpu'),
      beta=beta,
      alpha=0.0,
      loss_type=loss,
      simpo_gamma=settings.get('gamma'),
      label_smoothing=settings.get('label_smoothing', 0.0),
    )
    if loss == 'simpo':
      losses, *rewards = CPOTrainer.cpo_loss(trainer, *means)
      value = losses.mean()
    else:
      losses, *rewards, _, _ = ORPOTrainer.odds_ratio_loss(trainer, *means)
      # Theirs also has the prompt's tokens in this mean, and one mean of all.
      value = -means[0].mean() - losses.mean()
    metrics = {
      'accuracy': (rewards[0] > rewards[1]).float().mean().item(),
      'margin': (rewards[0] - rewards[1]).mean().item(),
    }
  value.backward()
  return value.item(), logits.grad.numpy(), metrics


@pytest.mark.parametrize('loss', SETTINGS)
def test_losses_and_gradients_are_those_of_trl(loss):
  ids, loss_mask, logits, reference = _draw()
  want, gradient, want_metrics = _run_trl(
    loss, SETTINGS[loss], logits, reference, ids, loss_mask
  )
  mask = np.ones(ids.shape, bool)
  batch = {}
  for i, name in enumerate(('pair', 'pair_rejected')):
    batch |= {name: ids[i], f'{name}_mask': mask[i]}
    batch[f'{name}_loss_mask'] = loss_mask[i]
  batch = jax.tree.map(jnp.asarray, batch)
  referenced = loss in ('sigmoid', 'hinge', 'ipo')
  kind = (
    objectives.ReferencedPreference if referenced else objectives.Preference
  )
  objective = kind('pair', loss, **SETTINGS[loss])

  def compute(logits):
    outputs = lambda both: (
      lambda part, **_: {
        'pair_logits': jnp.where(
          jnp.array_equal(part['pair'], ids[0]), both[0], both[1]
        )
      }
    )
    more = {}
    if referenced:
      more = {'apply_teacher': outputs(reference)}
    apply = outputs(logits)
    return objective(
      apply(batch), batch, apply=apply, rng=jax.random.key(0), **more
    )

  run = jax.jit(jax.value_and_grad(compute, has_aux=True))
  (got, metrics), ours = run(jnp.asarray(logits))
  np.testing.assert_allclose(got, want, rtol=1e-5)
  np.testing.assert_allclose(ours, gradient, rtol=1e-5, atol=1e-6)
  assert np.abs(gradient).max() > 1e-2
  for name, value in want_metrics.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
